"""`tokenctl audit`: events in every wrapping, lines that can't be read, and how the command ends."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chalicelib.audit import timestamp as at
from chalicelib.splunk.record import Kind, entry
from tests.support import log_lines
from tests.support.audited import NEW, NOON, SECOND, UNNUMBERED, World, changed, events, life
from tests.support.operator import Run
from tests.support.splunk_world import subscription
from tokenctl.__main__ import cli
from tokenctl.audit import Events
from tokenctl.errors import DeploymentError
from tokenctl.terminal import Terminal


def one_a_line(objects: Iterable[object]) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


def cloudwatch(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"logStreamName": "2026/11/21/[$LATEST]ab", "timestamp": 1, "message": f"{line}\n", "eventId": str(number)}
        for number, line in enumerate(lines)
    ]


def fields_and_text(line: str) -> dict[str, Any]:
    """An event as Splunk exports it: all fields are texts, and some are made by the app."""
    fields = {name: str(value) for name, value in json.loads(line).items()}
    return fields | {"action": "success", "user": "nobody", "actions": "download", "_raw": line}


EVENTS = [line for line in life().lines if '"event"' in line]
WRAPPED: dict[str, Callable[[Sequence[str]], str | bytes]] = {
    "plain": "\n".join,
    "with blank lines and CRLF": "\r\n\r\n".join,
    "pretty": lambda lines: "\n".join(json.dumps(json.loads(line), indent=2) for line in lines),
    "a list": lambda lines: json.dumps([json.loads(line) for line in lines]),
    "a pretty list": lambda lines: json.dumps([json.loads(line) for line in lines], indent=4),
    "a list, one a line": lambda lines: "[\n" + ",\n".join(lines) + "\n]",
    "filter-log-events": lambda lines: json.dumps({"events": cloudwatch(lines), "searchedLogStreams": []}, indent=4),
    "filter-log-events in one line": lambda lines: json.dumps({"events": cloudwatch(lines)}),
    "one log event a line": lambda lines: one_a_line(cloudwatch(lines)),
    "export to S3": lambda lines: "\n".join(f"2026-11-21T12:00:00.000Z {line}" for line in lines),
    "aws logs tail": lambda lines: "\n".join(f"2026-11-21T12:00:00+00:00 a/[$LATEST]ab {line}" for line in lines),
    "Logs Insights": lambda lines: json.dumps([{"@timestamp": "1", "@message": line} for line in lines], indent=1),
    "Lambda's JSON": lambda lines: one_a_line({"level": "INFO", "message": json.loads(line)} for line in lines),
    "subscription": lambda lines: json.dumps(subscription(lines)),
    "subscription, unpacked": lambda lines: gzip.decompress(base64.b64decode(subscription(lines)["awslogs"]["data"])),
    "failure record": lambda lines: entry(Kind.DEFERRED, json.dumps(subscription(lines)).encode(), "why", NOON),
    "pretty failure record": lambda lines: json.dumps({"requestPayload": subscription(lines)}, indent=2),
    "Splunk's export": lambda lines: one_a_line({"preview": False, "result": {"_raw": line}} for line in lines),
    "Splunk's export with fields": lambda lines: one_a_line({"result": fields_and_text(line)} for line in lines),
    "Splunk's rows": lambda lines: json.dumps({"results": [fields_and_text(line) for line in lines]}),
    "Splunk's rows, pretty": lambda lines: json.dumps({"results": [fields_and_text(line) for line in lines]}, indent=1),
    "HEC": lambda lines: one_a_line({"time": 1.5, "event": json.loads(line), "host": "h"} for line in lines),
    "HEC with text": lambda lines: one_a_line({"time": "1.5", "event": line} for line in lines),
}


class TestLines:
    @pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
    def test_events_are_read_in_every_wrapping(self, wrap: Callable[[Sequence[str]], str | bytes]) -> None:
        plain, _ = events(EVENTS)
        assert len(plain) == len(EVENTS)
        assert events(wrap(EVENTS)) == (plain, [])

    def test_other_lines_of_a_log_are_passed_over(self) -> None:
        world = life()
        others = [*log_lines.PLATFORM, log_lines.ACCESS, "Traceback (most recent call last):", "  {'a': 1}"]
        others += ['{"event":"log","message":"token.used"}', '{"message":7,"events":"none"}', "[1, 2]", ""]
        assert events([*others, *world.lines, *others]) == (events(EVENTS)[0], [])

    @pytest.mark.parametrize(
        ("broken", "why"),
        [
            (lambda line: line[:-40], "line 2: "),
            (lambda line: line[:25], "line 2: "),
            (lambda line: changed(line, time="yesterday"), "line 2: token.issued: "),
            (lambda line: changed(line, time="2026-11-21T12:00:00"), "line 2: token.issued: "),
            (lambda line: changed(line, tokenId=None), "line 2: token.issued: no tokenId"),
            (lambda line: changed(line, maxUses="many"), "line 2: "),
            (lambda line: changed(line, ipAddresses=["here"]), "line 2: token.issued: "),
            (lambda line: json.dumps({"message": line[:-1]}), "line 2: "),
            (lambda line: json.dumps({"result": {"event": "token.used"}}), "line 2: an export of Splunk without _raw"),
            (lambda line: json.dumps({"result": {"_raw": line[:-5]}}), "line 2: "),
            (lambda line: json.dumps({"awslogs": {"data": "H4sIAAAA"}}), "line 2: "),
            (lambda line: '{"message":' * 200_000 + "}", "line 2: "),
        ],
    )
    def test_a_broken_line_is_named_and_the_others_are_read(self, broken: Callable[[str], str], why: str) -> None:
        line = EVENTS[0]
        found, damaged = events([line, broken(line), line])
        assert len(found) == 2
        [named] = damaged
        assert named.startswith(why)

    def test_half_a_surrogate_pair_is_named_and_the_others_are_read(self) -> None:
        line = EVENTS[0]
        half = line.replace('"node"', r'"\ud800"')
        for text in (f"{half}\n{line}", one_a_line([{"message": half}, {"message": line}])):
            found, damaged = events(text)
            assert (len(found), len(damaged)) == (1, 1)
        in_one = json.dumps(subscription([half, line]))
        assert len(events(in_one)[0]) + len(events(in_one)[1]) == 2

    def test_bytes_that_are_no_text_are_named(self) -> None:
        line = EVENTS[0].encode()
        assert len(events(line.replace(b'"node"', b'"\xff"'))[0]) == 1, "no member that counts"
        assert events(line.replace(b'"app"', b'"\xff"'))[1]
        assert events(b"\x89PNG\r\n\x1a\n")[1] == ["no audit event, nor does it begin like a log"]


@pytest.fixture
def used() -> tuple[list[str], str]:
    """The log of a token that was used, and the line of its use."""
    world = World()
    world.use(world.issue(expires_at=NOON + 10 * SECOND))
    return world.lines, next(line for line in world.lines if '"token.used"' in line)


class TestCommand:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Callable[..., Run]:
        def run(content: bytes | Sequence[str], *options: str, stdin: bool = False) -> Run:
            data = content if isinstance(content, bytes) else "\n".join(content).encode()
            file = tmp_path / "app.log"
            file.write_bytes(data)
            arguments = ["audit", *options, "-" if stdin else str(file)]
            ended = CliRunner().invoke(cli, arguments, input=data if stdin else None, obj=Terminal())
            return Run(ended.exit_code, ended.stdout, ended.stderr if ended.stderr_bytes else "")

        return run

    def test_a_log_that_holds_ends_with_0(self, run: Callable[..., Run]) -> None:
        world = life()
        ended = run(world.lines, "--json")
        count = sum('"event"' in line for line in world.lines)
        assert (ended.code, ended.json) == (0, {"events": count, "tokens": 8, "breaches": [], "gaps": []})
        assert run(world.lines).out == f"Events: {count}. Tokens: 8. The rules hold.\n"
        assert run(gzip.compress("\n".join(world.lines).encode()), stdin=True).out == run(world.lines, stdin=True).out
        assert run("").code == 0

    def test_a_breach_ends_with_1_and_is_named(self, run: Callable[..., Run]) -> None:
        world = World()
        world.use(world.issue())
        used = next(line for line in world.lines if '"token.used"' in line)
        ended = run([*world.lines, changed(used, **NEW, **UNNUMBERED), used[:-9]], "--json")
        assert ended.code == 1
        [breach] = ended.json["breaches"]
        token_id = json.loads(used)["tokenId"]
        when = at(NOON + SECOND)
        named = {"kind": "use_beyond_allowance", "tokenId": token_id, "useId": NEW["useId"], "time": when}
        assert breach.items() >= named.items()
        assert [gap["kind"] for gap in ended.json["gaps"]] == ["unreadable"]
        assert "use_beyond_allowance" in run([*world.lines, changed(used, **NEW)]).out

    def test_what_cannot_be_read_ends_with_2(self, run: Callable[..., Run]) -> None:
        lines = life().lines
        ended = run([*lines, lines[0][:60], lines[0]], "--json")
        [gap] = ended.json["gaps"]
        assert (ended.code, gap["kind"]) == (2, "unreadable")
        assert f"app.log: line {len(lines) + 1}: " in gap["why"]
        assert "In what could be read, the rules hold." in run([*lines, lines[0][:60]]).out
        assert run(gzip.compress("\n".join(lines).encode())[:-20]).code == 2
        assert run(b"hello").code == 2

    def test_since_says_from_where_on_the_log_is_complete(
        self, run: Callable[..., Run], used: tuple[list[str], str]
    ) -> None:
        since = {(): 0, ("--since", "2026-11-21T12:00:00Z"): 1, ("--since", "2026-11-21T12:00:00.001Z"): 0}
        assert {option: run([used[1]], *option).code for option in since} == since

    def test_a_use_that_does_not_say_when_its_token_was_issued_may_be_as_old_as_a_token_lives(
        self, run: Callable[..., Run], used: tuple[list[str], str]
    ) -> None:
        lines, use = used
        for seconds, kinds in ((9, ["issue_before_log"]), (10, ["use_without_issue"])):
            members = {"tokenId": "tok_new", "issuedAt": None, "time": at(NOON + seconds * SECOND)}
            facts = run([*lines, changed(use, **members)], "--json").json
            assert [each["kind"] for each in (*facts["breaches"], *facts["gaps"])] == kinds

    def test_a_full_disk_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(Events, "_insert", full)
        with pytest.raises(DeploymentError, match="disk is full; TMPDIR"):
            CliRunner().invoke(cli, ["audit", "-"], input="{}", obj=Terminal(), catch_exceptions=False)

    def test_a_folder_is_read_with_all_that_is_in_it(self, tmp_path: Path) -> None:
        lines = life().lines
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "1.gz").write_bytes(gzip.compress("\n".join(lines[::2]).encode()))
        (tmp_path / "a.json").write_text("\n".join(lines[1::2]), "utf-8")
        ended = CliRunner().invoke(cli, ["audit", "--json", str(tmp_path)], obj=Terminal())
        assert (ended.exit_code, json.loads(ended.stdout)["gaps"]) == (0, [])

    def test_a_thousand_gaps_of_a_kind_are_listed_and_the_others_counted(
        self, run: Callable[..., Run], used: tuple[list[str], str]
    ) -> None:
        ended = run([changed(used[1], tokenId=f"tok_{number}") for number in range(1_003)], "--json")
        assert (ended.code, len(ended.json["gaps"])) == (0, 1_001)
        assert ended.json["gaps"][-1] == {"kind": "issue_before_log", "why": "3 more of this kind"}
