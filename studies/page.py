"""Tables in Markdown, and the places for them on a page, each between `<!-- bench:cold -->` and `<!-- /bench -->`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

_NUMBER: Final = re.compile(r"[*\d]|-|never|$")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table. Integers get commas, and columns of numbers stand to the right."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    right = [all(_NUMBER.match(row[place]) for row in cells) for place in range(len(head))]
    lines = [head, ["---:" if number else "---" for number in right], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(page: str, study: str, tables: Mapping[str, str]) -> str:
    """The page with these tables in the places of their names; other places stay as they are."""
    place = re.compile(rf"(<!-- {study}:(\S+) -->\n).*?(<!-- /{study} -->)", re.DOTALL)
    return place.sub(
        lambda found: f"{found[1]}\n{tables[found[2]]}\n\n{found[3]}" if found[2] in tables else found[0], page
    )


def names(page: str, study: str) -> list[str]:
    """The names of a study's tables on the page, in their order."""
    return re.findall(rf"<!-- {study}:(\S+) -->", page)
