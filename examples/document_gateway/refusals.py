"""The pages for links that do not open; `templates/refused.html` has their words.

Reasons that a stranger must not learn share one page.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Page(NamedTuple):
    """A page without a document, and its HTTP status."""

    name: str
    status: int


USED_UP: Final = Page("used-up", 410)
EXPIRED: Final = Page("expired", 410)
TOO_EARLY: Final = Page("too-early", 403)
NOT_FOR_YOU: Final = Page("not-for-you", 403)
UNKNOWN: Final = Page("unknown", 404)
DOCUMENT_GONE: Final = Page("document-gone", 404)
NO_SUCH_PAGE: Final = Page("no-such-page", 404)
WRONG_WAY: Final = Page("wrong-way", 400)
TOO_MANY: Final = Page("too-many", 429)
NOT_NOW: Final = Page("not-now", 503)

BY_REASON: Final[Mapping[str | None, Page]] = MappingProxyType(
    {
        "token_exhausted": USED_UP,
        "idempotency_key_reused": USED_UP,
        "token_expired": EXPIRED,
        "token_not_yet_valid": TOO_EARLY,
        # Whether it is the person or the place is the sender's business: a stranger would learn what to change.
        "user_mismatch": NOT_FOR_YOU,
        "ip_mismatch": NOT_FOR_YOU,
        # To a stranger, what never was, what was withdrawn and what was tried too often look the same.
        "token_not_found": UNKNOWN,
        "token_revoked": UNKNOWN,
        "token_locked": UNKNOWN,
        "audience_mismatch": UNKNOWN,
        "action_not_permitted": UNKNOWN,
    }
)
"""The token service's reason to the page; what is not here is `UNKNOWN`."""
