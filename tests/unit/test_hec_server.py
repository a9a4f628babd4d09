"""The test receiver itself, held against the facts: a receiver that forgives would prove nothing."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import requests

from tests.support.hec_faults import Fault, ForcedCode
from tests.support.hec_rules import STATUS, Collector, Reply, Request
from tests.support.hec_server import HecServer

GOOD = {"event": "x", "fields": {"event_id": "0"}}


def ask(collector: Collector, *events: Any, path: str = "/services/collector/event", **headers: str) -> Any:
    sent = {"authorization": "Splunk the-token"} | {n.replace("_", "-"): v for n, v in headers.items()}
    body = "".join(e if isinstance(e, str) else json.dumps(e) for e in events).encode()
    return content(collector.answer(Request("POST", path, sent, body)))


def content(reply: Reply) -> tuple[int, int, int | None]:
    found = json.loads(reply.body)
    return reply.status, found["code"], found.get("invalid-event-number")


def test_concatenated_events_are_indexed_with_and_without_white_space_between_them() -> None:
    collector = Collector()
    assert ask(collector, GOOD, "\n \r\n", GOOD, GOOD) == (200, 0, None)
    assert len(collector.indexed) == 3


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({"authorization": "Splunk other"}, (403, 4, None)),
        ({"authorization": "Splunk off"}, (403, 1, None)),
        ({"authorization": "Bearer the-token"}, (401, 3, None)),
        ({"authorization": "Splunk"}, (401, 3, None)),
    ],
)
def test_wrong_credentials_get_their_own_code(headers: dict[str, str], answer: Any) -> None:
    collector = Collector(tokens={"the-token", "off"})
    collector.disabled = {"off"}
    assert ask(collector, GOOD, **headers) == answer
    assert not collector.indexed


def test_no_credentials_are_code_2_and_a_token_in_the_query_is_code_16() -> None:
    request = Request("POST", "/services/collector/event", {}, b"{}")
    assert content(Collector().answer(request)) == (401, 2, None)
    request = Request("POST", "/services/collector/event?token=the-token", {}, b"{}")
    assert content(Collector().answer(request)) == (400, 16, None)


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
    assert ask(collector, GOOD, GOOD, bad, GOOD) == (400, code, 2)
    assert len(collector.indexed) == 2


def test_an_unknown_envelope_key_is_a_success_that_loses_the_event_and_all_after_it() -> None:
    collector = Collector()
    assert ask(collector, GOOD, GOOD | {"hostname": "x"}, GOOD) == (200, 0, None)
    assert len(collector.indexed) == 1


@pytest.mark.parametrize(("levels", "indexed"), [(63, 3), (64, 1)])
def test_nesting_that_is_too_deep_is_a_success_that_loses_the_event_and_all_after_it(levels: int, indexed: int) -> None:
    collector = Collector()
    deep = '{"event": ' + "[" * (levels - 1) + "]" * (levels - 1) + ', "fields": {"a": "[[["}}'
    assert ask(collector, GOOD, deep, GOOD) == (200, 0, None)
    assert len(collector.indexed) == indexed


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udc00": ["\\udc00\\ud800"]}'])
def test_half_a_surrogate_pair_is_stored_as_the_replacement_character(text: str) -> None:
    collector = Collector()
    assert ask(collector, '{"event": ' + text + ', "fields": {}}') == (200, 0, None)
    stored = json.dumps(collector.indexed[0]["event"])
    assert "\\ufffd" in stored
    assert "\\ud800" not in stored


def test_a_forbidden_index_names_the_event_after_the_bad_one() -> None:
    collector = Collector(indexes={"main"})
    assert ask(collector, GOOD, GOOD | {"index": "other"}) == (400, 7, 2)


def test_true_zero_and_objects_are_events() -> None:
    collector = Collector()
    assert ask(collector, {"event": True}, {"event": 0}, {"event": {}}) == (200, 0, None)


def test_a_request_above_one_megabyte_is_code_6_at_event_0() -> None:
    collector = Collector()
    assert ask(collector, GOOD, {"event": "x" * 999_950}) == (400, 6, 0)
    assert not collector.indexed
    assert ask(collector, {"event": "x" * (1_000_000 - len('{"event": ""}'))}) == (200, 0, None)


def test_no_data_is_code_5() -> None:
    assert ask(Collector(), " \n") == (400, 5, None)


def test_gzip_is_read_and_broken_gzip_refused() -> None:
    collector = Collector()
    headers = {"authorization": "Splunk the-token", "content-encoding": "gzip"}
    body = gzip.compress(json.dumps(GOOD).encode())
    path = "/services/collector/event"
    assert content(collector.answer(Request("POST", path, headers, body))) == (200, 0, None)
    assert content(collector.answer(Request("POST", path, headers, body[:-9]))) == (400, 6, 0)
    assert len(collector.indexed) == 1


def test_wrong_path_and_wrong_method_index_nothing() -> None:
    collector = Collector()
    headers = {"authorization": "Splunk the-token"}
    body = json.dumps(GOOD).encode()
    assert collector.answer(Request("POST", "/services/collector/elsewhere", headers, body)).status == 404
    assert collector.answer(Request("GET", "/services/collector/event", headers, body)).status == 405
    assert not collector.indexed


def test_the_health_check_is_code_17() -> None:
    assert content(Collector().answer(Request("GET", "/services/collector/health", {}, b""))) == (200, 17, None)


def test_acknowledgement_is_rejected_unless_enabled() -> None:
    path = "/services/collector/ack"
    assert ask(Collector(), '{"acks": [0]}', path=path) == (400, 14, None)


def test_an_acknowledgement_answers_true_once_and_needs_a_channel() -> None:
    collector = Collector(acknowledgement=True)
    assert ask(collector, GOOD) == (400, 10, None)
    assert ask(collector, GOOD, x_splunk_request_channel="short") == (400, 11, None)
    channel = "00000000-0000-0000-0000-000000000000"
    assert ask(collector, GOOD, x_splunk_request_channel=channel) == (200, 0, None)
    headers = {"authorization": "Splunk the-token"}
    request = Request("POST", "/services/collector/ack", headers, b'{"acks": [0]}')
    assert json.loads(collector.answer(request).body) == {"acks": {"0": True}}
    assert json.loads(collector.answer(request).body) == {"acks": {"0": False}}


def test_every_code_has_the_status_that_the_facts_give_it() -> None:
    by_status: dict[int, set[int]] = {}
    for code, status in STATUS.items():
        by_status.setdefault(status, set()).add(code)
    assert by_status == {
        200: {0, 17, 24, 25},
        400: {5, 6, 7, *range(10, 17), 21, 22, 28},
        401: {2, 3},
        403: {1, 4},
        429: {26, 27},
        500: {8},
        503: {9, 18, 19, 20, 23},
    }


def post(url: str, **options: Any) -> requests.Response:
    return requests.post(
        f"{url}/services/collector/event",
        data=json.dumps(GOOD),
        headers={"Authorization": "Splunk the-token"},
        timeout=60,
        **options,
    )


def test_every_code_can_be_had_over_http() -> None:
    with HecServer() as server:
        for code in range(29):
            server.faults.append(ForcedCode(code, retry_after="7"))
            answer = post(server.url)
            assert (answer.status_code, answer.json()["code"]) == (STATUS[code], code)
        assert len(server.collector.indexed) == list(STATUS.values()).count(200)


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
            post(server.url)
        assert len(server.collector.indexed) == indexed
        assert post(server.url).status_code == 200


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.HTML_502, 502), (Fault.EMPTY_503, 503), (Fault.NOT_JSON_200, 200), (Fault.TOO_LARGE_413, 413)],
)
def test_pages_of_something_in_between_are_no_json_and_index_nothing(fault: Fault, status: int) -> None:
    with HecServer() as server:
        server.faults.append(fault)
        answer = post(server.url)
        assert answer.status_code == status
        with pytest.raises(ValueError, match="Expecting value"):
            answer.json()
        assert not server.collector.indexed


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.DRIP])
def test_a_slow_answer_comes_after_its_events_are_indexed(fault: Fault) -> None:
    with HecServer() as server:
        server.slow_seconds = 0.05
        server.faults.append(fault)
        assert post(server.url).json()["code"] == 0
        assert len(server.collector.indexed) == 1
