"""docs/operations.md and docs/deploy.md are true: their alarms, parameters and commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Command, Group

from tokenctl.__main__ import cli

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
DEPLOY = (ROOT / "docs" / "deploy.md").read_text("utf-8")
TEMPLATES = {path.name: path.read_text("utf-8") for path in (ROOT / "infra").glob("*.yaml")}


def section(text: str, title: str) -> str:
    found = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found
    return found


def parameters(template: str) -> set[str]:
    body = TEMPLATES[template].partition("\nParameters:\n")[2]
    return set(re.findall(r"^  (\w+):$", re.split(r"^\w", body, maxsplit=1, flags=re.MULTILINE)[0], re.MULTILINE))


def test_every_alarm_has_its_row_and_every_row_its_alarm() -> None:
    text = "".join(TEMPLATES.values())
    made = re.findall(r"AlarmName: !Sub '?tokenservice-\$\{Stage\}-([a-z-]+)", text)
    assert len(made) == text.count("Type: AWS::CloudWatch::Alarm\n")
    rows = re.findall(r"^\| `([a-z-]+)` \|", section(OPERATIONS, "Alarm by alarm"), re.MULTILINE)
    assert sorted(rows) == sorted(made)


def test_every_parameter_of_a_stage_has_its_row_and_every_row_its_parameter() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(DEPLOY, "CloudFormation"), re.MULTILINE)
    assert sorted(rows) == sorted(parameters("resources.yaml"))


def test_the_parameters_that_are_given_exist() -> None:
    known = {name for template in TEMPLATES for name in parameters(template)}
    given = set(re.findall(r"\b([A-Z][a-z]\w+)=(?!=)", "".join(re.findall(r"```sh\n(.*?)```", DEPLOY, re.DOTALL))))
    assert given
    assert given <= known


@pytest.mark.parametrize("text", [DEPLOY, OPERATIONS], ids=["deploy", "operations"])
def test_every_command_of_tokenctl_exists_with_its_options(text: str) -> None:
    lines = re.findall(r"\btokenctl ([a-z-][^\n`#]*)", text)
    assert lines
    for line in lines:
        command: Command = cli
        words = [word for word in line.split() if not word.startswith("(")]
        for word in (word for word in words if re.fullmatch("[a-z]+", word)):
            if isinstance(command, Group) and word in command.commands:
                command = command.commands[word]
        assert not isinstance(command, Group), line
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.rstrip("`,.") for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("text", [DEPLOY, OPERATIONS], ids=["deploy", "operations"])
def test_every_file_of_ours_that_is_named_exists(text: str) -> None:
    for name in re.findall(r"\b((?:infra|tests|docs)/[\w./-]+\.\w+)", text):
        assert (ROOT / name).exists(), name
