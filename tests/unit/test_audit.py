"""Lines that leave the service: their shape, and what must never be in them."""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import audit, clients, redaction, tokens
from chalicelib.audit import Audit, JsonFormatter
from chalicelib.redaction import redact, redact_all, to_line

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def log(lines: list[str]) -> Audit:
    return Audit("dev", "1.2.3", lines.append)


def test_an_event_is_one_json_line_with_the_members_of_the_contract(log: Audit, lines: list[str]) -> None:
    log.event("token.used", NOW, requestId="r", clientId="c", tokenId="tok_1", user=None, useId="use_1")
    [line] = lines
    assert line == (
        '{"event":"token.used","time":"2026-11-21T12:00:00.123Z","level":"INFO","requestId":"r","clientId":"c",'
        '"tokenId":"tok_1","useId":"use_1","stage":"dev","version":"1.2.3"}'
    )


def test_line_breaks_and_other_alphabets_stay_in_one_line(log: Audit, lines: list[str]) -> None:
    log.event("token.used", NOW, user='a\n{"event":"token.issued"}\u2028é')
    assert len(lines[0].split("\n")) == 1
    assert json.loads(lines[0])["user"] == 'a\n{"event":"token.issued"}\u2028é'


def test_a_count_is_an_embedded_metric_of_the_stage_and_its_facts_are_no_dimensions(
    log: Audit, lines: list[str]
) -> None:
    log.count("TokensRefused", Reason="token_expired")
    [line] = map(json.loads, lines)
    [directive] = line["_aws"]["CloudWatchMetrics"]
    assert directive == {
        "Namespace": "TokenService",
        "Dimensions": [["Stage"]],
        "Metrics": [{"Name": "TokensRefused", "Unit": "Count"}],
    }
    assert abs(line["_aws"]["Timestamp"] - datetime.now(UTC).timestamp() * 1000) < 60_000
    assert (line["Stage"], line["Reason"], line["TokensRefused"]) == ("dev", "token_expired", 1)


def test_the_reason_that_an_alarm_watches_is_counted_by_itself_as_well(log: Audit, lines: list[str]) -> None:
    log.count("TokensRefused", Reason="token_locked")
    [line] = map(json.loads, lines)
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Stage"], ["Stage", "Reason"]]


def test_what_cloudwatch_does_not_keep_is_a_member_of_the_line_alone(log: Audit, lines: list[str]) -> None:
    log.count("AuthFailed")
    log.metrics({"EventsDelivered": (7, "Count"), "EventsSetAside": (1, "Count")})
    failed, mixed = map(json.loads, lines)
    assert failed == {"Stage": "dev", "AuthFailed": 1}
    assert mixed["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "EventsSetAside", "Unit": "Count"}]
    assert (mixed["EventsDelivered"], mixed["EventsSetAside"]) == (7, 1)


def test_a_latency_is_logged_in_milliseconds_by_operation(log: Audit, lines: list[str]) -> None:
    log.latency("claim", 1.23456)
    [line] = map(json.loads, lines)
    assert line["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "StoreLatency", "Unit": "Milliseconds"}]
    assert (line["Operation"], line["StoreLatency"]) == ("claim", 1.235)


@pytest.mark.parametrize("wrap", ["{}", "x{}y", "abc{}def", "{}{}", "token={}&", "\\u0000{}"])
def test_a_token_is_redacted_at_any_place(wrap: str) -> None:
    token = secrets.token_hex(32)
    for secret in (token, token.upper()):
        assert secret not in redact(wrap.replace("{}", secret))


def test_client_secrets_and_authorization_headers_are_replaced() -> None:
    secret, _ = clients.new_secret(NOW)
    assert secret not in redact(f"user {secret}!")
    headers = ("Basic YXBwOmh1bnRlcjI=", "basic  YXBwOmh1bnRlcjI", "Basic YTo=", "bearer abcdefgh.ijklmnop")
    for header in (*headers, "Splunk 0b1c2d3e-aaaa-bbbb-cccc-ddddeeeeffff"):
        assert redact(f"Authorization: {header}!").endswith(" [credentials]!")


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


BARE: dict[str, Callable[[str], str]] = {
    "bare": lambda header: header.removeprefix("Basic "),
    "unpadded": lambda header: header.removeprefix("Basic ").rstrip("="),
    "with a colon": lambda header: header.replace(" ", ": "),
    "with an equals sign": lambda header: header.replace(" ", "="),
    "in a URL": quote,
    "in a form": lambda header: urlencode({"q": header}),
    "in a URL in a URL": lambda header: quote(quote(header)),
    "in JSON": lambda header: json.dumps(f"\n{header}"),
    "in JSON with every sign escaped": lambda header: header.replace(" ", "\\u0020").replace("=", "\\u003d"),
    "in JSON in JSON": lambda header: json.dumps(json.dumps({"Authorization": f"\t{header}"})),
    "in quotes": lambda header: header.replace(" ", ' "') + '"',
    "in capitals": lambda header: header.replace("Basic", "BASIC"),
    "in small letters": lambda header: header.replace("Basic", "basic"),
    "in base64 again": in_base64,
    "behind letters": lambda header: "abc" + header.removeprefix("Basic "),
    "before letters": lambda header: header.removeprefix("Basic ").rstrip("=") + "abc",
}


@pytest.mark.parametrize("around", ["{}", "x={}&y=1", "Authorization: {}, ", "é{}ß", "/d/{}/content"])
@pytest.mark.parametrize("shape", BARE)
@pytest.mark.parametrize("name", ["a", "ab", "abc", "demo", "back-end.1"])
def test_credentials_are_redacted_in_every_form(name: str, shape: str, around: str) -> None:
    """The length of the client's name shifts the base64 of its secret: there are three shapes of that."""
    secret, _ = clients.new_secret(NOW)
    for password in (secret, "hunter2"):
        planted = BARE[shape](f"Basic {in_base64(f'{name}:{password}')}")
        reported = to_line({"event": "token.used", "user": around.replace("{}", planted)})
        core = planted.rpartition("Basic ")[2].strip('"=')
        assert core not in reported
        assert password not in reported
        assert "[credentials]" in reported
        assert json.loads(reported)["event"] == "token.used"


@pytest.mark.parametrize("before", ["", "x", "xy"])
def test_a_token_or_a_secret_within_base64_is_found_wherever_it_begins(before: str) -> None:
    secret, _ = clients.new_secret(NOW)
    for planted in (secrets.token_hex(32), secrets.token_hex(32).upper(), secret):
        for after in ("", "y", '"}'):
            encoded = in_base64(before + planted + after)
            for text in (encoded, encoded.rstrip("="), f"_{encoded}_", f"q{encoded}", quote(encoded)):
                reported = to_line({"nodeId": text})
                assert encoded[8:40] not in reported, text


def test_a_secret_is_found_though_it_is_cut_off_escaped_or_in_capitals() -> None:
    secret, _ = clients.new_secret(NOW)
    for planted in (secret[:30], secret.replace("_", "%5F").replace("-", "%2D"), secret.upper(), f"x{secret}xyz"):
        assert redact(f"user {planted}!") in ("user [secret]!", "user x[secret]!")


@pytest.mark.parametrize("before", ["%3D", "%0a", "\\u0022", "=", "x"])
def test_a_token_keeps_its_id_behind_an_escape_and_in_capitals(before: str) -> None:
    token = secrets.token_hex(32)
    for planted in (token, token.upper()):
        assert redact(before + planted) == f"{before}[{tokens.token_id(tokens.digest(token))}]"


@pytest.mark.parametrize(
    "text",
    [
        f"tok_{'a' * 32} use_{'b' * 32} f2f42052-6e24-4c54-bc15-1e0bb6dce9f7 Basic credentials, basic abcde, Splunk 9",
        "https://documents.example/alfresco/versions/1/nodes",
        "workspace://SpacesStore/f2f42052-6e24-4c54-bc15-1e0bb6dce9f7",
        in_base64("workspace://SpacesStore/f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"),
        in_base64("Document:12345678"),
        in_base64("Document:f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"),
        in_base64("a report of November, in English: it is long"),
        "JKJaXmPLvHcESHA=",
        "Donaudampfschifffahrtsgesellschaftskapitaen",
        "extendedRequestId CloudWatchMetrics DeliveryDelayMean",
        "basic: yes, Bearer of news",
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_base64_within_base64_costs_no_more_than_other_text(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    look = redaction._redact
    monkeypatch.setattr(redaction, "_redact", lambda text, depth: looked.append(text) or look(text, depth))
    text = "x" * 200
    while len(text) < 60_000:
        text = in_base64(text)
    redact(text)
    assert sum(map(len, looked)) < 20 * len(text)


def test_a_diagnostic_is_one_json_line_without_secrets() -> None:
    token = secrets.token_hex(32)
    try:
        raise RuntimeError(f"failed for {token}")
    except RuntimeError as error:
        record = logging.LogRecord(
            "tokenservice.x", logging.ERROR, "f", 1, "%s went", ("it",), (type(error), error, None)
        )
    record.requestId = "r"
    record.lambdaRequestId = "l"
    text = JsonFormatter("dev", "1.2.3").format(record)
    line = json.loads(text)
    assert token not in text
    assert "\n" not in text
    assert (line["level"], line["message"], line["stage"]) == ("ERROR", "it went", "dev")
    assert (line["requestId"], line["lambdaRequestId"]) == ("r", "l")
    assert "RuntimeError" in line["exception"]


def test_diagnostics_of_libraries_are_kept_out_below_warning(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        audit.configure_logging("dev", "1.2.3", "DEBUG")
        logging.getLogger("botocore.auth").debug("signed request")
        logging.getLogger("tokenservice.test").debug("ours")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    reported = [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()]
    assert reported == ["ours"]


@pytest.mark.parametrize("before", ["\b", "\f", "\n", "\t", "\r", "\x01", "\\", '"', "\u2028"])
def test_text_before_a_secret_neither_hides_it_nor_breaks_the_line(log: Audit, lines: list[str], before: str) -> None:
    token, (secret, _) = secrets.token_hex(32), clients.new_secret(NOW)
    for planted in (token, secret, "Basic ZGVtbzpodW50ZXIy"):
        log.event("token.used", NOW, user=before + planted, **{before + planted: "x"})
        line = json.loads(lines.pop())
        assert planted not in str(line)
        assert line["user"].startswith(before)
    assert f"[{tokens.token_id(tokens.digest(token))}]" in redact(before + token)


def test_letters_that_only_fold_into_base64_break_no_line() -> None:
    """The long s and the Kelvin sign are what a regular expression that ignores case takes for s and k."""
    assert redact("basic \u017fecret") == "basic \u017fecret"
    assert json.loads(to_line({"user": "Basic \u212aabc"})) == {"user": "Basic \u212aabc"}


FRAGMENTS = st.lists(
    st.sampled_from(
        ["ab" * 32, "tss_" + "s" * 43, "basic", "BASIC", "Bearer", "\u017fplunk", "splunk", "ba\u017fic", "YTpi"]
    )
    | st.sampled_from(
        [in_base64("app:hunter2x"), in_base64("app:tss_" + "s" * 43), in_base64("x" + "ab" * 32), "%20", "\\u0020"]
    )
    | st.sampled_from(
        ["YWxpY2U6c2VjcmV0", "x" * 20, " ", "\t", "\n", '"', "\\", "\x7f", "\u2028", "\u212a", "n", "u0062"]
    )
    | st.text(max_size=3),
    max_size=6,
).map("".join)


@given(st.dictionaries(FRAGMENTS, FRAGMENTS | st.lists(FRAGMENTS, max_size=2) | st.integers(), max_size=4))
def test_skipping_redaction_of_a_clean_line_changes_nothing(members: dict[str, Any]) -> None:
    redacted = json.dumps(redact_all(members), ensure_ascii=False, separators=(",", ":"))
    assert to_line(members) == redacted
