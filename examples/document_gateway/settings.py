"""Environment variables of the gateway, read once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from tokenservice_client.transport import check_url

_LEAST_SECRET: Final = 32
_HOPS: Final = re.compile("[0-5]")
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
        errors: list[str] = []

        def check(name: str, is_right: object, message: str) -> None:
            if not is_right:
                errors.append(f"{name}: {message}")

        def text(name: str) -> str:
            value = environ.get(name, "")
            check(name, value, "missing")
            return value

        def url(name: str, *, allow_insecure: bool = False) -> str:
            value = text(name).rstrip("/")
            try:
                if value:
                    check_url(value, allow_insecure)
            except ValueError as error:
                check(name, False, str(error))
            return value

        secret = text("GATEWAY_SECRET")
        check("GATEWAY_SECRET", not 0 < len(secret) < _LEAST_SECRET, f"shorter than {_LEAST_SECRET} characters")
        hops = environ.get("TRUSTED_HOPS") or "0"
        check("TRUSTED_HOPS", _HOPS.fullmatch(hops), "not a whole number from 0 to 5")
        header = environ.get("USER_HEADER") or None
        check("USER_HEADER", not header or _HEADER.fullmatch(header), "not letters, digits and hyphens")
        check("USER_HEADER", not header or hops != "0", "needs TRUSTED_HOPS: anybody could send the header")
        host, port = _address(environ.get("LISTEN") or "127.0.0.1:8080")
        check("LISTEN", port, "not an address and a port, as in 127.0.0.1:8080 or [::1]:8080")
        settings = cls(
            tokens_url=text("TOKENSERVICE_URL"),
            tokens_user=text("TOKENSERVICE_USER"),
            tokens_password=text("TOKENSERVICE_PASSWORD"),
            content_url=url("CONTENT_URL", allow_insecure=environ.get("CONTENT_INSECURE") == "yes"),
            content_user=text("CONTENT_USER"),
            content_password=text("CONTENT_PASSWORD"),
            secret=secret,
            public_url=url("PUBLIC_URL"),
            host=host,
            port=port,
            trusted_hops=int(hops) if _HOPS.fullmatch(hops) else 0,
            user_header=header,
            ca_bundle=environ.get("CA_BUNDLE") or None,
        )
        if errors:
            raise SettingsError("; ".join(errors))
        return settings


def _address(listen: str) -> tuple[str, int]:
    """Address and port; port 0 if it is not one."""
    try:
        parts = urlsplit(f"//{listen}")
        return str(ipaddress.ip_address(parts.hostname or "")), parts.port or 0
    except ValueError:
        return "", 0
