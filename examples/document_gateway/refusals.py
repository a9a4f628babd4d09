"""The pages for links that do not open. Reasons that a stranger must not learn share one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Page:
    """A page without a document.

    Attributes:
        name: for the log and for tests.
        status: HTTP status.
        title: what is so.
        text: what the person can do.
    """

    name: str
    status: int
    title: str
    text: str


USED_UP: Final = Page(
    "used-up",
    410,
    "This link has been used",
    "It opened as often as it was meant to. If that was not you, or if you need the document again, "
    "ask the person who sent it for a new link.",
)
EXPIRED: Final = Page(
    "expired",
    410,
    "This link has expired",
    "It was good for a limited time. Ask the person who sent it for a new link.",
)
TOO_EARLY: Final = Page(
    "too-early",
    403,
    "This link does not open yet",
    "The sender set a time from which it opens. Come back later; the link stays as it is.",
)
NOT_FOR_YOU: Final = Page(
    "not-for-you",
    403,
    "This link is not for you to open here",
    "It was made for someone else, or for another place. If it was sent to you, sign in as yourself, "
    "try from your usual network, or ask the sender.",
)
UNKNOWN: Final = Page(
    "unknown",
    404,
    "This link does not work",
    "It is not complete, or it was withdrawn. Copy it again in full, or ask the person who sent it for a new one.",
)
DOCUMENT_GONE: Final = Page(
    "document-gone",
    404,
    "The document is no longer there",
    "The link is fine, but what it stands for was moved or deleted. Ask the person who sent it.",
)
NOT_NOW: Final = Page(
    "not-now",
    503,
    "The document can't be opened right now",
    "This is our fault and not the link's. Wait a minute and try again; trying again does not use the link up.",
)
TOO_MANY: Final = Page(
    "too-many",
    429,
    "Too many downloads at once",
    "Wait until one of them has ended, then open the link again. Waiting does not use the link up.",
)
WRONG_WAY: Final = Page(
    "wrong-way",
    400,
    "This request can't be understood",
    "Open the link again, as it was sent to you.",
)
NO_SUCH_PAGE: Final = Page("no-such-page", 404, "There is nothing here", "Open the link as it was sent to you.")

BY_REASON: Final[Mapping[str, Page]] = MappingProxyType(
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


def page_for(reason: str | None) -> Page:
    """The page for a reason; `UNKNOWN` for one that this version does not know."""
    return BY_REASON.get(reason or "", UNKNOWN)
