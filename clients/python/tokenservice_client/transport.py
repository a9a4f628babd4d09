"""One request and its response over HTTP, and when it is repeated."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from tokenservice_client import errors
from tokenservice_client.errors import (
    NoAnswer,
    ServiceUnavailable,
    TokenServiceError,
    UnexpectedAnswer,
    UntrustedServer,
)

BASE_PATH: Final = "/tokenservice/services/api"
CONNECT_SECONDS: Final = 5.0
FIRST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 5.0

_LEAST_SECONDS: Final = 0.05
_LEAST_SECRET: Final = 16  # characters; a shorter text is not a token, and may be part of ordinary words
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Reply:
    """A successful response.

    Attributes:
        body: parsed JSON; None means no body.
        headers: with case-insensitive names.
    """

    body: Any
    headers: Mapping[str, str]


class _Session(requests.Session):
    """A session that ignores redirects, which could take credentials and tokens elsewhere."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def base_url(url: str, allow_insecure: bool = False) -> str:
    """The URL that paths are appended to.

    Args:
        url: with or without the service's base path; on AWS with the name of the gateway's stage.
        allow_insecure: accept http:// to other machines.

    Raises:
        ValueError: it is not such a URL, holds credentials, or would send them unencrypted.
    """
    try:
        parts = check_url(url, allow_insecure)
    except ValueError as error:
        raise ValueError(f"the service's URL {error}") from None
    path = parts.path.rstrip("/").removesuffix(BASE_PATH)
    return f"{parts.scheme}://{parts.netloc}{path}{BASE_PATH}"


def check_url(url: str, allow_insecure: bool = False) -> SplitResult:
    """The parts of a URL with a host, to which credentials may be sent.

    Raises:
        ValueError: as `base_url`; without the URL, which may hold a password.
    """
    wrong = ValueError("must begin with https:// and name a host")
    try:
        parts = urlsplit(url)
        # urllib removes control characters silently, and checks the port only here.
        is_url = not _CONTROLS.search(url) and " " not in url and parts.port != 0
    except ValueError:
        raise wrong from None
    if not is_url or parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not hold a user, a query or a fragment")
    if parts.scheme == "http" and not allow_insecure and not _is_loopback(parts.hostname):
        raise ValueError("must begin with https://; http:// would send passwords and tokens in the clear")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def basic(user: str, password: str) -> str:
    """The Authorization header (RFC 7617, UTF-8).

    Raises:
        ValueError: one is empty or holds control characters, or the user holds a colon.
    """
    if not user or ":" in user or _CONTROLS.search(user):
        raise ValueError("the client id must not be empty, nor hold a colon or control characters")
    if not password or _CONTROLS.search(password):
        raise ValueError("the client's password must not be empty, nor hold control characters")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def retry_after(header: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds to wait; the header holds seconds or a date (RFC 9110, 10.2.3). None if it holds neither."""
    value = (header or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now())
    except (ValueError, TypeError, OverflowError):
        return None


class Transport:
    """Sends requests to one service over a pool of connections. Threads may share it.

    Args:
        base: see `base_url`.
        verify: True, or a PEM file of trusted authorities.
        sleep: waits for a number of seconds.

    The others are those of `TokenServiceClient`. No error holds the password, even if the response does.
    """

    def __init__(
        self,
        base: str,
        user: str,
        password: str,
        *,
        verify: str | bool,
        connections: int,
        timeout_seconds: float,
        patience_seconds: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        authorization = basic(user, password)
        self._base = base
        self._secrets = (password, authorization.partition(" ")[2].rstrip("="))  # a URL has its padding as %3D
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        self._sleep = sleep
        session = _Session()
        # A .netrc would replace our credentials, and a variable could name other authorities.
        session.trust_env = False
        session.verify = verify
        # A proxy sees only the host of https:// requests. It would see every token of http:// requests.
        if base.startswith("https://"):
            session.proxies = requests.utils.get_environ_proxies(base)
        # The service has no cookies. Threads would share them.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.headers.update({"Authorization": authorization, "User-Agent": "tokenservice-client"})
        adapter = HTTPAdapter(pool_maxsize=connections)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        self._session = session

    def close(self) -> None:
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        least_timeout_seconds: float = 0,
        least_patience_seconds: float = 0,
    ) -> Reply:
        """Send a request, and repeat it if no response arrives or the service is temporarily unavailable.

        Args:
            path: below the base; never holds a secret, because URLs are logged.
            body: sent as JSON; None means no body.
            least_timeout_seconds: for a call that takes the service longer than others; the same is true of
                `least_patience_seconds`.

        Raises:
            TokenServiceError: the last one.
        """
        timeout_seconds = max(least_timeout_seconds, self._timeout_seconds)
        patience_seconds = max(least_patience_seconds, self._patience_seconds)
        deadline = time.monotonic() + (patience_seconds or timeout_seconds)

        def attempt() -> Reply:
            left = max(deadline - time.monotonic(), _LEAST_SECONDS)
            return self._exchange(method, path, body, headers or {}, min(timeout_seconds, left))

        retrying = Retrying(
            retry=retry_if_exception(_is_worth_repeating),
            wait=_wait_seconds,
            stop=stop_before_delay(patience_seconds),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(attempt)

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str], seconds: float
    ) -> Reply:
        raw = None if body is None else json.dumps(body).encode()
        sent = {**headers, "Accept": "application/json"} | ({"Content-Type": "application/json"} if raw else {})
        failure: TokenServiceError
        try:
            response = self._session.request(
                method,
                self._base + path,
                data=raw,
                headers=sent,
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
                allow_redirects=False,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            failure = _no_answer(error, urlsplit(self._base).netloc)
        else:
            return _reply(response, self._hide(body))
        # Outside the handler: requests' errors hold the request with its body and its Authorization header, and would
        # be the context of an error raised there.
        raise failure

    def _hide(self, body: Mapping[str, Any] | None) -> Callable[[str], str]:
        """Returns a function that removes our secrets from a text."""
        token = str((body or {}).get("token", ""))
        secrets = (*self._secrets, token) if len(token) >= _LEAST_SECRET else self._secrets

        def hide(text: str) -> str:
            for secret in secrets:
                text = text.replace(secret, "[secret]")
            return text

        return hide


def _reply(response: requests.Response, hide: Callable[[str], str]) -> Reply:
    status, headers = response.status_code, response.headers
    request_id = headers.get("x-amzn-RequestId")
    try:
        body = json.loads(response.content) if response.content else None
    except (ValueError, RecursionError):
        body = None
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise errors.problem(status, body, request_id, retry_after(headers.get("Retry-After")), hide)
    if body is None and response.content:
        raise UnexpectedAnswer("unexpected_answer", "the response is not JSON", status, request_id)
    return Reply(body, headers)


def _no_answer(error: Exception, host: str) -> TokenServiceError:
    """The error of a failed exchange. The messages of the libraries are left out: they contain whole URLs."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return UntrustedServer("untrusted_server", "the service's certificate can't be verified")
    return NoAnswer("no_answer", f"no complete response from {host} ({type(error).__name__})")


def _is_worth_repeating(error: BaseException) -> bool:
    return isinstance(error, (NoAnswer, ServiceUnavailable))


_backoff: Final = wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)


def _wait_seconds(state: RetryCallState) -> float:
    """`Retry-After` and a random addition, so that many clients do not repeat at once."""
    error = state.outcome.exception() if state.outcome else None
    retry_after = error.retry_after if isinstance(error, ServiceUnavailable) else None
    return (retry_after or 0.0) + _backoff(state)
