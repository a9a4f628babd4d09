"""The gateway's parts without a network: who the person is, what browsers store, settings."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from chalicelib.tokens import REPLAY_WINDOW, Reason, new_use
from examples.document_gateway import leases, log, refusals
from examples.document_gateway.leases import Lease, Leases
from examples.document_gateway.person import Person, UntrustedWay, person
from examples.document_gateway.settings import Settings, SettingsError

ROOT = Path(__file__).resolve().parents[2]
GATEWAY = ROOT / "examples" / "document_gateway"
SETTING = re.compile(r"`([A-Z_]+)`")
TOKEN = "ab" * 32
ALICE = Person("192.0.2.7", "alice")
ENVIRON = {
    "TOKENSERVICE_URL": "https://tokens.example",
    "TOKENSERVICE_USER": "gateway",
    "TOKENSERVICE_PASSWORD": "tss_" + "p" * 43,
    "CONTENT_URL": "https://alfresco.example",
    "CONTENT_USER": "reader",
    "CONTENT_PASSWORD": "content-password",
    "GATEWAY_SECRET": "s" * 32,
    "PUBLIC_URL": "https://documents.example",
}


def environ(forwarded: str | None = None, user: bytes | None = None, peer: str = "198.51.100.9") -> dict[str, Any]:
    environ = {"REMOTE_ADDR": peer}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    if user is not None:
        environ["HTTP_X_PERSON"] = user.decode("latin-1")
    return environ


@pytest.mark.parametrize(
    ("forwarded", "hops", "address"),
    [
        ("192.0.2.7", 0, "198.51.100.9"),
        ("192.0.2.7", 1, "192.0.2.7"),
        ("203.0.113.9, 192.0.2.7", 1, "192.0.2.7"),
        ("203.0.113.9,192.0.2.7, 10.0.0.1", 2, "192.0.2.7"),
        ("alice, 192.0.2.7", 1, "192.0.2.7"),
        ("192.0.2.7:51234", 1, "192.0.2.7"),
        ("[2001:db8::7]:51234", 1, "2001:db8::7"),
        ("[2001:db8::7]", 1, "2001:db8::7"),
        ("2001:DB8:0::7", 1, "2001:db8::7"),
        ("fe80::1%eth0", 1, "fe80::1"),
    ],
)
def test_the_address_is_what_the_outermost_proxy_of_ours_saw(forwarded: str, hops: int, address: str) -> None:
    assert person(environ(forwarded), hops, None).address == address


@pytest.mark.parametrize(
    ("forwarded", "hops"),
    [(None, 1), ("", 1), ("192.0.2.7", 2), ("unknown", 1), ("192.0.2.7, x", 1), ("192.0.2.007", 1)],
)
def test_a_request_that_came_another_way_is_not_believed(forwarded: str | None, hops: int) -> None:
    with pytest.raises(UntrustedWay):
        person(environ(forwarded), hops, None)


@pytest.mark.parametrize(
    ("sent", "user"), [("größe".encode(), "größe"), (b" alice ", "alice"), (b"", None), (None, None), (b" ", None)]
)
def test_a_proxy_sends_the_name_of_the_person(sent: bytes | None, user: str | None) -> None:
    assert person(environ("192.0.2.7", sent), 1, "X-Person").user == user
    # Without a proxy of ours the header is anybody's word.
    assert person(environ("192.0.2.7", sent), 0, "X-Person").user is None


@pytest.mark.parametrize("sent", [b"\xff", b"a\x00b", b"a\tb", b"a" * 257, "a\u202eb".encode()])
def test_a_name_that_is_none_is_refused(sent: bytes) -> None:
    with pytest.raises(UntrustedWay):
        person(environ("192.0.2.7", sent), 1, "X-Person")


VISIT = "7" * 32
LEASE = Lease(VISIT, "192.0.2.7", "Report.pdf")
OURS = Leases("s" * 32, TOKEN, ALICE)


def test_what_was_signed_for_another_purpose_or_by_another_secret_or_changed_is_nothing() -> None:
    """Others' tokens, names and browsers are tried in tests/e2e/test_document_gateway.py."""
    signed = OURS.sign_lease(LEASE)
    others = Leases("t" * 32, TOKEN, ALICE).sign_lease(LEASE)
    for text in (OURS.sign_visit(VISIT), others, "", "x", signed[:-2], "A" + signed, signed + ".", signed * 100):
        assert OURS.read_lease(text) is None
    assert OURS.read_visit(signed) is None


def test_what_is_signed_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lease, visit = OURS.sign_lease(LEASE), OURS.sign_visit(VISIT)
    signed_at = leases.URLSafeTimedSerializer.default_signer("x").get_timestamp()
    clock = "itsdangerous.timed.TimestampSigner.get_timestamp"
    for later, lease_holds, visit_holds in ((539, True, True), (545, False, True), (12 * 3600 + 9, False, False)):
        monkeypatch.setattr(clock, lambda _, later=later: signed_at + later)
        assert (OURS.read_lease(lease) is not None) is lease_holds
        assert (OURS.read_visit(visit) is not None) is visit_holds
    monkeypatch.setattr(clock, lambda _: signed_at - 10)
    assert OURS.read_lease(lease) is None


def test_times_fit_into_that_in_which_the_service_repeats_a_grant() -> None:
    assert REPLAY_WINDOW.total_seconds() > leases.LEASE_SECONDS
    assert REPLAY_WINDOW.total_seconds() > leases.FRESH_VISIT_SECONDS


def test_what_browsers_keep_holds_no_token_and_no_secret() -> None:
    for signed in (OURS.sign_lease(LEASE), OURS.sign_visit(VISIT)):
        assert TOKEN not in signed
        assert "s" * 32 not in signed
    assert leases.token_id(TOKEN) == new_use(TOKEN, "gateway").token_id


def test_every_reason_of_the_service_has_a_page() -> None:
    assert set(refusals.BY_REASON) == set(Reason)
    words = (GATEWAY / "templates" / "refused.html").read_text("utf-8")
    pages = {page.name for page in vars(refusals).values() if isinstance(page, refusals.Page)}
    assert set(re.findall(r'^  "([a-z-]+)": ', words, re.MULTILINE)) == pages


def test_settings_are_read_and_their_secrets_not_shown() -> None:
    settings = Settings.from_environ({**ENVIRON, "TRUSTED_HOPS": "1", "USER_HEADER": "X-Person"})
    assert (settings.host, settings.port, settings.is_https, settings.trusted_hops) == ("127.0.0.1", 8080, True, 1)
    assert Settings.from_environ({**ENVIRON, "LISTEN": "[::1]:81"}).host == "::1"
    for secret in ("TOKENSERVICE_PASSWORD", "CONTENT_PASSWORD", "GATEWAY_SECRET"):
        assert ENVIRON[secret] not in repr(settings)


@pytest.mark.parametrize("name", ENVIRON)
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: missing$"):
        Settings.from_environ({**ENVIRON, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_SECRET", "secret"),
        ("PUBLIC_URL", "http://documents.example"),
        ("PUBLIC_URL", "documents.example"),
        ("PUBLIC_URL", "https://a:secret@b.example"),
        ("CONTENT_URL", "http://alfresco.example"),
        ("CONTENT_URL", "https://[secret"),
        ("CONTENT_URL", "https://alfresco.example:0"),
        ("TRUSTED_HOPS", "-1"),
        ("TRUSTED_HOPS", "6"),
        ("TRUSTED_HOPS", "one"),
        ("USER_HEADER", "X Person"),
        ("USER_HEADER", "X-Person"),
        ("LISTEN", "8080"),
        ("LISTEN", "localhost:8080"),
        ("LISTEN", "127.0.0.1:0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_in_one_line(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: [^\n]+$") as refused:
        Settings.from_environ({**ENVIRON, name: value})
    assert "secret" not in str(refused.value)


def test_content_within_one_s_own_network_may_come_without_tls_if_a_setting_allows_it() -> None:
    assert Settings.from_environ({**ENVIRON, "CONTENT_URL": "http://alfresco:8080", "CONTENT_INSECURE": "yes"})


def test_the_readme_lists_every_setting_and_no_other() -> None:
    names_read: set[str] = set()

    class Recorder(dict[str, str]):
        def get(self, name: str, default: str = "") -> str:
            names_read.add(name)
            return ENVIRON.get(name, default)

    Settings.from_environ(Recorder())
    readme = (GATEWAY / "README.md").read_text("utf-8")
    rows = readme.partition("## Settings")[2].partition("\n## ")[0]
    names = [row.split("|")[1] for row in rows.splitlines() if row.startswith("|")]
    assert set(SETTING.findall(" ".join(names))) == names_read


def test_no_log_line_holds_what_looks_like_a_token() -> None:
    try:
        raise ValueError(f"/d/{TOKEN}")
    except ValueError as error:
        kind = (type(error), error, error.__traceback__)
    record = logging.LogRecord("waitress", logging.ERROR, "", 0, "serving /d/%s", (TOKEN,), kind)
    record.facts = {"more": TOKEN.upper()}
    assert TOKEN not in log.JsonFormatter().format(record).lower()
