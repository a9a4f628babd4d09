"""Settings are read once; one message names all that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

import pytest

from chalicelib.settings import Settings, SettingsError

ROOT = Path(__file__).resolve().parents[2]


def test_a_stage_alone_is_enough_and_names_the_tables() -> None:
    settings = Settings.from_environ({"STAGE": "dev"})
    assert settings.token_table == "tokenservice-dev-tokens"
    assert settings.client_table == "tokenservice-dev-clients"
    assert settings.authorizer_ttl_seconds == 60
    assert settings.log_level == "INFO"
    assert settings.tokens_issued_after is None
    assert (settings.seal_node_ids, settings.log_node_ids, settings.index_key_parameter) == (True, True, None)
    assert settings.splunk.hec_url is None


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("TOKEN_TABLE", "t-okens", "token_table", "t-okens"),
        ("CLIENT_TABLE", "c-lients", "client_table", "c-lients"),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("AUTHORIZER_TTL_SECONDS", "0", "authorizer_ttl_seconds", 0),
        (
            *("TOKENS_ISSUED_AFTER", "2026-01-31T13:00:00.1239999+01:00", "tokens_issued_after"),
            datetime(2026, 1, 31, 12, 0, 0, 123_000, tzinfo=UTC),
        ),
        ("DYNAMODB_TRANSPORT", "SLIM", "dynamodb_transport", "slim"),
        ("COMMIT", "abc1234", "commit", "abc1234"),
        ("SEAL_NODE_IDS", "False", "seal_node_ids", False),
        ("LOG_NODE_IDS", "false", "log_node_ids", False),
        ("INDEX_KEY_PARAMETER", "/index-key", "index_key_parameter", "/index-key"),
        ("SPLUNK_HEC_URL", "https://splunk.example:8088/", "splunk.hec_url", "https://splunk.example:8088"),
        ("SPLUNK_HEC_TOKEN_PARAMETER", "/hec", "splunk.hec_token_parameter", "/hec"),
        ("SPLUNK_INDEX", "records", "splunk.index", "records"),
        ("SPLUNK_SOURCETYPE", "tokens", "splunk.sourcetype", "tokens"),
        ("SPLUNK_CA_BUNDLE", "ca.pem", "splunk.ca_bundle", "ca.pem"),
        ("SPLUNK_CLIENT_CERTIFICATE", "client.pem", "splunk.client_certificate", "client.pem"),
        ("SPLUNK_FAILURE_BUCKET", "kept", "splunk.failure_bucket", "kept"),
        ("SPLUNK_REDRIVE_MINUTES", "60", "splunk.redrive_minutes", 60),
    ],
)
def test_every_setting_is_read(name: str, text: str, attribute: str, value: object) -> None:
    settings = Settings.from_environ({"STAGE": "prod", "SPLUNK_HEC_TOKEN": "x", name: text})
    assert attrgetter(attribute)(settings) == value


def test_our_own_client_is_for_lambda_and_botocore_for_everywhere_else() -> None:
    in_lambda = {"STAGE": "dev", "AWS_LAMBDA_FUNCTION_NAME": "a-function"}
    assert Settings.from_environ({"STAGE": "dev"}).dynamodb_transport == "botocore"
    assert Settings.from_environ(in_lambda).dynamodb_transport == "slim"
    assert Settings.from_environ({**in_lambda, "DYNAMODB_TRANSPORT": "botocore"}).dynamodb_transport == "botocore"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("STAGE", value) for value in ("Dev", "", "a b")),
        *(("TOKEN_TABLE", "a"), ("CLIENT_TABLE", "with/slash"), ("LOG_LEVEL", "LOUD"), ("AWS_USE_FIPS_ENDPOINT", "1")),
        ("DYNAMODB_TRANSPORT", "boto3"),
        *(("AUTHORIZER_TTL_SECONDS", value) for value in ("-1", "1.5", "3601", "٣", "9" * 5000)),
        *(("SPLUNK_REDRIVE_MINUTES", value) for value in ("0", "1441")),
        *(("TOKENS_ISSUED_AFTER", value) for value in ("yesterday", "1795262400", "2026-01-31", "2026-01-31T12:00:00")),
        # The last is before the year 1 in UTC.
        *(("TOKENS_ISSUED_AFTER", value) for value in ("2026-01-31T12:00:60Z", "0001-01-01T00:00:00+14:00")),
        *(("SPLUNK_HEC_URL", value) for value in ("splunk.example", "ftp://splunk.example", "https://x:port")),
    ],
)
def test_a_malformed_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"STAGE": "dev", "SPLUNK_HEC_TOKEN": "x", name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"LOG_LEVEL": "LOUD", "SPLUNK_HEC_URL": "https://splunk.example"})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "STAGE",
        "LOG_LEVEL",
        "SPLUNK_HEC_TOKEN_PARAMETER",
    ]


ON_AWS = {"STAGE": "prod", "SPLUNK_HEC_URL": "https://splunk.example", "SPLUNK_HEC_TOKEN_PARAMETER": "/hec"}


def test_on_aws_what_splunk_does_not_take_needs_a_place() -> None:
    """`make run`, which gives a token, keeps it in a folder."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(ON_AWS)
    assert str(caught.value) == (
        "SPLUNK_FAILURE_BUCKET: missing, and SPLUNK_HEC_URL is set: what Splunk does not take needs a place"
    )
    for other in ({"SPLUNK_FAILURE_BUCKET": "kept"}, {"SPLUNK_HEC_TOKEN": "x"}, {"SPLUNK_HEC_URL": ""}):
        Settings.from_environ(ON_AWS | other)


def test_no_secret_is_shown_by_an_error_or_a_printed_setting() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"STAGE": "dev", "SPLUNK_HEC_URL": "https://user:hunter2@splunk.example"})
    assert "hunter2" not in str(caught.value)
    settings = Settings.from_environ({"STAGE": "dev", "SPLUNK_HEC_TOKEN": "hunter2"})
    assert "hunter2" not in repr(settings)


def test_a_start_with_a_wrong_setting_ends_with_one_line_that_names_it() -> None:
    environ = {**os.environ, "STAGE": "dev", "AUTHORIZER_TTL_SECONDS": "soon"}
    run = subprocess.run(
        [sys.executable, "-c", "import app"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.splitlines() == [
        "tokenservice: AUTHORIZER_TTL_SECONDS: 'soon' is not a whole number from 0 to 3600"
    ]
