"""What can go wrong on the way to Splunk.

    SplunkError
    ├── MalformedEnvelope   the input can't be read; trying again will not help
    ├── Undelivered         Splunk did not accept events; they are sent again
    │   ├── OutOfTime       the collector was busy or silent until the time was up
    │   │   └── SplunkBusy  it reported that it accepts nothing
    │   └── Misconfigured   the collector, our settings or a secret must be corrected first
    ├── RecordUnavailable   the failure record could not be written
    └── Unaccounted         events are neither delivered nor stored: a bug

No message holds a token, a payload or text of the other side.
"""

from __future__ import annotations


class SplunkError(Exception):
    """Base of every error of the forwarders."""


class MalformedEnvelope(SplunkError):
    """An input that can't be decoded. The message says what is wrong."""


class Undelivered(SplunkError):
    """Events that the collector did not accept.

    If it accepted a part of the input, the rest is stored in the failure record. If it accepted nothing, the invocation
    fails, and Lambda sends the input again.
    """


class OutOfTime(Undelivered):
    """The next wait or request would not fit into the time that is left."""


class SplunkBusy(OutOfTime):
    """The collector accepts nothing at present."""


class Misconfigured(Undelivered):
    """Waiting does not help: a person must correct the configuration, here or in Splunk."""


class Unaccounted(SplunkError):
    """Events are neither delivered nor stored, because of a bug. The invocation fails, so that Lambda keeps them."""


class RecordUnavailable(SplunkError):
    """The failure record did not confirm an entry. The invocation fails, so that Lambda keeps the input."""
