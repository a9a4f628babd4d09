"""The links of Markdown files that lead nowhere. docs/decisions/0015-a-link-check-of-our-own.md has the reasons.

Files, folders, and headings by the names that GitHub gives them. Nothing is fetched: of an address on the Web, only the
form is checked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//")
_ADDRESS: Final = re.compile(r"https?://[a-z0-9.-]+(:\d+)?([/?#][^\s\"<>\\^`{|}]*)?|mailto:[^@\s]+@[^@\s]+\.[^@\s]+")
_UNDEFINED: Final = re.compile(r"\]\[([^\]\n]+)\]")
_HTML: Final = re.compile(r"<\w[^>]*\b(href|src)=")


class _Markdown(MarkdownIt):
    def normalizeLink(self, url: str) -> str:  # noqa: N802 - the parser's name for it
        return url  # as it is written


_PARSER: Final = _Markdown("commonmark").enable("table")


def broken(path: Path, root: Path) -> Iterator[str]:
    """Each link that leads nowhere or out of `root`: the line where its block begins, and what is wrong."""
    for line, token in _tokens(path):
        for target in (str(value) for name, value in token.attrs.items() if name in ("href", "src")):
            if complaint := _complaint(path, target, root):
                yield f"{line}: {target}: {complaint}"
        if token.type == "text":
            yield from (f"{line}: [{name}] is defined nowhere" for name in _UNDEFINED.findall(token.content))
        if token.type in ("html_block", "html_inline") and _HTML.search(token.content):
            yield f"{line}: a link in HTML, wanted: in Markdown"


def _tokens(path: Path) -> Iterator[tuple[int, Token]]:
    """All tokens of a file, also those within others, each with the line where its block begins."""
    line = 1
    for block in _PARSER.parse(path.read_text("utf-8")):
        line = block.map[0] + 1 if block.map else line
        yield line, block
        for token in block.children or ():
            yield line, token
            yield from ((line, part) for part in token.children or ())


def _complaint(path: Path, target: str, root: Path) -> str | None:
    if _SCHEME.match(target):
        return None if _ADDRESS.fullmatch(target) else "malformed"
    before, _, anchor = target.partition("#")
    if not target or before.startswith("/"):
        return "wanted: a path from here"
    led = (path.parent / unquote(before)).resolve() if before else path
    if not led.is_relative_to(root):
        return "leads out of the repository"
    if not led.exists():
        return "there is no such file"
    if anchor and led.suffix == ".md" and unquote(anchor) not in _anchors(led):
        return "there is no such heading"
    return None


@cache
def _anchors(path: Path) -> frozenset[str]:
    """The names by which GitHub leads to the headings of a file."""
    names: set[str] = set()
    seen: Counter[str] = Counter()
    for opening, heading in pairwise(token for _, token in _tokens(path)):
        if opening.type == "heading_open":
            text = "".join(part.content for part in heading.children or ())
            # Small letters, hyphens for spaces, no punctuation.
            name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            names.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return frozenset(names)
