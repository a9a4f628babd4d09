"""Environment variables of the gateway, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenservice_client.transport import check_url


class SettingsError(Exception):
    """A setting is missing or malformed; the message names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one gateway; its README explains them."""

    tokens_url: str
    tokens_user: str
    tokens_password: str = field(repr=False)
    content_url: str
    content_user: str
    content_password: str = field(repr=False)
    listen: str
    trusted_hops: int
    user_header: str
    ca_bundle: str | None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read all settings.

        Raises:
            SettingsError: names one that is wrong, and no value that may be a secret.
        """

        def required(name: str) -> str:
            if value := environ.get(name):
                return value
            raise SettingsError(f"{name}: missing")

        def url(name: str, *, allow_insecure: bool = False) -> str:
            value = required(name).rstrip("/")
            try:
                check_url(value, allow_insecure)
            except ValueError as error:
                raise SettingsError(f"{name}: {error}") from None
            return value

        hops, header = environ.get("TRUSTED_HOPS") or "0", environ.get("USER_HEADER") or ""
        if not (hops.isascii() and hops.isdigit()):
            raise SettingsError("TRUSTED_HOPS: not a whole number")
        if header and hops == "0":
            raise SettingsError("USER_HEADER: needs TRUSTED_HOPS: anybody could send the header")
        return cls(
            tokens_url=url("TOKENSERVICE_URL"),
            tokens_user=required("TOKENSERVICE_USER"),
            tokens_password=required("TOKENSERVICE_PASSWORD"),
            content_url=url("CONTENT_URL", allow_insecure=environ.get("CONTENT_INSECURE") == "yes"),
            content_user=required("CONTENT_USER"),
            content_password=required("CONTENT_PASSWORD"),
            listen=environ.get("LISTEN") or "127.0.0.1:8080",
            trusted_hops=int(hops),
            user_header=header,
            ca_bundle=environ.get("CA_BUNDLE") or None,
        )
