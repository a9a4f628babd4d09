"""Environment variables of the gateway, read once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tokenservice_client.transport import check_url

DEFAULT_LISTEN: Final = "127.0.0.1:8080"
LEAST_SECRET: Final = 32
"""Characters of GATEWAY_SECRET; `openssl rand -hex 32` writes 64."""

_MAX_HOPS: Final = 5
_MAX_PORT: Final = 65_535
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


class SettingsError(Exception):
    """One or more settings are missing or malformed; one line names each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one gateway; its README explains them."""

    tokens_url: str
    tokens_user: str
    tokens_password: str = field(repr=False)
    content_url: str
    content_user: str
    content_password: str = field(repr=False)
    secret: str = field(repr=False)
    public_url: str
    host: str
    port: int
    trusted_hops: int
    user_header: str | None
    ca_bundle: str | None

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https://")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read all settings.

        Raises:
            SettingsError: names every one that is wrong, and no value that may be a secret.
        """
        reader = _Reader(environ)
        hops = reader.number("TRUSTED_HOPS", "0", _MAX_HOPS)
        user_header = environ.get("USER_HEADER") or None
        if user_header and not _HEADER.fullmatch(user_header):
            reader.wrong("USER_HEADER", "not the name of a header, of letters, digits and hyphens")
        if user_header and not hops:
            reader.wrong("USER_HEADER", "needs TRUSTED_HOPS of 1 or more: anybody could send the header")
        host, port = reader.address("LISTEN", DEFAULT_LISTEN)
        secret = reader.text("GATEWAY_SECRET")
        if secret and len(secret) < LEAST_SECRET:
            reader.wrong("GATEWAY_SECRET", f"shorter than {LEAST_SECRET} characters")
        settings = cls(
            tokens_url=reader.text("TOKENSERVICE_URL"),
            tokens_user=reader.text("TOKENSERVICE_USER"),
            tokens_password=reader.text("TOKENSERVICE_PASSWORD"),
            content_url=reader.url("CONTENT_URL", insecure=environ.get("CONTENT_INSECURE") == "yes"),
            content_user=reader.text("CONTENT_USER"),
            content_password=reader.text("CONTENT_PASSWORD"),
            secret=secret,
            public_url=reader.url("PUBLIC_URL"),
            host=host,
            port=port,
            trusted_hops=hops,
            user_header=user_header,
            ca_bundle=environ.get("CA_BUNDLE") or None,
        )
        reader.finish()
        return settings


class _Reader:
    """Reads one variable after the other and takes down what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._errors: list[str] = []

    def wrong(self, name: str, message: str) -> None:
        self._errors.append(f"{name}: {message}")

    def finish(self) -> None:
        if self._errors:
            raise SettingsError("; ".join(self._errors))

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environ.get(name) or default
        if not value:
            self.wrong(name, "missing")
        return value or ""

    def number(self, name: str, default: str, largest: int) -> int:
        value = self.text(name, default)
        if not (value.isascii() and value.isdigit() and int(value) <= largest):
            self.wrong(name, f"not a whole number from 0 to {largest}")
            return 0
        return int(value)

    def address(self, name: str, default: str) -> tuple[str, int]:
        host, _, port = self.text(name, default).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            ipaddress.ip_address(host)
            is_address = port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT
        except ValueError:
            is_address = False
        if not is_address:
            self.wrong(name, "not an address and a port, as in 127.0.0.1:8080 or [::1]:8080")
            return "", 0
        return host, int(port)

    def url(self, name: str, *, insecure: bool = False) -> str:
        value = self.text(name).rstrip("/")
        if not value:
            return ""
        try:
            check_url(value, insecure)
        except ValueError as error:
            self.wrong(name, str(error))
        return value
