"""What a function is asked while it is measured: one that grants what it must not ends the run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from studies.bench.box import events
from studies.bench.box.function import Spent
from studies.bench.box.measure import _LIVES, NOT_YET_WARM, Life, Setting, WrongAnswer
from studies.bench.box.variants import FLOOR

SETTING = Setting(128, tls=False, calls=2, limited=False)
PASSWORD = f"tss_{0:043}"


class Function:
    """Answers as a well-behaved function would, but for what is said to be wrong with it."""

    def __init__(self, wrong: str = "") -> None:
        self._wrong = wrong
        self._spent: set[str] = set()
        self.calls = 0

    def init(self) -> Spent:
        return Spent(100.0, 50.0)

    def peak_mb(self) -> float:
        return 30.0 + self.calls

    def call(self, event: dict[str, Any]) -> tuple[Any, Spent]:
        self.calls += 1
        answer = self._authorize(event) if event.get("type") == "TOKEN" else self._answer(event)
        return answer, Spent(2.0 * self.calls, float(self.calls))

    def _authorize(self, event: dict[str, Any]) -> Any:
        known = event["authorizationToken"] == events.authorize(events.CLIENT, PASSWORD)["authorizationToken"]
        effect = "Allow" if known or self._wrong == "lets everybody in" else "Deny"
        return {"policyDocument": {"Statement": [{"Effect": effect}]}, "context": {"clientId": events.CLIENT}}

    def _answer(self, event: dict[str, Any]) -> Any:
        body = json.loads(event["body"])
        if "nodeId" in body:
            good = bool(body["nodeId"]) or self._wrong == "takes every body"
            return _proxy(201, {"token": f"{self.calls:064x}"}) if good else _proxy(400, {})
        token = body["token"]
        if not isinstance(token, str):
            return _proxy(400, {})
        if token == "0" * 64 and self._wrong != "knows every token":
            return _proxy(404, {"code": "token_not_found"})
        if token in self._spent and self._wrong != "spends twice":
            return _proxy(410, {"code": "token_exhausted" if self._wrong != "tells no reason" else "gone"})
        self._spent.add(token)
        return _proxy(200, {"nodeId": events.NODE if self._wrong != "tells another node" else "another"})


def _proxy(status: int, body: Any) -> Any:
    return {"statusCode": status, "body": json.dumps(body)}


def live(kind: str, function: Function) -> Life:
    return _LIVES[kind](function, FLOOR, SETTING, PASSWORD)


def lived(kind: str, function: Function) -> Any:
    life = live(kind, function)
    for _ in range(NOT_YET_WARM + SETTING.calls):
        life.step()
    return life.end()


def test_only_warm_calls_are_counted_and_the_proof_is_not() -> None:
    sample = lived("api", Function())
    assert (sample.init, sample.first) == (Spent(100.0, 50.0), Spent(2.0, 1.0))
    # An issue comes first, then in turn a use and an issue; two of each are not counted.
    assert [spent.cpu_ms for spent in sample.warm["use"]] == [6.0, 8.0]
    assert [spent.cpu_ms for spent in sample.warm["issue"]] == [7.0, 9.0]
    assert sample.peak_mb == 39.0


@pytest.mark.parametrize("kind", ["authorizer", "none"])
def test_an_authorizer_and_an_empty_handler_are_called_as_often(kind: str) -> None:
    [spent] = lived(kind, Function()).warm.values()
    assert len(spent) == SETTING.calls


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("api", "spends twice"),
        ("api", "knows every token"),
        ("api", "takes every body"),
        ("api", "tells no reason"),
        ("api", "tells another node"),
        ("authorizer", "lets everybody in"),
    ],
)
def test_a_function_that_grants_forbidden_uses_is_detected(kind: str, wrong: str) -> None:
    with pytest.raises(WrongAnswer):
        lived(kind, Function(wrong))


def test_an_authorizer_that_refuses_good_credentials_is_found_out() -> None:
    life = _LIVES["authorizer"](Function(), FLOOR, SETTING, "another secret")
    with pytest.raises(WrongAnswer, match="good credentials are refused"):
        life.step()
