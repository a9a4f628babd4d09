"""What the gateway lets browsers keep: signed cookies and a signed field of the form. It stores nothing itself.

A visit begins when the page with the button is shown. Its number is the idempotency key of the use, so pressing twice,
or again after a lost answer, is one use. A lease begins when a use was granted: for its time, the same browser may
fetch the document again, whole or in ranges. Each fetch asks the token service again with the same key, which repeats
the grant and spends nothing; so a lease needs no document id in it, and a revoked token ends it at once.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Final

from itsdangerous import BadData, URLSafeTimedSerializer

from examples.document_gateway.person import Person

LEASE_SECONDS: Final = 540
"""Less than the ten minutes in which the token service repeats a grant."""
VISIT_SECONDS: Final = 12 * 3600
"""How long a page may stand open before its button is pressed."""
FRESH_VISIT_SECONDS: Final = 300
"""How long another page of the same link belongs to the same visit."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One person looking at one link in one browser."""

    number: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A use that was granted, for a while.

    Attributes:
        number: the visit's, and so the idempotency key.
        address: the person's when the use was granted; a repetition must say the same.
        name: what the document is called.
    """

    number: str
    address: str
    name: str


def token_id(token: str) -> str:
    """What may be kept and logged of a token. Source: the service's contract."""
    return "tok_" + hashlib.sha256(token.encode()).hexdigest()[:32]


class Leases:
    """Signs visits and leases for one token and one person, and reads back only what was signed for the same.

    Args:
        secret: HMAC-SHA256 is keyed with what is derived from it for each purpose.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def new_visit(self) -> Visit:
        """Begin a visit."""
        return Visit(secrets.token_hex(16))

    def sign_visit(self, visit: Visit, token: str, who: Person) -> str:
        """The visit as its cookie holds it."""
        return self._sign("visit", {**_whose(token, who), "n": visit.number})

    def read_visit(self, signed: str, token: str, who: Person, max_age_seconds: int = VISIT_SECONDS) -> Visit | None:
        """The visit in a cookie; None where it is another's, too old, or not ours."""
        found = self._read("visit", signed, max_age_seconds, _whose(token, who))
        return Visit(found["n"]) if found else None

    def sign_form(self, visit: Visit, token: str, who: Person) -> str:
        """The field that shows that the form was ours, for this very browser."""
        return self._sign("form", {**_whose(token, who), "n": visit.number})

    def is_form_of(self, signed: str, visit: Visit, token: str, who: Person) -> bool:
        """Whether the field and the cookie are of the same visit."""
        found = self._read("form", signed, VISIT_SECONDS, _whose(token, who))
        return found is not None and found["n"] == visit.number

    def sign_lease(self, lease: Lease, token: str, who: Person) -> str:
        """The lease as its cookie holds it."""
        return self._sign("lease", {**_whose(token, who), "n": lease.number, "a": lease.address, "d": lease.name})

    def read_lease(self, signed: str, token: str, who: Person) -> Lease | None:
        """The lease in a cookie; None where it is another's, over, or not ours."""
        found = self._read("lease", signed, LEASE_SECONDS, _whose(token, who))
        return Lease(found["n"], found["a"], found["d"]) if found else None

    def _serializer(self, purpose: str) -> URLSafeTimedSerializer:
        signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return URLSafeTimedSerializer(self._secret, salt=f"document-gateway.{purpose}", signer_kwargs=signer)

    def _sign(self, purpose: str, members: dict[str, Any]) -> str:
        return self._serializer(purpose).dumps(members)

    def _read(self, purpose: str, signed: str, max_age: int, whose: dict[str, Any]) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._serializer(purpose).loads(signed, max_age=max_age)
        except BadData:
            return None
        return found if whose.items() <= found.items() else None


def _whose(token: str, who: Person) -> dict[str, Any]:
    return {"t": token_id(token), "u": who.user}
