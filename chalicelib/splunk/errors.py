"""What can go wrong on the way to Splunk.

    SplunkError
    ├── MalformedEnvelope   the input can't be read; trying again will not help
    ├── Undelivered         events were not accepted; they are kept and tried again
    │   ├── OutOfTime       the collector was busy or silent until the time was up
    │   │   └── Busy        it says of itself that it is
    │   └── Misconfigured   the collector, our settings or a secret must be mended first
    └── RecordUnavailable   the failure record could not be written

No message holds a token, a payload or text that the other side wrote.
"""

from __future__ import annotations


class SplunkError(Exception):
    """Base of every error of the forwarders."""


class MalformedEnvelope(SplunkError):
    """A CloudWatch Logs subscription event that can't be decoded.

    Attributes:
        reason: what is wrong, without any of the content.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Undelivered(SplunkError):
    """Events that the collector did not accept. The invocation fails, so that Lambda keeps them.

    Attributes:
        reason: what the collector answered, or why there was no answer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OutOfTime(Undelivered):
    """The next wait or request would not fit into the time that is left."""


class Busy(OutOfTime):
    """The collector accepts nothing at present."""


class Misconfigured(Undelivered):
    """Waiting does not help: a person must mend the configuration, here or in Splunk."""


class RecordUnavailable(SplunkError):
    """The failure record did not take what was to be kept. The invocation fails, so that Lambda keeps it."""
