"""Settings of one deployment, read once from environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from chalicelib import instants

_STAGE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
SLIM = "slim"
BOTOCORE = "botocore"
TRANSPORTS = (SLIM, BOTOCORE)
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_MAX_AUTHORIZER_TTL_SECONDS = 3600  # API Gateway's own limit
REDRIVE_MINUTES = 15
_MAX_REDRIVE_MINUTES = 24 * 60
_MAX_DIGITS = 9


def runs_in_lambda(environ: Mapping[str, str]) -> bool:
    return "AWS_LAMBDA_FUNCTION_NAME" in environ


class SettingsError(ValueError):
    """One or more settings are missing or malformed.

    Attributes:
        problems: one `NAME: what is wrong` each, never with a secret's value.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Splunk(NamedTuple):
    """Where log events go.

    Attributes:
        hec_url: scheme and host of the HTTP Event Collector; None means that nothing is forwarded.
        hec_token_parameter: name of the SSM SecureString that holds the HEC token.
        hec_token: the HEC token itself, for local use.
        index: Splunk index; None means the HEC token's default.
        sourcetype: sourcetype of the service's own log events.
        ca_bundle: path of a PEM file with the authorities to trust; None means the usual ones.
        client_certificate: path of a PEM file with our certificate for Splunk and its key; None means none.
        failure_bucket: S3 bucket for what Splunk does not take; None only where nothing is forwarded, or locally.
        redrive_minutes: from one scheduled redrive of that bucket to the next.
    """

    hec_url: str | None
    hec_token_parameter: str | None
    hec_token: str | None
    index: str | None  # type: ignore[assignment] # nobody needs a tuple's index()
    sourcetype: str
    ca_bundle: str | None
    failure_bucket: str | None = None
    redrive_minutes: int = REDRIVE_MINUTES
    client_certificate: str | None = None

    def __repr__(self) -> str:
        return f"Splunk(hec_url={self.hec_url!r}, index={self.index!r}, sourcetype={self.sourcetype!r})"


class Settings(NamedTuple):
    """All settings of one deployment.

    Attributes:
        stage: name of the deployment, `dev` or `prod` for example.
        token_table: DynamoDB table of the tokens.
        client_table: DynamoDB table of the clients.
        log_level: threshold of diagnostic messages; audit events are always written.
        authorizer_ttl_seconds: how long the gateway may reuse an answer of the authorizer.
        tokens_issued_after: tokens issued before this instant count as revoked (after a restore).
        dynamodb_transport: `slim`, our own client, or `botocore`.
        commit: the commit that was built, for `GET /version`.
        seal_node_ids: whether new tokens' documents are sealed in the table.
        log_node_ids: whether audit events name the document.
        index_key_parameter: name of the SSM SecureString with the secrets of the index of nodes; None means none.
        splunk: where log events go.
    """

    stage: str
    token_table: str
    client_table: str
    log_level: str
    authorizer_ttl_seconds: int
    tokens_issued_after: datetime | None
    dynamodb_transport: str
    commit: str
    seal_node_ids: bool
    log_node_ids: bool
    index_key_parameter: str | None
    splunk: Splunk

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read all settings; an empty variable counts as missing.

        Raises:
            SettingsError: with every setting that is missing or malformed, in one message.
        """
        read = _Reader(environ)
        stage = read.matching("STAGE", _STAGE, "lower-case letters, digits and '-', for example dev")
        settings = cls(
            stage=stage,
            token_table=read.table("TOKEN_TABLE", f"tokenservice-{stage}-tokens"),
            client_table=read.table("CLIENT_TABLE", f"tokenservice-{stage}-clients"),
            log_level=read.one_of("LOG_LEVEL", _LOG_LEVELS, "INFO"),
            authorizer_ttl_seconds=read.whole_number("AUTHORIZER_TTL_SECONDS", 60, _MAX_AUTHORIZER_TTL_SECONDS),
            tokens_issued_after=read.instant("TOKENS_ISSUED_AFTER"),
            dynamodb_transport=read.one_of(
                "DYNAMODB_TRANSPORT", TRANSPORTS, SLIM if runs_in_lambda(environ) else BOTOCORE
            ),
            commit=read.text("COMMIT") or "unknown",
            seal_node_ids=read.flag("SEAL_NODE_IDS"),
            log_node_ids=read.flag("LOG_NODE_IDS"),
            index_key_parameter=read.text("INDEX_KEY_PARAMETER"),
            splunk=Splunk(
                hec_url=read.url("SPLUNK_HEC_URL"),
                hec_token_parameter=read.text("SPLUNK_HEC_TOKEN_PARAMETER"),
                hec_token=read.text("SPLUNK_HEC_TOKEN"),
                index=read.text("SPLUNK_INDEX"),
                sourcetype=read.text("SPLUNK_SOURCETYPE") or "tokenservice",
                ca_bundle=read.text("SPLUNK_CA_BUNDLE"),
                client_certificate=read.text("SPLUNK_CLIENT_CERTIFICATE"),
                failure_bucket=read.text("SPLUNK_FAILURE_BUCKET"),
                redrive_minutes=read.whole_number(
                    "SPLUNK_REDRIVE_MINUTES", REDRIVE_MINUTES, _MAX_REDRIVE_MINUTES, least=1
                ),
            ),
        )
        read.flag("AWS_USE_FIPS_ENDPOINT", "false")  # read by `aws.client` and by AWS's library
        read.problems += _missing(settings.splunk)
        if read.problems:
            raise SettingsError(read.problems)
        return settings


def _missing(splunk: Splunk) -> list[str]:
    """What a Splunk needs beside its address. With a token that is given directly nothing more: that is local use."""
    if not splunk.hec_url or splunk.hec_token:
        return []
    missing = "missing, and SPLUNK_HEC_URL is set"
    if not splunk.hec_token_parameter:
        return [f"SPLUNK_HEC_TOKEN_PARAMETER: {missing} (SPLUNK_HEC_TOKEN serves for local use)"]
    if not splunk.failure_bucket:
        return [f"SPLUNK_FAILURE_BUCKET: {missing}: what Splunk does not take needs a place"]
    return []


class _Reader:
    """Reads variables one by one and remembers everything that is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def matching(self, name: str, pattern: re.Pattern[str], wanted: str, default: str = "") -> str:
        value = self.text(name)
        if value is None and not default:
            self.problems.append(f"{name}: missing; wanted: {wanted}")
        elif value is not None and not pattern.fullmatch(value):
            self.problems.append(f"{name}: {value!r} is not {wanted}")
        return value or default

    def table(self, name: str, default: str) -> str:
        return self.matching(name, _TABLE, "a DynamoDB table name", default)

    def one_of(self, name: str, values: tuple[str, ...], default: str) -> str:
        """One of these values, which are all in upper or all in lower case."""
        value = self.text(name) or default
        value = value.upper() if default.isupper() else value.lower()
        if value not in values:
            self.problems.append(f"{name}: {value!r} is not one of {', '.join(values)}")
        return value

    def flag(self, name: str, default: str = "true") -> bool:
        return self.one_of(name, ("true", "false"), default) == "true"

    def whole_number(self, name: str, default: int, maximum: int, least: int = 0) -> int:
        value = self.text(name)
        if value is None:
            return default
        digits = value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS
        if not (digits and least <= int(value) <= maximum):
            self.problems.append(f"{name}: {value!r} is not a whole number from {least} to {maximum}")
            return default
        return int(value)

    def instant(self, name: str) -> datetime | None:
        value = self.text(name)
        try:
            return instants.parse(value).astimezone(UTC) if value else None
        except (ValueError, OverflowError):
            wanted = "an RFC 3339 time with offset, for example 2026-01-31T12:00:00Z"
            self.problems.append(f"{name}: {value!r} is not {wanted}")
            return None

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
            secret = bool(parts.username or parts.password)
        except ValueError:
            usable, secret = False, False
        if secret:
            self.problems.append(f"{name}: must not hold a user or password")
        elif not usable:
            self.problems.append(f"{name}: not an http(s) URL with a host")
        return value.rstrip("/")
