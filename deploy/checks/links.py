"""Check the links of every Markdown file: `python -m deploy.checks.links`. Exit code 1: some lead nowhere.

Files, folders, and headings by the names that GitHub gives them. Nothing is fetched: of an address on the Web, only the
form is checked. docs/decisions/0015-a-link-check-of-our-own.md has the reasons.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

from deploy.checks.sources import ROOT, sources

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//")
_ADDRESS: Final = re.compile(r"https?://[a-z0-9.-]+(:\d+)?([/?#][^\s\"<>\\^`{|}]*)?|mailto:[^@\s]+@[^@\s]+\.[^@\s]+")
_UNDEFINED: Final = re.compile(r"\]\[([^\]\n]+)\]")


class _Markdown(MarkdownIt):
    def normalizeLink(self, url: str) -> str:  # noqa: N802 - the parser's name for it
        return url  # as it is written


class _Html(HTMLParser):
    """The addresses and the names that a piece of HTML has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.names: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for name, value in attrs if name in ("href", "src")]
        self.names += [value for name, value in attrs if name in ("id", "name") and value]


_PARSER: Final = _Markdown("commonmark").enable("table")


def documents() -> list[Path]:
    """Every Markdown file of the repository."""
    return [ROOT / path for path in sources(ROOT) if path.suffix == ".md"]


def broken(path: Path) -> Iterator[tuple[int, str]]:
    """The links of a file that lead nowhere: the line where their block begins, and what is wrong."""
    for line, token in _tokens(path):
        targets = [str(value) for name, value in token.attrs.items() if name in ("href", "src")]
        if token.type in ("html_block", "html_inline"):
            targets = _Html(token.content).targets
        for target in targets:
            if complaint := _complaint(path, target):
                yield line, f"{target}: {complaint}"
        if token.type == "text":
            yield from ((line, f"[{name}] is defined nowhere") for name in _UNDEFINED.findall(token.content))


def _tokens(path: Path) -> Iterator[tuple[int, Token]]:
    """All tokens of a file, also those within others, each with the line where its block begins."""
    line = 1
    for block in _PARSER.parse(path.read_text("utf-8")):
        line = block.map[0] + 1 if block.map else line
        yield line, block
        for token in block.children or ():
            yield line, token
            yield from ((line, part) for part in token.children or ())


def _complaint(path: Path, target: str) -> str | None:
    if _SCHEME.match(target):
        return None if _ADDRESS.fullmatch(target) else "malformed"
    before, _, anchor = target.partition("#")
    if not target or before.startswith("/"):
        return "wanted: a path from here"
    led = (path.parent / unquote(before)).resolve() if before else path
    if not led.is_relative_to(ROOT):
        return "leads out of the repository"
    if not led.exists():
        return "there is no such file"
    if anchor and led.suffix == ".md" and unquote(anchor) not in anchors(led):
        return "there is no such heading"
    return None


@cache
def anchors(path: Path) -> frozenset[str]:
    """The names by which GitHub leads to the headings of a file, and those that its HTML gives."""
    tokens = [token for _, token in _tokens(path)]
    html = ("html_block", "html_inline")
    names = {name for token in tokens if token.type in html for name in _Html(token.content).names}
    seen: Counter[str] = Counter()
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(part.content for part in heading.children or () if part.type not in html)
            # Small letters, hyphens for spaces, no punctuation.
            name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            names.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return frozenset(names)


def check(paths: Iterable[Path]) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{line}: {complaint}" for path in paths for line, complaint in broken(path)]


def main() -> int:
    complaints = check(documents())
    print("\n".join(complaints) or "every link leads somewhere")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
