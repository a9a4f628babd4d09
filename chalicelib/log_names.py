"""The names of audit events and metrics. Dashboards, alarms and the Splunk app refer to them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Event(StrEnum):
    """What an audit event reports."""

    ISSUED = "token.issued"
    USED = "token.used"
    REFUSED = "token.refused"
    INTROSPECTED = "token.introspected"
    REVOKED = "token.revoked"
    LOCKED = "token.locked"
    AUTH_REFUSED = "auth.refused"


class Metric(StrEnum):
    """What the service measures. CloudWatch keeps those in `KEPT` as metrics; the others are members of log lines."""

    TOKENS_ISSUED = "TokensIssued"
    TOKENS_USED = "TokensUsed"
    TOKENS_REFUSED = "TokensRefused"
    AUTH_REFUSED = "AuthRefused"
    AUTH_FAILED = "AuthFailed"  # the credentials could not be checked
    STORE_LATENCY = "StoreLatency"
    EVENTS_DELIVERED = "EventsDelivered"
    EVENTS_SET_ASIDE = "EventsSetAside"
    EVENTS_FAILED = "EventsFailed"
    EVENTS_BLANK = "EventsBlank"
    REQUESTS_RETRIED = "RequestsRetried"
    DELIVERY_DELAY_MAX = "DeliveryDelayMax"
    DELIVERY_DELAY_MEAN = "DeliveryDelayMean"
    ENTRIES_WAITING = "EntriesWaiting"


KEPT: Final = frozenset(
    {
        # Promised to users: their dashboards name them.
        Metric.TOKENS_ISSUED,
        Metric.TOKENS_USED,
        Metric.TOKENS_REFUSED,
        Metric.AUTH_REFUSED,
        Metric.STORE_LATENCY,
        # For alarms.
        Metric.EVENTS_SET_ASIDE,
        Metric.ENTRIES_WAITING,
    }
)
"""CloudWatch charges each of these, by stage, for every hour in which it has a value."""

WATCHED_REASON: Final = "token_locked"
"""The one reason of `TokensRefused` that an alarm watches, so the one with a metric of its own."""
