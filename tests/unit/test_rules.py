"""The rules of a use, held against `decide()` alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from chalicelib import addresses, instants, tokens
from chalicelib.tokens import Action, Claim, Document, Grant, Reason, Refusal, Terms, Token, Use

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def a_token(**terms: object) -> Token:
    facts: dict[str, object] = {"document": Document("node"), "expires_at": NOW + timedelta(minutes=5), **terms}
    hashed = tokens.digest("a" * 64)
    return Token(tokens.token_id(hashed), hashed, "issuer", NOW - SECOND, Terms(**facts))


def a_use(**facts: object) -> Use:
    return tokens.new_use("a" * 64, "client", **facts)


def with_claims(token: Token, *claims: Claim) -> Token:
    return replace(token, claims=claims)


def reason(token: Token | None, use: Use, now: datetime = NOW, issued_after: datetime | None = None) -> Reason | None:
    decision = tokens.decide(token, use, now, issued_after)
    return decision.reason if isinstance(decision, Refusal) else None


def test_a_plain_token_is_granted_to_anyone_and_for_its_action() -> None:
    assert reason(a_token(), a_use()) is None
    assert reason(a_token(), a_use(user="alice", action=Action.DOWNLOAD)) is None


def test_a_token_with_the_same_id_but_another_digest_is_not_found() -> None:
    forged = replace(a_token(), digest="0" * 64)
    assert reason(forged, a_use()) is Reason.NOT_FOUND
    assert reason(None, a_use()) is Reason.NOT_FOUND


def test_a_token_is_refused_from_the_very_instant_it_expires() -> None:
    token = a_token(expires_at=NOW)
    assert reason(token, a_use(), NOW - timedelta(milliseconds=1)) is None
    assert reason(token, a_use(), NOW) is Reason.EXPIRED


def test_a_token_is_granted_from_the_very_instant_it_becomes_valid() -> None:
    token = a_token(not_before=NOW)
    assert reason(token, a_use(), NOW - timedelta(milliseconds=1)) is Reason.NOT_YET_VALID
    assert reason(token, a_use(), NOW) is None


@pytest.mark.parametrize("user", [None, "", "bob", "Alice", "alice "])
def test_a_token_for_a_user_is_refused_for_every_other_and_for_none(user: str | None) -> None:
    assert reason(a_token(user="alice"), a_use(user=user)) is Reason.USER
    assert reason(a_token(user="alice"), a_use(user="alice")) is None


def test_a_token_bound_to_addresses_is_refused_elsewhere_and_for_none() -> None:
    token = a_token(networks=frozenset(map(addresses.parse_network, ["10.0.0.0/8", "2001:db8::/32"])))
    for inside in ("10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3"):
        assert reason(token, a_use(address=addresses.parse_address(inside))) is None
    for outside in ("11.0.0.0", "2001:db9::1"):
        assert reason(token, a_use(address=addresses.parse_address(outside))) is Reason.ADDRESS
    assert reason(token, a_use()) is Reason.ADDRESS


def test_a_requested_action_must_be_one_of_the_tokens() -> None:
    token = a_token(actions=frozenset({Action.PREVIEW, Action.EDIT}))
    assert reason(token, a_use(action=Action.DOWNLOAD)) is Reason.ACTION
    assert reason(token, a_use(action=Action.EDIT)) is None
    assert reason(token, a_use()) is None


def test_only_the_audience_may_use_a_token() -> None:
    assert reason(a_token(audience=frozenset({"other"})), a_use()) is Reason.AUDIENCE
    assert reason(a_token(audience=frozenset({"other", "client"})), a_use()) is None


def test_a_token_is_granted_as_often_as_it_may_be_used_and_no_more() -> None:
    token = a_token(max_uses=2)
    for expected in (2, 1):
        decision = tokens.decide(token, a_use(), NOW)
        assert isinstance(decision, Grant)
        assert decision.uses_remaining == expected
        token = with_claims(token, *token.claims, a_use().claim(NOW))
    assert reason(token, a_use()) is Reason.EXHAUSTED


def test_tokens_issued_before_the_watermark_count_as_revoked() -> None:
    assert reason(a_token(), a_use(), issued_after=NOW) is Reason.REVOKED
    assert reason(a_token(), a_use(), issued_after=NOW - SECOND) is None


def test_of_several_reasons_the_first_of_the_contract_is_returned() -> None:
    """Every obstacle is put up at once and then taken away one by one, in the contract's order."""
    spent = tuple(tokens.new_use("b" * 64, "client").claim(NOW) for _ in range(2))
    wrong = a_use(user="bob", address=addresses.parse_address("192.0.2.1"), action=Action.EDIT)
    token = replace(
        a_token(
            expires_at=NOW,
            not_before=NOW + SECOND,
            audience=frozenset({"other"}),
            user="alice",
            networks=frozenset({addresses.parse_network("10.0.0.0/8")}),
            max_uses=2,
        ),
        revoked_at=NOW,
        mismatches=5,
        claims=spent,
    )
    steps = [
        (Reason.REVOKED, {"revoked_at": None}),
        (Reason.LOCKED, {"mismatches": 4}),
        (Reason.EXPIRED, {"expires_at": NOW + 2 * SECOND}),
        (Reason.NOT_YET_VALID, {"not_before": None}),
        (Reason.AUDIENCE, {"audience": frozenset()}),
        (Reason.USER, {"user": None}),
        (Reason.ADDRESS, {"networks": frozenset()}),
        (Reason.ACTION, {"actions": frozenset(Action)}),
        (Reason.EXHAUSTED, {"claims": ()}),
    ]
    for expected, removal in steps:
        assert reason(token, wrong) is expected
        of_terms = {name: value for name, value in removal.items() if hasattr(token.terms, name)}
        of_token = {name: value for name, value in removal.items() if name not in of_terms}
        token = replace(token, terms=replace(token.terms, **of_terms), **of_token)
    assert reason(token, wrong) is None


class TestRepetition:
    """A request that comes again with its idempotency key."""

    def first(self, **facts: object) -> tuple[Token, Use]:
        use = a_use(idempotency_key="key", **facts)
        return with_claims(a_token(), use.claim(NOW)), use

    def again(self, **facts: object) -> Use:
        return a_use(idempotency_key="key", **facts)

    def test_the_request_that_made_the_claim_finds_it_as_its_own(self) -> None:
        token, use = self.first()
        decision = tokens.decide(token, use, NOW)
        assert isinstance(decision, Grant)
        assert decision.claim == token.claims[0]
        assert not decision.replayed

    def test_a_repetition_gets_the_grant_again_though_the_token_is_used_up(self) -> None:
        token, _ = self.first(user="alice")
        decision = tokens.decide(token, self.again(user="alice"), NOW)
        assert isinstance(decision, Grant)
        assert decision.replayed
        assert decision.uses_remaining == 0

    def test_a_replay_returns_the_uses_that_were_left_then(self) -> None:
        first, later = self.again(), a_use()
        token = with_claims(a_token(max_uses=3), first.claim(NOW), later.claim(NOW))
        decision = tokens.decide(token, self.again(), NOW + SECOND)
        assert isinstance(decision, Grant)
        assert decision.uses_remaining == 2
        assert Grant(token, token.claims[1]).uses_remaining == 1

    def test_expiry_does_not_stop_a_repetition(self) -> None:
        token, _ = self.first()
        expired = replace(token, terms=replace(token.terms, expires_at=NOW + SECOND))
        assert reason(expired, self.again(), NOW + 2 * SECOND) is None

    def test_revocation_and_locking_stop_a_repetition(self) -> None:
        token, _ = self.first()
        assert reason(replace(token, revoked_at=NOW), self.again()) is Reason.REVOKED
        assert reason(replace(token, mismatches=5), self.again()) is Reason.LOCKED
        assert reason(token, self.again(), issued_after=NOW) is Reason.REVOKED

    def test_the_request_that_made_the_claim_is_granted_whatever_came_after_it(self) -> None:
        token, use = self.first()
        for since in (replace(token, revoked_at=NOW), replace(token, mismatches=5)):
            assert tokens.decide(since, use, NOW) == Grant(since, since.claims[0])

    @pytest.mark.parametrize(
        "other",
        [{"user": "bob"}, {"action": Action.DOWNLOAD}, {"address": addresses.parse_address("10.0.0.1")}, {}],
    )
    def test_the_same_key_with_another_body_is_refused(self, other: dict[str, object]) -> None:
        token, _ = self.first(user="alice")
        assert reason(token, self.again(**other)) is Reason.KEY_REUSED

    def test_a_key_may_be_repeated_for_ten_minutes_and_not_at_their_end(self) -> None:
        token, _ = self.first()
        window = timedelta(minutes=10)
        assert reason(token, self.again(), NOW + window - timedelta(milliseconds=1)) is None
        assert reason(token, self.again(), NOW + window) is Reason.KEY_REUSED

    def test_a_key_belongs_to_one_client_and_one_token(self) -> None:
        ids = {
            tokens.new_use(token, client, idempotency_key=key).claim_id
            for token, client, key in [
                ("a" * 64, "client", "key"),
                ("b" * 64, "client", "key"),
                ("a" * 64, "client2", "key"),
                ("a" * 64, "client", "key2"),
                ("a" * 64, "client", "2key"),
            ]
        }
        assert len(ids) == 5

    def test_without_a_key_every_request_is_its_own(self) -> None:
        assert len({a_use().claim_id for _ in range(100)}) == 100

    @pytest.mark.parametrize("key", [None, "k"])
    def test_a_claims_id_has_32_hex_characters_behind_its_prefix(self, key: str | None) -> None:
        assert re.fullmatch(r"use_[0-9a-f]{32}", a_use(idempotency_key=key).claim_id)

    def test_the_claim_id_of_a_key_is_the_same_in_every_version(self) -> None:
        assert a_use(idempotency_key="key").claim_id == "use_8f416f5364cbe3f412533c71e9fee1f0"


def test_the_digest_of_an_event_is_as_logs_already_hold_it() -> None:
    at = instants.epoch_ms(datetime(2026, 11, 27, 12, 0, 0, 1999, tzinfo=UTC))
    assert at == 1_795_780_800_001
    assert tokens.link("tok_1", at, "app", None, "ann") == "926dfeaa74972c8303aa672518ff0e7a"


def test_a_new_token_is_64_hex_characters_and_only_its_digest_is_kept() -> None:
    secret, token = tokens.new_token("issuer", a_token().terms, NOW)
    assert len(secret) == 64
    assert set(secret) <= set("0123456789abcdef")
    assert token.digest == tokens.digest(secret)
    assert token.id == "tok_" + token.digest[:32]
    assert secret not in repr(token)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (addresses.parse_address, "fe80::1%eth0", "an address with a zone names an interface of one machine only"),
        (addresses.parse_network, "fe80::1%eth0", "an address with a zone names an interface of one machine only"),
        (addresses.parse_network, "10.0.0.0/x", "the prefix of a range is a number, for example 10.0.0.0/8"),
    ],
)
def test_the_message_names_what_is_wrong_with_an_address_or_range(
    parse: Callable[[str], object], text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse(text)
