"""Every link of the documents leads somewhere, and the check finds links that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.checks import links
from deploy.checks.sources import sources
from dev.engine import ROOT


def test_no_link_of_the_repository_is_broken() -> None:
    paths = links.documents()
    assert {ROOT / "README.md", ROOT / "docs" / "concepts.md", ROOT / "SECURITY.md"} <= set(paths)
    assert links.check(paths) == []


def test_the_index_lists_every_document() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in written if f"]({name})" not in index} == set()


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own with something in it to point at."""
    monkeypatch.setattr(links, "ROOT", tmp_path)
    links.anchors.cache_clear()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a b.md").write_text("# One\n## Two & three\n## Two & three\n")
    (tmp_path / "docs" / "picture.png").touch()
    return tmp_path / "docs" / "page.md"


def test_a_build_without_git_reads_all_files_but_generated_ones(page: Path, tmp_path: Path) -> None:
    for name in ("out/a.md", ".venv/a.md", "docs/node_modules/a.md", ".chalice/config.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    page.touch()
    assert links.documents() == [tmp_path / "docs" / "a b.md", page]
    assert Path(".chalice", "config.json") in sources(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[a](picture.png)",
        '![a](picture.png "a title")',
        "[a](../docs/a%20b.md)",
        "[a](<a b.md#one>)",
        "[a](a%20b.md#two--three-1)",
        "# `ls` *and* a [link](picture.png), Größe & snake_case: 5 %?\n[a](#ls-and-a-link-größe--snake_case-5-)",
        "Here\n====\n[a](#here)",
        '<a id="here"></a>\n[a](#here)',
        "[a](.)",
        "[a][b]\n\n[b]: picture.png",
        '<img src="picture.png">',
        "[a](https://example.com:8443/b?c=d#e)",
        "[a](mailto:a@example.com)",
        "`[a](nowhere.md)`",
        "~~~~\n```\n[a](nowhere.md)\n~~~~",
        "<!-- [a](nowhere.md) -->",
    ],
)
def test_a_valid_link(page: Path, text: str) -> None:
    page.write_text(text + "\n")
    assert list(links.broken(page)) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a](nowhere.md)", "no such file"),
        ("[a](Picture.png)", "no such file"),
        ("[a][b]\n\n[b]: nowhere.md", "no such file"),
        ("[a][b]", "defined nowhere"),
        ('<img alt="a" src="nowhere.png">', "no such file"),
        ("[a](a%20b.md#two--three-2)", "no such heading"),
        ("# Here\n[a](#Here)", "no such heading"),
        ("<!--\n# Here\n-->\n[a](#here)", "no such heading"),
        ("[a]()", "wanted: a path"),
        ("[a](/docs/picture.png)", "wanted: a path"),
        ("[a](../../other/README.md)", "out of the repository"),
        ("[a](https://)", "malformed"),
        ("[a](https://exa_mple!.com)", "malformed"),
        ("[a](htp://example.com)", "malformed"),
        ("[a](mailto:example.com)", "malformed"),
        ("[![a](picture.png)](nowhere.md)", "no such file"),
    ],
)
def test_a_broken_link(page: Path, text: str, complaint: str) -> None:
    page.write_text(text + "\n")
    [(_, printed)] = links.broken(page)
    assert complaint in printed


def test_the_line_of_the_block_is_printed_past_code_and_comments(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(links, "documents", lambda: [page])
    page.write_text("<!-- a\nb -->\n```\ncode\n```\n\n`a\nb` [a](nowhere.md)\n")
    assert links.main() == 1
    assert capsys.readouterr().out == "docs/page.md:7: nowhere.md: there is no such file\n"
    page.write_text("[a](picture.png)\n")
    assert links.main() == 0
