"""One request to the collector over verified HTTPS, with a limit on its whole duration."""

from __future__ import annotations

import errno
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import requests

from chalicelib.splunk.errors import Misconfigured, SplunkError
from chalicelib.splunk.verdicts import Answer, CollectorVerdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENT_PATH: Final = "/services/collector/event"
# Paths of the collector's own, which people paste.
_OWN_PATH: Final = re.compile(r"/services/collector(/(event|raw|health|ack)(/1\.0)?)?/*$", re.IGNORECASE)

_CONNECT_SECONDS: Final = 5.0
_ANSWER_BYTES: Final = 64 * 1024  # an answer of the collector has some 60 bytes; a proxy's page may be long

# OpenSSL's words for an answer that is no TLS, which differ by its version.
_NO_TLS: Final = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}
_TLS_ALERT: Final = "\x15\x03"
_NO_ROUTE: Final = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}
# OpenSSL's numbers, see verify(1): what a certificate is refused for, other than its authority.
_CERTIFICATE: Final = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is signed by itself",
    62: "it is for another host",
    64: "it is for another address",
}

T = TypeVar("T")


class _Session(requests.Session):
    """A session that ignores redirects: parsing the target may fail, and reads the body."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class NoAnswer(SplunkError):
    """The request may or may not have reached the collector."""


def endpoint(url: str) -> str:
    """The address that events are posted to.

    Args:
        url: scheme and host, perhaps a port and a path. A path of the collector's own, as Splunk's pages show it, is
            replaced; what stands before it, a reverse proxy's prefix, stays.

    Raises:
        Misconfigured: not https (http only to this very machine), or with a user, query or fragment.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Misconfigured("SPLUNK_HEC_URL: not an https:// URL with a host") from None
    if parts.scheme == "http" and not _is_loopback(host):
        raise Misconfigured("SPLUNK_HEC_URL: http:// would send the HEC token in the clear; use https://")
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise Misconfigured("SPLUNK_HEC_URL: not an https:// URL with a host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise Misconfigured("SPLUNK_HEC_URL: must not hold a user, a query or a fragment")
    prefix = _OWN_PATH.sub("", parts.path).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{prefix}{EVENT_PATH}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def within(seconds: float, call: Callable[[], T]) -> T:
    """Run a call in a thread and wait for it no longer than that.

    Time-outs of sockets count from byte to byte, and name resolution has none: only this limits the whole. A call that
    is given up goes on until its own time-outs end it.

    Raises:
        TimeoutError: it did not end in time.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the waiting thread raises any error
            outcome.set_exception(error)

    # A pool's threads would be waited for at the end of the process.
    threading.Thread(target=run, name="splunk", daemon=True).start()
    return outcome.result(max(seconds, 0.0))


class Transport:
    """Posts to one collector over a connection that stays open while the collector accepts requests.

    A load balancer pins a connection, or a cookie, to one of several nodes. So after an answer about the collector
    itself (busy, token rejected, wrong configuration) or after none, the next request uses a new connection without
    cookies, in this invocation or a later one.

    Args:
        url: see `endpoint`.
        ca_bundle: PEM file with the authorities to trust; None means those of `requests`.
        client_certificate: PEM file with our certificate and its key, for a collector that demands one.
        now: epoch seconds, to convert a date in Retry-After.

    Raises:
        Misconfigured: the address or a file can't be used.
    """

    def __init__(
        self,
        url: str,
        ca_bundle: str | None = None,
        client_certificate: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url = endpoint(url)
        for name, file in (("SPLUNK_CA_BUNDLE", ca_bundle), ("SPLUNK_CLIENT_CERTIFICATE", client_certificate)):
            if file and not Path(file).is_file():
                raise Misconfigured(f"{name}: there is no such file")
        self._verify: str | bool = ca_bundle or True
        self._certificate = client_certificate
        self._now = now
        self._session: requests.Session | None = None

    def _new_session(self) -> requests.Session:
        session = _Session()
        # A .netrc would replace our Authorization header, and a variable could name other authorities.
        session.trust_env = False
        session.verify = self._verify
        session.cert = self._certificate
        session.headers["User-Agent"] = "tokenservice"
        return session

    def post(self, body: bytes, token: str, timeout_seconds: float) -> Answer:
        """Post a gzipped body.

        Raises:
            NoAnswer: no complete answer came in time.
            Misconfigured: the certificate can't be verified, or the port speaks another protocol than the address.
        """
        session, self._session = self._session or self._new_session(), None
        try:
            answer = within(timeout_seconds, lambda: self._exchange(session, body, token, timeout_seconds))
        except TimeoutError:
            # The thread that was given up still owns the session.
            raise NoAnswer("no answer in time") from None
        except Exception as error:  # noqa: BLE001 - nothing that the other side provokes may end the invocation
            session.close()
            raise failure(error, urlsplit(self._url).scheme) from None
        if isinstance(judge(answer, 0), CollectorVerdict):
            session.close()
        else:
            self._session = session
        return answer

    def _exchange(self, session: requests.Session, body: bytes, token: str, timeout_seconds: float) -> Answer:
        headers = {
            "Authorization": f"Splunk {token}",
            "Content-Encoding": "gzip",
            "Content-Type": "application/json; charset=utf-8",
        }
        timeout = (min(_CONNECT_SECONDS, timeout_seconds), timeout_seconds)
        # A redirect would send the Authorization header to an address that nobody configured.
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


def failure(error: BaseException, scheme: str) -> NoAnswer | Misconfigured:
    """What a failed exchange means, without the libraries' texts: they name the whole address.

    A certificate or a port of another protocol does not change by itself; anything else may.
    """
    why = type(error).__name__
    for cause in _causes(error):
        if defect := _defect(cause):
            return Misconfigured(defect)
        why = _hindrance(cause, scheme) or why
    return NoAnswer(f"no answer: {why}")


def _defect(cause: BaseException) -> str | None:
    match cause:
        case ssl.SSLCertVerificationError():
            reason = _CERTIFICATE.get(cause.verify_code, "it comes from no authority that we trust")
            return f"the collector's certificate can't be verified: {reason}"
        case ssl.SSLError() if cause.reason in _NO_TLS:
            return "SPLUNK_HEC_URL: the port does not speak TLS"
        case http.client.BadStatusLine(args=(str(line), *_)) if line.startswith(_TLS_ALERT):
            return "SPLUNK_HEC_URL: the port speaks TLS; use https://"
    return None


def _hindrance(cause: BaseException, scheme: str) -> str | None:
    why = None
    match cause:
        case ssl.SSLError():
            why = f"the TLS handshake failed ({cause.reason or 'closed'})"
        case socket.gaierror():
            why = "the name of the host can't be resolved (DNS)"
        case ConnectionRefusedError():
            why = "the port is closed (connection refused)"
        case ConnectionResetError():
            why = "the connection was closed" + ("; does the port speak TLS?" if scheme == "http" else "")
        case requests.ConnectTimeout():
            why = "no connection in time; is a firewall in the way?"
        case OSError(errno=number) if number in _NO_ROUTE:
            why = "there is no route to the host"
    return why


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        cause = pending.pop()
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            # requests and urllib3 pass causes as arguments and as `reason`, not only as __cause__.
            pending += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
