"""docs/operations.md and docs/deploy.md are true: their alarms, queries and parameters."""

from __future__ import annotations

import re

import pytest

from deploy.resources import FOLDER, of_type, read_template
from dev.engine import ROOT
from tests.support import insights, stage_logs

OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
DEPLOY = (ROOT / "docs" / "deploy.md").read_text("utf-8")
TEMPLATES = {path.name: read_template(path) for path in FOLDER.glob("*.yaml")}
ALARMS = {
    alarm["AlarmName"]["Fn::Sub"].removeprefix("tokenservice-${Stage}-"): alarm["AlarmDescription"]
    for template in TEMPLATES.values()
    for alarm in of_type(template, "AWS::CloudWatch::Alarm").values()
}


def section(text: str, title: str) -> str:
    found = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found
    return found


def sections() -> dict[str, str]:
    """Name to text of every alarm's section in the runbook."""
    parts = re.split(r"^### ([a-z-]+)\n", section(OPERATIONS, "Alarm by alarm"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alarm_has_its_section_and_every_section_its_alarm() -> None:
    assert sorted(sections()) == sorted(ALARMS)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarms_description_has_its_urgency_and_its_section(name: str) -> None:
    text = sections()[name]
    severity = re.match(r"\*\*(Urgent|Today)\b", text)
    assert severity, "the section begins with how urgent it is"
    assert "**First**: " in text.partition("```")[0]
    assert re.fullmatch(rf"{severity[1]}\. .+\. Runbook: docs/operations\.md#{name}", ALARMS[name])


QUERIES = re.findall(r"tokenctl logs query ([a-z,]+) (?:--stage prod )?(?:\\\n +)?'([^']+)'", OPERATIONS)


def test_the_queries_of_the_runbook_are_read() -> None:
    assert len(QUERIES) == len(re.findall(r"^ *tokenctl logs query ", OPERATIONS, re.MULTILINE))


@pytest.mark.parametrize(("groups", "query"), QUERIES)
def test_a_query_uses_logged_fields_and_one_about_an_alarm_finds_a_line_in_each_log_group(
    groups: str, query: str
) -> None:
    logs = {group: stage_logs.lines()[group] for group in groups.split(",")}
    insights.Query(line for lines in logs.values() for line in lines).follow(query)
    if query in section(OPERATIONS, "Alarm by alarm"):
        for group, lines in logs.items():
            found = insights.Query(lines)
            found.follow(query.partition(" | ")[0])
            assert 0 < found.matched < len(lines), group


def test_every_parameter_of_a_stage_has_its_row_and_every_row_its_parameter() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(DEPLOY, "CloudFormation"), re.MULTILINE)
    assert sorted(rows) == sorted(TEMPLATES["resources.yaml"]["Parameters"])


def test_the_parameters_that_are_given_exist() -> None:
    known = {name for template in TEMPLATES.values() for name in template.get("Parameters", ())}
    given = set(re.findall(r"\b([A-Z][a-z]\w+)=(?!=)", "".join(re.findall(r"```sh\n(.*?)```", DEPLOY, re.DOTALL))))
    assert given
    assert given <= known


@pytest.mark.parametrize("text", [DEPLOY, OPERATIONS], ids=["deploy", "operations"])
def test_every_file_that_is_named_exists(text: str) -> None:
    for name in re.findall(r"\b((?:deploy|tests|docs)/[\w./-]+\.\w+)", text):
        assert (ROOT / name).exists(), name
