"""Two signed cookies, stored by browsers. The gateway stores nothing.

A visit begins when the page with the button is shown. Its number is the idempotency key of the use, so pressing twice,
or again after a lost answer, is one use. A lease begins when a use was granted: for its time, the same browser may
fetch the document again, whole or in ranges. Each fetch calls the token service again with the same key, which repeats
the grant and spends nothing; so a lease needs no document id in it, and a revoked token ends it at once.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from itsdangerous import BadData, URLSafeTimedSerializer

from examples.document_gateway.person import Person

LEASE_SECONDS: Final = 540
"""Less than the ten minutes in which the token service repeats a grant."""
VISIT_SECONDS: Final = 12 * 3600
"""How long a page may stand open before its button is pressed."""
FRESH_VISIT_SECONDS: Final = 300
"""How long another page of the same link belongs to the same visit."""


class Lease(NamedTuple):
    """A use that was granted, for a while.

    Attributes:
        number: the visit's, and so the idempotency key.
        address: the person's when the use was granted; a repetition must have the same.
        name: what the document is called.
    """

    number: str
    address: str
    name: str


def token_id(token: str) -> str:
    """The id of a token, which may be stored and logged. Source: the service's contract."""
    return "tok_" + hashlib.sha256(token.encode()).hexdigest()[:32]


class Leases:
    """Signs visits and leases for one token and one person, and reads back only what was signed for the same.

    What is another's, too old or not ours is read as None.
    """

    def __init__(self, secret: str, token: str, who: Person) -> None:
        signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        self._serializer = URLSafeTimedSerializer(secret, salt="document-gateway", signer_kwargs=signer)
        self._owner = [token_id(token), who.user]

    def sign_visit(self, number: str) -> str:
        return self._sign("visit", number)

    def read_visit(self, signed: str, max_age_seconds: int = VISIT_SECONDS) -> str | None:
        members = self._read("visit", signed, max_age_seconds)
        return members[0] if members else None

    def sign_lease(self, lease: Lease) -> str:
        return self._sign("lease", *lease)

    def read_lease(self, signed: str) -> Lease | None:
        members = self._read("lease", signed, LEASE_SECONDS)
        return Lease(*members) if members else None

    def _sign(self, purpose: str, *members: str) -> str:
        return str(self._serializer.dumps([purpose, *self._owner, *members]))

    def _read(self, purpose: str, signed: str, max_age_seconds: int) -> list[str] | None:
        try:
            begin, members = [purpose, *self._owner], self._serializer.loads(signed, max_age=max_age_seconds)
        except BadData:
            return None
        return members[len(begin) :] if members[: len(begin)] == begin else None
