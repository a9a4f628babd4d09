"""The HEC token: read when needed, kept for a while, read anew after it was refused."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from chalicelib.aws.signing import NoCredentials
from chalicelib.splunk.errors import Misconfigured
from chalicelib.splunk.transport import within

if TYPE_CHECKING:
    from collections.abc import Callable

TTL_SECONDS: Final = 300.0


class Secret:
    """A secret with a time to live.

    Args:
        read: fetches the secret; raises Misconfigured when it can't.
        ttl_seconds: how long a value is used before it is read anew.
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
        self._read_at = 0.0

    def __repr__(self) -> str:
        return "Secret()"

    def get(self, within_seconds: float) -> str:
        """The secret.

        A value past its time is still used while no newer one can be read: Splunk has the last word.

        Raises:
            Misconfigured: it can't be read, or not in time, and was never read before.
        """
        if self._value is None:
            return self.renew(within_seconds)
        if self._clock() - self._read_at >= self._ttl_seconds:
            try:
                return self.renew(within_seconds)
            except Misconfigured:
                pass
        return self._value

    def renew(self, within_seconds: float) -> str:
        """Read the secret anew, whatever its age.

        Raises:
            Misconfigured: it can't be read, or not in time.
        """
        try:
            value = within(within_seconds, self._read).strip()
        except TimeoutError:
            raise Misconfigured("the HEC token could not be read in time") from None
        # Anything else could smuggle a header into the request.
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise Misconfigured("the HEC token is empty or holds characters that no token has")
        self._value, self._read_at = value, self._clock()
        return value


def fixed(value: str) -> Callable[[], str]:
    """A secret that is given, for local use."""
    return lambda: value


def from_parameter(name: str, client: Any = None) -> Callable[[], str]:
    """A secret in AWS Systems Manager's Parameter Store, a SecureString.

    Args:
        client: an SSM client of botocore; None: our own, made at the first read.

    Source: AWS Systems Manager API reference, GetParameter.
    """

    def read() -> str:
        nonlocal client
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - or what stands in for it

        try:
            if client is None:
                from chalicelib.aws.services import Ssm  # noqa: PLC0415 - a token that is given needs none of it

                client = Ssm.from_environ(os.environ)
            answer = client.get_parameter(Name=name, WithDecryption=True)
        except ClientError as error:
            why = error.response.get("Error", {}).get("Code", "unknown error")
            raise Misconfigured(f"the HEC token can't be read from parameter {name!r}: {why}") from None
        except BotoCoreError as error:
            why = type(error).__name__
            raise Misconfigured(f"the HEC token can't be read from parameter {name!r}: {why}") from None
        except NoCredentials as error:
            raise Misconfigured(f"the HEC token can't be read from parameter {name!r}: {error}") from None
        return str(answer["Parameter"]["Value"])

    return read
