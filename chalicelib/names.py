"""The names of audit events and metrics. Dashboards, alarms and the Splunk app refer to them."""

from __future__ import annotations

from enum import StrEnum


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
    """A metric in CloudWatch."""

    TOKENS_ISSUED = "TokensIssued"
    TOKENS_USED = "TokensUsed"
    TOKENS_REFUSED = "TokensRefused"
    AUTH_REFUSED = "AuthRefused"
    AUTH_FAILED = "AuthFailed"
    STORE_LATENCY = "StoreLatency"
    EVENTS_RECEIVED = "EventsReceived"
    EVENTS_DELIVERED = "EventsDelivered"
    EVENTS_SET_ASIDE = "EventsSetAside"
    EVENTS_FAILED = "EventsFailed"
    EVENTS_BLANK = "EventsBlank"
    REQUESTS_RETRIED = "RequestsRetried"
    DELIVERY_DELAY_MAX = "DeliveryDelayMax"
    DELIVERY_DELAY_MEAN = "DeliveryDelayMean"
    ENTRIES_REPLAYED = "EntriesReplayed"
    ENTRIES_REFUSED = "EntriesRefused"
    ENTRIES_WAITING = "EntriesWaiting"
