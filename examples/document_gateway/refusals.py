"""The pages for links that do not open; `templates/refused.html` has their words.

Reasons that a stranger must not learn share one page.
"""

from __future__ import annotations

from collections.abc import Mapping
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
NOT_NOW: Final = Page("not-now", 503)


_BY_REASON: Final[Mapping[str | None, Page]] = {
    "token_exhausted": USED_UP,
    "token_expired": EXPIRED,
    "token_not_yet_valid": TOO_EARLY,
    # Whether it is the person or the place is the sender's business: a stranger would learn what to change.
    "user_mismatch": NOT_FOR_YOU,
    "ip_mismatch": NOT_FOR_YOU,
}


def page_of(reason: str | None) -> Page:
    """The page for a reason of the token service. Unknown, revoked and locked links look the same to a stranger."""
    return _BY_REASON.get(reason, UNKNOWN)
