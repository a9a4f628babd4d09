"""The test receiver itself, held against the facts: a receiver that forgives would prove nothing."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import requests

from tests.support.hec_faults import INDEXED_BUT_UNANSWERED, UNREACHED, Fault, ForcedCode
from tests.support.hec_rules import STATUS, Collector, Reply, Request, request
from tests.support.hec_server import HecServer

GOOD = {"event": "x", "fields": {"event_id": "0"}}
PATH = "/services/collector/event"


def content(reply: Reply) -> tuple[int, int, int | None]:
    found = json.loads(reply.body)
    return reply.status, found["code"], found.get("invalid-event-number")


GZIP = {"content-encoding": "gzip"}


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
        # Of those before a bad one each is indexed, and none after it.
        *(
            ([GOOD, GOOD, bad, GOOD], (400, 6, 2), 2)
            for bad in ("{", '"text"', '{"event": NaN}', '{"event":1,"event":2}')
        ),
        *(([GOOD, GOOD, bad, GOOD], (400, 6, 2), 2) for bad in ({"event": None}, {"event": "x", "time": "yesterday"})),
        ([GOOD, GOOD, {"fields": {}}, GOOD], (400, 12, 2), 2),
        ([GOOD, GOOD, {"event": " \n"}, GOOD], (400, 13, 2), 2),
        *(
            ([GOOD, {"event": "x", "fields": bad}, GOOD], (400, 15, 1), 1)
            for bad in ({"a": {"b": 1}}, {"a": ["b"]}, "a")
        ),
    ],
)
def test_a_request_is_indexed_as_the_facts_say(events: list[Any], answer: Any, indexed: int) -> None:
    collector = Collector(indexes={"main"})
    body = "".join(each if isinstance(each, str) else json.dumps(each) for each in events).encode()
    assert content(collector.answer(request(body))) == answer
    assert len(collector.indexed) == indexed


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (request(b"{}", "other"), (403, 4, None)),
        (Request(PATH, {"authorization": "Bearer the-token"}, b"{}"), (401, 3, None)),
        (Request(PATH, {"authorization": "Splunk"}, b"{}"), (401, 3, None)),
        (Request(PATH, {}, b"{}"), (401, 2, None)),
        (Request(f"{PATH}/elsewhere", {"authorization": "Splunk the-token"}, b"{}"), (404, 404, None)),
        (request(gzip.compress(b"{}")[:-9], **GZIP), (400, 6, 0)),
    ],
)
def test_a_wrong_header_path_or_encoding_indexes_nothing(sent: Request, answer: Any) -> None:
    collector = Collector()
    assert content(collector.answer(sent)) == answer
    assert not collector.indexed


def test_half_a_surrogate_pair_is_stored_as_the_replacement_character() -> None:
    collector = Collector()
    collector.answer(request(b'{"event": {"\\udc00": ["\\udc00\\ud800"]}}'))
    stored = json.dumps(collector.indexed[0]["event"])
    assert "\\ufffd" in stored
    assert "\\ud800" not in stored


def post(server: HecServer) -> requests.Response:
    good = request(json.dumps(GOOD).encode())
    return requests.post(
        server.url + good.path, data=good.body, headers=good.headers, timeout=60, allow_redirects=False
    )


def test_every_code_comes_over_http_with_its_status_and_those_of_success_alone_index() -> None:
    with HecServer() as server:
        for code in range(29):
            server.faults.append(ForcedCode(code, retry_after="7"))
            answer = post(server)
            assert (answer.json()["code"], answer.status_code) == (code, STATUS[code])
            assert answer.headers.get("Retry-After") == (None if answer.status_code == 200 else "7")
        assert len(server.collector.indexed) == len({0, 17, 24, 25})


@pytest.mark.parametrize("fault", sorted(Fault, key=lambda fault: fault.value))
def test_a_fault_loses_the_answer_or_spoils_it_and_the_next_request_is_indexed(fault: Fault) -> None:
    with HecServer() as server:
        server.slow_seconds = 0.05
        server.faults.append(fault)
        try:
            found = post(server).text
        except requests.RequestException:
            found = None
        assert (found is None) == (fault in {*UNREACHED, Fault.RESET_AFTER, Fault.TRUNCATED})
        assert len(server.collector.indexed) == (fault in INDEXED_BUT_UNANSWERED)
        if fault in (Fault.SLOW, Fault.DRIP):
            assert json.loads(str(found))["code"] == 0
        assert post(server).json()["code"] == 0
