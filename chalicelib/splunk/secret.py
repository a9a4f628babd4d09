"""The HEC token: read when needed, cached for a while, read again after it was rejected.

If it can't be read again, the cached value is used: Splunk decides about it. A delivery waits at most a second for a
newer value, and after a failure the following ones do not wait at all for a while.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final

from chalicelib.aws.errors import AwsError
from chalicelib.splunk.errors import Misconfigured
from chalicelib.splunk.transport import within

if TYPE_CHECKING:
    from collections.abc import Callable

TTL_SECONDS: Final = 300.0
# How long a delivery waits for a newer value while one is cached.
RENEWAL_SECONDS: Final = 1.0
# How long no delivery tries to renew it after that failed.
PAUSE_SECONDS: Final = 60.0

_LOG = logging.getLogger("tokenservice.splunk")


class HecToken:
    """A secret with a time to live.

    Args:
        read: fetches the secret; raises Misconfigured when it can't.
        ttl_seconds: how long a value is used before it is read again.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        read: Callable[[], str],
        ttl_seconds: float = TTL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._value: str | None = None
        self._renew_at = 0.0

    def __repr__(self) -> str:
        return "HecToken()"

    def get(self, within_seconds: float) -> str:
        """The secret.

        Raises:
            Misconfigured: it can't be read, or not in time, and was never read before.
        """
        if self._value is None:
            self._read_within(within_seconds)
        elif self._clock() >= self._renew_at:
            self.renew(within_seconds)
        assert self._value is not None  # noqa: S101 - it was read, or that failed
        return self._value

    def renew(self, within_seconds: float) -> None:
        """Try to read a newer value than the cached one, in a second at most."""
        try:
            self._read_within(min(within_seconds, RENEWAL_SECONDS))
        except Misconfigured as error:
            _LOG.warning("the HEC token can't be renewed; the cached one is used: %s", error)
            self._renew_at = self._clock() + PAUSE_SECONDS

    def _read_within(self, seconds: float) -> None:
        try:
            within(seconds, self._read_now)
        except TimeoutError:
            raise Misconfigured("the HEC token could not be read in time") from None

    def _read_now(self) -> None:
        """Read and cache it. If it comes after the time is up, the next delivery uses it."""
        value = self._read().strip()
        # Anything else could smuggle a header into the request.
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise Misconfigured("the HEC token is empty or holds characters that no token has")
        self._value = value
        self._renew_at = self._clock() + self._ttl_seconds


def fixed(value: str) -> Callable[[], str]:
    """A secret that is given, for local use."""
    return lambda: value


def from_parameter(name: str, client: Any = None) -> Callable[[], str]:
    """A secret in AWS Systems Manager's Parameter Store, a SecureString.

    Args:
        client: called like botocore's SSM client, but raises our errors; None means our own, made at the first read.

    Source: AWS Systems Manager API reference, GetParameter.
    """

    def read() -> str:
        nonlocal client

        try:
            if client is None:
                from chalicelib.aws.services import Ssm  # noqa: PLC0415 - a token that is given needs none of it

                client = Ssm.from_environ(os.environ)
            return str(client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
        except AwsError as error:
            raise Misconfigured(f"the HEC token can't be read from parameter {name!r}: {error.why}") from None
        except (KeyError, TypeError):
            raise Misconfigured(f"the HEC token can't be read from parameter {name!r}: no value") from None

    return read
