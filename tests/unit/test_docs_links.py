"""Every link of the documents leads somewhere, and the check finds links that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.checks.sources import sources
from dev.engine import ROOT
from tests.support.links import broken


def test_no_link_of_the_repository_is_broken() -> None:
    paths = [path for path in sources() if path.suffix == ".md"]
    assert {Path("README.md"), Path("docs", "concepts.md"), Path("SECURITY.md")} <= set(paths)
    assert [f"{path}:{complaint}" for path in paths for complaint in broken(ROOT / path, ROOT)] == []


def test_the_index_lists_every_document() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in written if f"]({name})" not in index} == set()


def test_a_build_without_git_reads_all_files_but_generated_ones(tmp_path: Path) -> None:
    for name in ("out/a.md", ".venv/a.md", "docs/node_modules/a.md", ".chalice/config.json", "docs/a.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sources(tmp_path) == [Path(".chalice", "config.json"), Path("docs", "a.md")]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page in a repository with something in it to point at."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a b.md").write_text("# One\n## Two & three\n## Two & three\n")
    (tmp_path / "docs" / "picture.png").touch()
    return tmp_path / "docs" / "page.md"


@pytest.mark.parametrize(
    "text",
    [
        '![a](picture.png "a title")',
        "[a](<a b.md#one>)",
        "[a](../docs/a%20b.md#two--three-1)",
        "# `ls` *and* a [link](picture.png), Größe & snake_case: 5 %?\n[a](#ls-and-a-link-größe--snake_case-5-)",
        "[a](.)",
        "[a][b]\n\n[b]: picture.png",
        "[a](https://example.com:8443/b?c=d#e)",
        "[a](mailto:a@example.com)",
        "`[a](nowhere.md)`",
        "~~~~\n```\n[a](nowhere.md)\n~~~~",
        "<!-- [a](nowhere.md) -->",
    ],
)
def test_a_valid_link(page: Path, tmp_path: Path, text: str) -> None:
    page.write_text(text + "\n")
    assert list(broken(page, tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a](Picture.png)", "1: Picture.png: there is no such file"),
        ("[a][b]\n\n[b]: nowhere.md", "1: nowhere.md: there is no such file"),
        ("<!-- a\nb -->\n```\ncode\n```\n\n`a\nb` [a](nowhere.md)", "7: nowhere.md: there is no such file"),
        ("[![a](picture.png)](nowhere.md)", "1: nowhere.md: there is no such file"),
        ("[a][b]", "1: [b] is defined nowhere"),
        ('<img src="picture.png">', "1: a link in HTML, wanted: in Markdown"),
        ("[a](a%20b.md#two--three-2)", "1: a%20b.md#two--three-2: there is no such heading"),
        ("# Here\n[a](#Here)", "2: #Here: there is no such heading"),
        ("[a]()", "1: : wanted: a path from here"),
        ("[a](/docs)", "1: /docs: wanted: a path from here"),
        ("[a](../../README.md)", "1: ../../README.md: leads out of the repository"),
        ("[a](https://exa_mple.com)", "1: https://exa_mple.com: malformed"),
        ("[a](htp://example.com)", "1: htp://example.com: malformed"),
    ],
)
def test_a_broken_link(page: Path, tmp_path: Path, text: str, complaint: str) -> None:
    page.write_text(text + "\n")
    assert list(broken(page, tmp_path)) == [complaint]
