"""The test receiver itself, held against the facts: a receiver that forgives would prove nothing."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import requests

from tests.support.hec_faults import Fault, ForcedCode
from tests.support.hec_rules import STATUS, Collector, Reply, Request, request
from tests.support.hec_server import HecServer

GOOD = {"event": "x", "fields": {"event_id": "0"}}


def answers(collector: Collector, *events: Any, **headers: str) -> Any:
    body = "".join(e if isinstance(e, str) else json.dumps(e) for e in events).encode()
    return content(collector.answer(request(body, **headers)))


def content(reply: Reply) -> tuple[int, int, int | None]:
    found = json.loads(reply.body)
    return reply.status, found["code"], found.get("invalid-event-number")


@pytest.mark.parametrize(
    ("events", "answer", "indexed"),
    [
        ([GOOD, "\n \r\n", GOOD, GOOD], (200, 0, None), 3),
        ([{"event": True}, {"event": 0}, {"event": {}}], (200, 0, None), 3),
        ([" \n"], (400, 5, None), 0),
        ([GOOD, GOOD | {"index": "other"}], (400, 7, 2), 1),  # names the event after the bad one
        ([GOOD, {"event": "x" * 999_950}], (400, 6, 0), 0),  # above one megabyte
        ([{"event": "x" * (1_000_000 - len('{"event": ""}'))}], (200, 0, None), 1),
        ([GOOD, GOOD | {"hostname": "x"}, GOOD], (200, 0, None), 1),  # an unknown key loses all that follows
        ([GOOD, '{"event": ' + "[" * 62 + "]" * 62 + ', "fields": {"a": "[[["}}', GOOD], (200, 0, None), 3),
        ([GOOD, '{"event": ' + "[" * 63 + "]" * 63 + "}", GOOD], (200, 0, None), 1),  # so does nesting
    ],
)
def test_a_request_is_indexed_as_the_facts_say(events: list[Any], answer: Any, indexed: int) -> None:
    collector = Collector(indexes={"main"})
    assert answers(collector, *events) == answer
    assert len(collector.indexed) == indexed


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("Splunk other", (403, 4, None)),
        ("Bearer the-token", (401, 3, None)),
        ("Splunk", (401, 3, None)),
        (None, (401, 2, None)),
    ],
)
def test_wrong_credentials_get_their_own_code(header: str | None, answer: Any) -> None:
    collector = Collector()
    headers = {"authorization": header} if header else {}
    assert content(collector.answer(Request("/services/collector/event", headers, b"{}"))) == answer
    assert not collector.indexed


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("{", 6),
        ("nonsense", 6),
        ('"text"', 6),
        ('{"event": NaN}', 6),
        ('{"event": 1, "event": 2}', 6),
        ({"event": None}, 6),
        ({"event": False}, 6),
        ({"event": "x", "time": "yesterday"}, 6),
        ({"fields": {}}, 12),
        ({"event": ""}, 13),
        ({"event": " \n"}, 13),
        ({"event": "x", "fields": {"a": {"b": 1}}}, 15),
        ({"event": "x", "fields": {"a": ["b"]}}, 15),
        ({"event": "x", "fields": "a"}, 15),
    ],
)
def test_events_before_a_bad_one_are_indexed_and_later_ones_are_not(bad: Any, code: int) -> None:
    collector = Collector()
    assert answers(collector, GOOD, GOOD, bad, GOOD) == (400, code, 2)
    assert len(collector.indexed) == 2


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udc00": ["\\udc00\\ud800"]}'])
def test_half_a_surrogate_pair_is_stored_as_the_replacement_character(text: str) -> None:
    collector = Collector()
    assert answers(collector, '{"event": ' + text + "}") == (200, 0, None)
    stored = json.dumps(collector.indexed[0]["event"])
    assert "\\ufffd" in stored
    assert "\\ud800" not in stored


def test_gzip_is_read_and_broken_gzip_refused() -> None:
    collector = Collector()
    headers = {"content-encoding": "gzip"}
    body = gzip.compress(json.dumps(GOOD).encode())
    assert content(collector.answer(request(body, **headers))) == (200, 0, None)
    assert content(collector.answer(request(body[:-9], **headers))) == (400, 6, 0)
    assert len(collector.indexed) == 1


def test_a_wrong_path_indexes_nothing() -> None:
    collector = Collector()
    good = request(json.dumps(GOOD).encode())
    assert collector.answer(Request("/services/collector/elsewhere", good.headers, good.body)).status == 404
    assert not collector.indexed


def post(server: HecServer) -> requests.Response:
    good = request(json.dumps(GOOD).encode())
    return requests.post(server.url + good.path, data=good.body, headers=good.headers, timeout=60)


def test_every_code_comes_over_http_with_the_status_that_the_facts_give_it() -> None:
    by_status: dict[int, set[int]] = {}
    with HecServer() as server:
        for code in range(29):
            server.faults.append(ForcedCode(code, retry_after="7"))
            answer = post(server)
            assert answer.json()["code"] == code
            by_status.setdefault(answer.status_code, set()).add(code)
        assert len(server.collector.indexed) == list(STATUS.values()).count(200)
    assert by_status == {
        200: {0, 17, 24, 25},
        400: {5, 6, 7, *range(10, 17), 21, 22, 28},
        401: {2, 3},
        403: {1, 4},
        429: {26, 27},
        500: {8},
        503: {9, 18, 19, 20, 23},
    }


@pytest.mark.parametrize(
    ("fault", "indexed"),
    [
        (Fault.REFUSED, 0),
        (Fault.RESET_BEFORE, 0),
        (Fault.RESET_MID, 0),
        (Fault.RESET_AFTER, 1),
        (Fault.TRUNCATED, 1),
    ],
)
def test_a_cut_connection_has_no_answer_and_indexes_only_if_configured(fault: Fault, indexed: int) -> None:
    with HecServer() as server:
        server.faults.append(fault)
        with pytest.raises(requests.RequestException):
            post(server)
        assert len(server.collector.indexed) == indexed
        assert post(server).status_code == 200


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.HTML_502, 502), (Fault.EMPTY_503, 503), (Fault.NOT_JSON_200, 200), (Fault.TOO_LARGE_413, 413)],
)
def test_pages_of_something_in_between_are_no_json_and_index_nothing(fault: Fault, status: int) -> None:
    with HecServer() as server:
        server.faults.append(fault)
        answer = post(server)
        assert answer.status_code == status
        with pytest.raises(ValueError, match="Expecting value"):
            answer.json()
        assert not server.collector.indexed


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.DRIP])
def test_a_slow_answer_comes_after_its_events_are_indexed(fault: Fault) -> None:
    with HecServer() as server:
        server.slow_seconds = 0.05
        server.faults.append(fault)
        assert post(server).json()["code"] == 0
        assert len(server.collector.indexed) == 1
