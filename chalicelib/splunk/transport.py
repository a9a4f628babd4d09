"""One request to the collector over verified HTTPS, with a bound on its whole duration."""

from __future__ import annotations

import ipaddress
import queue
import ssl
import threading
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast
from urllib.parse import urlsplit

import requests
import urllib3

from chalicelib.splunk.errors import Misconfigured, SplunkError
from chalicelib.splunk.hec import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT_PATH: Final = "/services/collector/event"

_CONNECT_SECONDS: Final = 5.0
_ANSWER_BYTES: Final = 64 * 1024  # an answer of the collector has some 60 bytes; a proxy's page may be long

T = TypeVar("T")


class _Session(requests.Session):
    """A session that does not even look where a redirect leads: reading its target may fail, and costs its body."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class NoAnswer(SplunkError):
    """The request may or may not have reached the collector."""


def endpoint(url: str) -> str:
    """The address that events are posted to.

    Args:
        url: scheme, host and port; a path before or up to the collector's own is kept.

    Raises:
        Misconfigured: not https (http only to this very machine), or with a user, query or fragment.
    """
    parts = urlsplit(url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise Misconfigured("SPLUNK_HEC_URL: http:// would send the HEC token in the clear; use https://")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured("SPLUNK_HEC_URL: not an https:// URL with a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Misconfigured("SPLUNK_HEC_URL: must not hold a user, a query or a fragment")
    path = parts.path.rstrip("/")
    for known in (EVENT_PATH, "/services/collector"):
        path = path.removesuffix(known)
    return f"{parts.scheme}://{parts.netloc}{path}{EVENT_PATH}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def within(seconds: float, call: Callable[[], T]) -> T:
    """Run a call and wait for it no longer than that.

    Time-outs of sockets count from byte to byte, and looking up a name has none: only this bounds the whole.
    A call that is given up goes on in its thread until its own time-outs end it.

    Raises:
        TimeoutError: it has not ended in time.
    """
    outcome: queue.SimpleQueue[tuple[bool, T | BaseException]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((True, call()))
        except BaseException as error:  # noqa: BLE001 - handed over to the waiting thread, whatever it is
            outcome.put((False, error))

    threading.Thread(target=run, name="splunk", daemon=True).start()
    try:
        succeeded, result = outcome.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        raise TimeoutError from None
    if succeeded:
        return cast("T", result)
    raise cast("BaseException", result)


class Transport:
    """Posts to one collector over connections that are kept open.

    Args:
        url: see `endpoint`.
        ca_bundle: PEM file with the authorities to trust; None: those that come with `requests`.
        now: epoch seconds, to read a date in Retry-After.

    Raises:
        Misconfigured: the address or the bundle can't be used.
    """

    def __init__(self, url: str, ca_bundle: str | None = None, now: Callable[[], float] = time.time) -> None:
        self._url = endpoint(url)
        if ca_bundle and not Path(ca_bundle).is_file():
            raise Misconfigured("SPLUNK_CA_BUNDLE: there is no such file")
        self._verify: str | bool = ca_bundle or True
        self._now = now
        self._session = self._new_session()

    def _new_session(self) -> requests.Session:
        session = _Session()
        # A .netrc would replace our Authorization header, and a variable could name other authorities.
        session.trust_env = False
        session.verify = self._verify
        session.headers["User-Agent"] = "tokenservice"
        return session

    def post(self, body: bytes, token: str, timeout_seconds: float) -> Answer:
        """Post a gzipped body.

        Raises:
            NoAnswer: none came in time, or not a whole one.
            Misconfigured: the other side can't prove who it is.
        """
        session = self._session
        try:
            return within(timeout_seconds, lambda: self._exchange(session, body, token, timeout_seconds))
        except TimeoutError:
            # The thread that was given up still owns the old session.
            self._session = self._new_session()
            raise NoAnswer("no answer in time") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if _is_certificate_error(error):
                raise Misconfigured("the collector's certificate can't be verified") from None
            raise NoAnswer(f"no answer: {type(error).__name__}") from None
        except Exception as error:  # noqa: BLE001 - whatever the other side provokes must not end the invocation
            raise NoAnswer(f"no answer: {type(error).__name__}") from None

    def _exchange(self, session: requests.Session, body: bytes, token: str, timeout_seconds: float) -> Answer:
        headers = {
            "Authorization": f"Splunk {token}",
            "Content-Encoding": "gzip",
            "Content-Type": "application/json; charset=utf-8",
        }
        timeout = (min(_CONNECT_SECONDS, timeout_seconds), timeout_seconds)
        # A redirect would take the Authorization header to a place that nobody configured.
        with session.post(
            self._url, data=body, headers=headers, timeout=timeout, allow_redirects=False, stream=True
        ) as response:
            content = b""
            for piece in response.iter_content(_ANSWER_BYTES):
                content += piece
                if len(content) >= _ANSWER_BYTES:
                    break
            retry_after = self._retry_after(response.headers.get("Retry-After"))
            return Answer(response.status_code, content, retry_after)

    def _retry_after(self, header: str | None) -> float | None:
        """Seconds to wait; the header holds seconds or a date (RFC 9110, 10.2.3)."""
        if header is None:
            return None
        header = header.strip()
        if header.isascii() and header.isdigit():
            return float(header[:9])
        try:
            return max(0.0, parsedate_to_datetime(header).timestamp() - self._now())
        except (ValueError, TypeError, OverflowError):
            return None


def _is_certificate_error(error: BaseException | None) -> bool:
    """Whether a failed check of the certificate lies at the bottom of it: time will not mend that."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        cause = pending.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        seen.add(id(cause))
        # requests and urllib3 hand causes on as arguments and as `reason`, not only as __cause__.
        pending += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return False
