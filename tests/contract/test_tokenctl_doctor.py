"""`tokenctl doctor`: what is well, what is not, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.engine import HOST, free_port
from tests.support.api import Credentials
from tests.support.hec_server import HecServer
from tests.support.operator import Run, Tokenctl, switch_ttl
from tests.support.serving import LocalService
from tokenctl import doctor
from tokenctl.deployment import Deployment


@pytest.fixture(scope="module")
def url(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service of stage `local`, really listening."""
    with LocalService({}, tmp_path_factory.mktemp("service") / "output") as service:
        yield service.endpoint_url


def as_client(monkeypatch: pytest.MonkeyPatch, user: str, password: str) -> None:
    monkeypatch.setenv("TOKENSERVICE_USER", user)
    monkeypatch.setenv("TOKENSERVICE_PASSWORD", password)


class TestDoctor:
    @pytest.fixture(autouse=True)
    def nobodys_credentials(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Neither the developer's own demo client nor what the environment names."""

        monkeypatch.setattr(doctor, "DEMO_ENV", tmp_path / "demo.env")
        for variable in ("TOKENSERVICE_USER", "TOKENSERVICE_PASSWORD"):
            monkeypatch.delenv(variable, raising=False)

    def unwell(self, run: Run) -> dict[str, tuple[str, str]]:
        """What is not well: what was seen and the advice."""
        assert run.code == 1, run.err
        found = {each["what"]: (each["seen"], each["advice"]) for each in run.json if not each["ok"]}
        assert found
        assert all(advice for _, advice in found.values())
        return found

    def test_a_healthy_stage_is_reported_as_such(
        self, tokenctl: Tokenctl, url: str, client: Credentials, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        as_client(monkeypatch, client.user, client.password)
        for given in (url, url + "/"):
            run = tokenctl("doctor", "--url", given, "--json")
            assert (run.code, run.err) == (0, "")
            assert len(run.json) == 7
            assert all(each["ok"] for each in run.json)
            assert client.password not in run.out
        human = tokenctl("doctor", "--url", url)
        assert human.code == 0
        assert human.out.count("  ok  ") == 7
        assert "FAIL" not in human.out

    def test_a_secret_of_the_index_that_cannot_be_read_is_reported(
        self, tokenctl: Tokenctl, deployment: Deployment, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = "/tokenservice/local/index-key"
        monkeypatch.setenv("INDEX_KEY_PARAMETER", name)
        assert name in self.unwell(tokenctl("doctor", "--url", url, "--json"))["index by node"][0]
        ssm = deployment.aws("ssm")
        ssm.put_parameter(Name=name, Type="SecureString", Value=f"{'a' * 32} {'b' * 32}")
        try:
            run = tokenctl("doctor", "--url", url, "--json")
            [found] = [each for each in run.json if each["what"] == "index by node"]
            assert found["seen"] == "keyed; secrets in the parameter: 2"
            assert "aaa" not in run.out + run.err
        finally:
            ssm.delete_parameter(Name=name)

    def test_locally_the_service_of_make_run_and_the_demo_client_are_found(
        self, tokenctl: Tokenctl, url: str, client: Credentials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(doctor, "LOCAL_ENV", tmp_path / "local.env")
        lines = f"# comment\nTOKENSERVICE_USER={client.user}\nTOKENSERVICE_PASSWORD={client.password}\n"
        (tmp_path / "demo.env").write_text(lines)
        assert self.unwell(tokenctl("doctor", "--json")) == {"service": ("unknown address", "set it with --url")}
        (tmp_path / "local.env").write_text(f"TOKENSERVICE_URL={url}\n")
        assert tokenctl("doctor").code == 0

    def test_missing_tables_are_reported_with_the_command_that_creates_them(
        self, tokenctl: Tokenctl, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TOKEN_TABLE", "missing-tokens")
        monkeypatch.setenv("CLIENT_TABLE", "missing-clients")
        found = self.unwell(tokenctl("doctor", "--stage", "dev", "--url", url, "--json"))
        for what in ("table missing-tokens", "table missing-clients"):
            assert found[what] == ("ResourceNotFoundException", "tokenctl tables create --stage dev")
        human = tokenctl("doctor", "--stage", "dev", "--url", url)
        assert human.code == 1
        assert "FAIL" in human.out
        assert "tokenctl tables create --stage dev" in human.out

    def test_disabled_ttl_and_recovery_are_reported(self, tokenctl: Tokenctl, url: str, dynamodb: Any) -> None:
        tokenctl("tables", "create", "--stage", "test")
        tokens, clients = "tokenservice-test-tokens", "tokenservice-test-clients"
        switch_ttl(dynamodb, tokens, on=False)
        off = {"PointInTimeRecoveryEnabled": False}
        dynamodb.update_continuous_backups(TableName=clients, PointInTimeRecoverySpecification=off)
        try:
            found = self.unwell(tokenctl("doctor", "--stage", "test", "--url", url, "--json"))
        finally:
            tokenctl("tables", "create", "--stage", "test")
        assert found["expired tokens are deleted (TTL)"][0] == "off"
        assert found["point-in-time recovery"][0] == f"off for {clients}"

    @pytest.mark.parametrize(
        ("user", "where", "seen"),
        [
            ("nobody", None, "rejected with 40[13]"),
            ("é", None, "rejected with 40[13]"),
            ("a:b", None, "not sent: .*"),
            ("nobody", "http://elsewhere.invalid:1", ".*in the clear.*"),
        ],
    )
    def test_wrong_credentials_are_reported_without_the_password(  # noqa: PLR0917 - fixtures
        self, tokenctl: Tokenctl, url: str, monkeypatch: pytest.MonkeyPatch, user: str, where: str | None, seen: str
    ) -> None:
        as_client(monkeypatch, user, "ü-hunter2")
        run = tokenctl("doctor", "--url", where or url, "--json")
        assert re.fullmatch(seen, self.unwell(run)[f"credentials of {user}"][0])
        assert "hunter2" not in run.out + run.err

    def test_splunk_gets_no_event_and_its_refusal_is_reported_as_the_forwarder_reports_it(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with HecServer() as hec:
            for url, token, ok, seen in (
                (f"{hec.url}/services/collector/event", "the-token", True, "responds, and accepts the token"),
                (hec.url, "another-token", False, "the collector refuses the events: HTTP 403, code 4 (invalid token)"),
                (
                    "http://splunk.example",
                    "the-token",
                    False,
                    "SPLUNK_HEC_URL: http:// would send the HEC token in the",
                ),
            ):
                monkeypatch.setenv("SPLUNK_HEC_URL", url)
                monkeypatch.setenv("SPLUNK_HEC_TOKEN", token)
                run = tokenctl("doctor", "--json")
                [found] = [each for each in run.json if each["what"] == "Splunk"]
                assert (found["ok"], bool(found["advice"])) == (ok, not ok)
                assert found["seen"].startswith(seen)
                assert token not in run.out + run.err
            assert hec.collector.indexed == []

    @pytest.mark.parametrize("wrong", ["http://127.0.0.1:{}", "nonsense", "http://", "ftp://127.0.0.1"])
    def test_a_service_that_does_not_respond_is_reported(
        self, tokenctl: Tokenctl, client: Credentials, monkeypatch: pytest.MonkeyPatch, wrong: str
    ) -> None:
        as_client(monkeypatch, client.user, client.password)
        run = tokenctl("doctor", "--url", wrong.format(free_port()), "--json")
        found = self.unwell(run)
        assert found["service"][0].startswith("no response")
        assert set(found) == {"service", f"credentials of {client.user}"}
        assert client.password not in run.out + run.err

    def test_something_else_that_listens_there_is_not_the_service(self, tokenctl: Tokenctl) -> None:
        with HecServer() as other:
            found = self.unwell(tokenctl("doctor", "--url", other.url, "--json"))
        assert "without credentials" in found["service"][0]
        assert found["credentials"] == ("none", "set TOKENSERVICE_USER and TOKENSERVICE_PASSWORD")

    def test_an_unavailable_store_is_reported_and_the_rest_is_checked(
        self, tokenctl: Tokenctl, url: str, client: Credentials, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        as_client(monkeypatch, client.user, client.password)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
        found = self.unwell(tokenctl("doctor", "--url", url, "--json"))
        assert len(found) == 4
        assert all("AWS_ENDPOINT_URL" in advice for _, advice in found.values())
