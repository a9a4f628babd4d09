"""The TLA+ model, the write and docs/model.md name the same clauses. `make model` checks the model itself."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from ipaddress import ip_address
from itertools import product
from typing import Any

import pytest
from pynamodb.constants import CONDITION_EXPRESSION, UPDATE_EXPRESSION

from chalicelib import tokens
from chalicelib.storage.store import ConditionFailed
from chalicelib.storage.token_store import CLAUSES, TokenStore
from chalicelib.tokens import Action, Document, Reason, Terms
from dev.engine import ROOT
from spec import check

MODEL = (ROOT / "spec" / "TokenLife.tla").read_text("utf-8")
PAGE = (ROOT / "docs" / "model.md").read_text("utf-8")
RUNS = tomllib.loads((ROOT / "spec" / "runs.toml").read_text("utf-8"))
NOW = datetime(2026, 11, 27, tzinfo=UTC)
NO_REASON = "-"


class RecordingStore(TokenStore):
    """Keeps each update in place of sending it."""

    def __init__(self) -> None:
        super().__init__("tokens")
        self.requests: list[dict[str, Any]] = []

    def _send_update(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        raise ConditionFailed(None)


def clauses_of_the_code() -> set[str]:
    """Every clause of the write that makes a claim, whatever a use sends, and the condition of the put."""
    store = RecordingStore()
    secret, token = tokens.new_token("issuer", Terms(Document("node"), NOW), NOW)
    choices = ((None, "ann"), (None, ip_address("192.0.2.7")), (None, Action.EDIT), (None, "key"))
    for (user, address, action, key), judged, since in product(product(*choices), (None, token), (None, NOW)):
        use = tokens.new_use(secret, "app", user=user, address=address, action=action, idempotency_key=key)
        store.claim(use, NOW, since, judged)
    found = {request[UPDATE_EXPRESSION] for request in store.requests}
    for request in store.requests:
        found.update(re.split(r" AND (?![^()]*\))", request[CONDITION_EXPRESSION]))
    put = re.split(r" (?:AND|OR) \(?", store._put({}, token.digest)[CONDITION_EXPRESSION].removesuffix(")"))
    return found | {f"put: {clause}" for clause in put}


def clauses_of_the_model() -> list[tuple[str, int, str]]:
    """Clause, line of the model and name of the Reason."""
    lines = enumerate(MODEL.splitlines(), 1)
    found = [(re.search(r"\\\* clause: (.+) -> (\S+)$", line), number) for number, line in lines]
    return [(match[1], number, match[2]) for match, number in found if match]


def test_the_model_has_each_clause_of_the_write_and_no_other() -> None:
    named = [clause for clause, _, _ in clauses_of_the_model()]
    assert sorted(named) == sorted(clauses_of_the_code())


def test_the_reasons_of_the_code_are_those_of_the_model() -> None:
    named = {clause: reason for clause, _, reason in clauses_of_the_model()}
    assert {clause: named[clause] for clause in CLAUSES.values()} == {
        clause: reason.name for reason, clause in CLAUSES.items()
    }
    assert list(CLAUSES) == [reason for reason in Reason if reason in CLAUSES]


def test_the_page_maps_each_clause_to_its_line_and_its_reason() -> None:
    rows = re.findall(r"^\| `(.+?)` \| (\d+) \| (?:`(\w+)`|none) \|", PAGE, re.MULTILINE)
    expected = [
        (clause, str(line), "" if reason == NO_REASON else reason) for clause, line, reason in clauses_of_the_model()
    ]
    assert rows == expected


def test_each_reason_refuses_by_a_clause_of_its_own() -> None:
    assert {reason for _, _, reason in clauses_of_the_model()} == {*Reason.__members__, NO_REASON}


def test_the_model_gives_the_reasons_in_their_order() -> None:
    rules = MODEL[MODEL.index("\nDecide(i, use) ==") :]
    order = re.findall(r'THEN (?:<<"(\w+)", 0>>|Replay)', rules[: rules.index('"new"')])
    planned = "token_paused"
    assert [name or Reason.KEY_REUSED for name in order if name != planned] == [*Reason]


@pytest.mark.parametrize("module", RUNS)
def test_every_promise_scene_and_fault_of_a_model_is_checked(module: str) -> None:
    text = (ROOT / "spec" / f"{module}.tla").read_text("utf-8")
    if module == "TokenLife":
        text = (ROOT / "spec" / "TokenScenes.tla").read_text("utf-8") + text
    plan = RUNS[module]
    promises = text[text.index("promises, as") :]
    in_the_end = {name for name, formula in re.findall(r"^(\w+) == (.*)$", promises, re.MULTILINE) if "~>" in formula}
    assert in_the_end == set(plan["in_the_end"])
    spoken = set(re.findall(r"^\(\* .*\*\)\n(?:\(\*.*\*\)\n)*(\w+) ==", promises, re.MULTILINE))
    assert spoken - in_the_end <= {*plan["invariants"], *plan["properties"]}
    scenes = re.findall(r"^  (\w+)\s+\|-> \[Plain EXCEPT", text, re.MULTILINE)
    assert sorted(scenes) == sorted(plan["long"] + plan["scenes"] + plan["soak"])
    assert set(plan["faults"]) <= set(re.findall(r'"(\w+)"', text))
    assert set(re.findall(r'Fault (?:=|#) "(\w+)"', text)) <= set(plan["faults"])


@pytest.mark.parametrize("module", RUNS)
def test_the_page_explains_each_fault(module: str) -> None:
    for fault, place in RUNS[module]["faults"].items():
        assert re.search(rf"^\| `{fault}` \| .+ \| `{place['breaks']}` \|$", PAGE, re.MULTILINE), fault


TRACE = """\
Error: Invariant NoExtraGrant is violated.
Error: The behavior up to this point is:
State 1: <Initial predicate>
/\\ at = [A1 |-> -1, B1 |-> -1]
/\\ item = [absent |-> TRUE]

State 2: <Begin line 1, col 1 to line 2, col 2 of module TokenLife>
/\\ at = [A1 |-> -1, B1 |-> 0]
/\\ item = [ claims |-> <<"B1", "A1">>,
  max |-> 2 ]

12 states generated, 9 distinct states found, 3 states left on queue.
"""
FAULTY = check.Run("TokenLife", "race", "read_then_write", {"INVARIANTS": ["NoExtraGrant"]})
SOUND = FAULTY._replace(fault="none")


def test_a_trace_becomes_steps_with_what_they_changed() -> None:
    assert check.story(FAULTY, "NoExtraGrant", TRACE).splitlines()[2:] == [
        " 1. Initial",
        " 2. Begin: A request to use the token arrives at a machine, which reads its clock once.",
        "      at.B1 = 0",
        '      item.claims = <<"B1", "A1">>',
        "      item.max = 2",
    ]


HELD = check.Result(SOUND, 2_000_000, 1.0, "", "")
REFUTED = check.Result(FAULTY, 12, 1.0, "NoExtraGrant", "")


@pytest.mark.parametrize(
    ("results", "code", "line"),
    [
        ([HELD, REFUTED], 0, "model: 2,000,000 states, no violation; 1 of 1 design faults refuted"),
        ([HELD, REFUTED._replace(broken="")], 1, "model: 2,000,000 states, no violation; 0 of 1 design faults refuted"),
        (
            [HELD._replace(broken="NoExtraGrant"), REFUTED],
            1,
            "model: 2,000,000 states, 1 of 1 runs failed; 1 of 1 design faults refuted",
        ),
        (
            [HELD._replace(trouble="TLC failed"), REFUTED],
            1,
            "model: 2,000,000 states, 1 of 1 runs failed; 1 of 1 design faults refuted",
        ),
        (
            [HELD._replace(states=10), REFUTED],
            1,
            "model: 10 states (fewer than 1,000,000), no violation; 1 of 1 design faults refuted",
        ),
    ],
)
def test_the_last_line_says_what_was_found_and_the_exit_code_agrees(
    results: list[check.Result], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.summarize(results, 1_000_000) == code
    assert capsys.readouterr().out == line + "\n"


def test_without_java_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert check.main([]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("model: java is missing;")
    assert output.err.count("\n") == 1
