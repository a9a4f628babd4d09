"""The commands of the documents that no test can run (they want an AWS account, a Splunk or an hour) do exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import PurePath
from typing import Any

import botocore.session
import click
from botocore import xform_name

from dev.engine import ROOT
from tests.support.examples import blocks, documents
from tokenctl.__main__ import cli

# Commands of the AWS command line itself, which are no operations of a service.
OF_ITS_OWN = {("cloudformation", "package"), ("cloudformation", "deploy"), ("s3", "rm"), ("s3", "rb"), ("s3", "cp")}
FOR_ALL = {"query", "output", "region", "profile", "no-paginate"}
STARTS = re.compile(r"^(?:\.venv/bin/)?(?:tokenctl|aws|make|python|\.venv[\w-]*/bin/python) ", re.MULTILINE)


def texts() -> list[tuple[str, str]]:
    """File and text of each block of commands."""
    return [
        (str(path.relative_to(ROOT)), text)
        for path in documents()
        for language, text in blocks(path)
        if language in ("sh", "console") or (not language and STARTS.search(text))
    ]


def commands() -> Iterator[tuple[str, list[str]]]:
    """File and words of each single command in them."""
    for where, text in texts():
        for line in re.sub(r"\\\n", " ", text.replace("…", "...")).splitlines():
            for inner in (line, *re.findall(r"\$\((.*)\)", line)):
                for words in split(inner.removeprefix("$ ")):
                    yield where, words


def split(line: str) -> Iterator[list[str]]:
    """The single commands of a line, without their prefixes."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    words: list[str] = []
    try:
        found = [*reader, ";"]
    except ValueError:
        return  # the first or last line of something quoted over more than one
    for word in found:
        if set(word) <= set("();<>|&"):
            while words and (words[0] in ("do", "then") or re.match(r"[A-Z_]+=", words[0])):
                words.pop(0)
            if words:
                yield words
            words = []
        else:
            words.append(word)


def of(program: str) -> list[tuple[str, list[str]]]:
    found = [(where, words[1:]) for where, words in commands() if PurePath(words[0]).name == program]
    assert found, program
    return found


def test_the_shell_can_read_every_block() -> None:
    for path in documents():
        for language, text in blocks(path):
            if language == "sh":
                run = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
                assert run.returncode == 0, (path, text, run.stderr)


def test_every_command_of_tokenctl_exists_with_its_options() -> None:
    for where, words in of("tokenctl"):
        command: click.Command = cli
        context = click.Context(cli)
        rest = words
        while True:
            rest = options_of(command, context, rest)
            if not isinstance(command, click.Group) or not rest:
                break
            found = command.get_command(context, rest[0])
            assert found is not None, (where, words)
            context, command, rest = click.Context(found, parent=context), found, rest[1:]
        assert not isinstance(command, click.Group), (where, words)


def options_of(command: click.Command, context: click.Context, words: list[str]) -> list[str]:
    """What is left once the command has read its options; an unknown one raises."""
    context.allow_interspersed_args = not isinstance(command, click.Group)
    words = [word for word in words if not word.startswith("(")]
    _, rest, _ = command.make_parser(context).parse_args(list(words))
    return list(rest) if isinstance(command, click.Group) else []


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for where, words in of("make"):
        assert words[0] in targets, (where, words)


def test_every_module_that_is_started_exists() -> None:
    for where, words in of("python"):
        if words[:1] == ["-m"]:
            assert importlib.util.find_spec(words[1]) is not None, (where, words)


@cache
def service(name: str) -> Any:
    return botocore.session.Session().get_service_model({"deploy": "codedeploy"}.get(name, name))


def test_every_command_of_aws_exists_with_its_options() -> None:
    for where, words in of("aws"):
        name, operation = words[:2]
        if (name, operation) in OF_ITS_OWN:
            continue
        names = {xform_name(each, "-"): each for each in service(name).operation_names}
        assert operation in names, (where, words)
        members = service(name).operation_model(names[operation]).input_shape.members
        known = {xform_name(member, "-") for member in members} | FOR_ALL
        given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
        assert {each for each in given if each not in known and each.removeprefix("no-") not in known} == set(), where
