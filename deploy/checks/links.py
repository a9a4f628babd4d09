"""Looks whether what the documents point at is there: `python -m deploy.checks.links`.

Every link and image of every Markdown file of the repository: files, folders, and headings by the names that GitHub
gives them. Nothing is fetched: of an address on the Web, only the form is checked. Ends with 1 where something is
missing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

ROOT: Final = Path(__file__).resolve().parents[2]

_FENCE: Final = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE: Final = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_INLINE: Final = re.compile(r"\]\(\s*(<[^>\n]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)")
_DEFINITION: Final = re.compile(r"^ {0,3}\[([^\]\n]+)\]:\s*(\S+)", re.MULTILINE)
_REFERENCE: Final = re.compile(r"\[[^\]\n]+\]\[([^\]\n]+)\]")
_ATTRIBUTE: Final = re.compile(r"<[a-zA-Z][^>]*?\s(?:href|src)=[\"']([^\"']+)[\"']")
_NAMED: Final = re.compile(r"<[a-zA-Z][^>]*?\s(?:id|name)=[\"']([^\"']+)[\"']")
_HEADING: Final = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$", re.MULTILINE)
_UNDERLINED: Final = re.compile(r"^(?![ \t]*(?:[-|>#]|$))(.+)\n(?:=+|-{2,})[ \t]*$", re.MULTILINE)
_LINK_TEXT: Final = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_UNSAFE: Final = frozenset(' "<>\\^`{|}')
_PORTS: Final = range(1, 65_536)


def sources() -> list[Path]:
    """Every Markdown file that git keeps or would keep; without git, every one that is not made or fetched."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        command = [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.md"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted(ROOT / name for name in set(listed) if name and (ROOT / name).is_file())
    return sorted(path for path in ROOT.rglob("*.md") if not _is_made(path.relative_to(ROOT).parts))


def _is_made(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") or part in ("out", "build", "vendor", "node_modules") for part in parts)


def broken(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and complaint of each link of a file that leads nowhere."""
    text = _without_code(path.read_text("utf-8"))
    defined = {name.lower() for name, _ in _DEFINITION.findall(text)}
    for found in _REFERENCE.finditer(text):
        if found[1].lower() not in defined:
            yield _line(text, found.start()), f"[{found[1]}] is defined nowhere"
    for pattern, group in ((_INLINE, 1), (_DEFINITION, 2), (_ATTRIBUTE, 1)):
        for found in pattern.finditer(text):
            complaint = _complaint(path, found[group].strip("<>"))
            if complaint:
                yield _line(text, found.start(group)), complaint


def _complaint(path: Path, target: str) -> str | None:
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", target) or target.startswith("//"):
        return None if _is_well_formed(target) else f"{target}: malformed"
    before, _, anchor = target.partition("#")
    if not target or before.startswith("/"):
        return f"{target}: wanted: a path from here"
    led = (path.parent / unquote(before)).resolve() if before else path
    if led != ROOT and ROOT not in led.parents:
        return f"{target}: leads out of the repository"
    if not led.exists():
        return f"{target}: there is no such file"
    if anchor and led.suffix == ".md" and unquote(anchor) not in anchors(led):
        return f"{target}: there is no such heading"
    return None


def _is_well_formed(address: str) -> bool:
    if address.startswith("mailto:"):
        return re.fullmatch(r"mailto:[^@\s]+@[^@\s]+\.[^@\s]+", address) is not None
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    named = parts.hostname is not None and re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:]+", parts.hostname) is not None
    return parts.scheme in ("http", "https") and named and (port is None or port in _PORTS) and not _UNSAFE & {*address}


@cache
def anchors(path: Path) -> frozenset[str]:
    """The names by which GitHub leads to the headings of a file, and those that its HTML gives."""
    text = path.read_text("utf-8")
    plain = _FENCE.sub(_blank, _COMMENT.sub(_blank, text))
    found = [(each.start(), each[2]) for each in _HEADING.finditer(plain)]
    found += [(each.start(), each[1]) for each in _UNDERLINED.finditer(plain)]
    seen: dict[str, int] = {}
    names = set(_NAMED.findall(plain))
    for _, heading in sorted(found):
        name = slug(heading)
        names.add(_numbered(name, seen))
    return frozenset(names)


def _numbered(name: str, seen: dict[str, int]) -> str:
    """A heading that stood before gets a number."""
    before = seen.get(name)
    seen[name] = 0 if before is None else before + 1
    return name if before is None else f"{name}-{before + 1}"


def slug(heading: str) -> str:
    """A heading's name in an address: small letters, hyphens for spaces, no punctuation."""
    text = _LINK_TEXT.sub(r"\1", heading)
    text = re.sub(r"(?<![\w`])[*_]{1,3}|[*_]{1,3}(?![\w`])", "", text)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _without_code(text: str) -> str:
    for pattern in (_COMMENT, _FENCE, _CODE):
        text = pattern.sub(_blank, text)
    return text


def _blank(found: re.Match[str]) -> str:
    """Nothing, over as many lines, so that the numbers of lines stay."""
    return re.sub(r"[^\n]", " ", found[0])


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def check(paths: Iterable[Path]) -> Mapping[Path, list[tuple[int, str]]]:
    """Each file with links that lead nowhere, and which those are."""
    found = {path: sorted(broken(path)) for path in paths}
    return {path: complaints for path, complaints in found.items() if complaints}


def main() -> int:
    """Look all files over; returns the exit code."""
    paths = sources()
    complaints = check(paths)
    for path, lines in complaints.items():
        for line, complaint in lines:
            print(f"{path.relative_to(ROOT)}:{line}: {complaint}", file=sys.stderr)
    if complaints:
        return 1
    print(f"every link of {len(paths)} Markdown files leads somewhere")
    return 0


if __name__ == "__main__":
    sys.exit(main())
