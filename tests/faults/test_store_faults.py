"""Single faults between the service and DynamoDB; test_races.py has many at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from chalicelib import errors
from chalicelib.aws.dynamodb import PATIENCE
from chalicelib.storage.token_store import TokenStore
from dev.engine import Engine
from tests.support.dynamodb_proxy import Fault, Proxy
from tests.support.fault_ways import OverHttp, OverStore, Service
from tests.support.store_engines import StoreEngine
from tokenctl.deployment import Deployment

BODY = {"nodeId": "n"}


@pytest.fixture(scope="module")
def truth(engine: Engine, deployment: Deployment) -> StoreEngine:
    """The engine past the proxy."""
    settings = deployment.settings
    return StoreEngine("ministack", engine.client_environ, settings.token_table, settings.client_table)


@pytest.fixture
def proxy(engine: Engine) -> Iterator[Proxy]:
    with Proxy(engine.endpoint_url) as proxy:
        yield proxy


def behind(proxy: Proxy, truth: StoreEngine) -> StoreEngine:
    return replace(truth, environ={**truth.environ, "AWS_ENDPOINT_URL": proxy.url})


@pytest.fixture(scope="module")
def served(truth: StoreEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Proxy]]:
    """The service as `make run` serves it, with the proxy before its store."""
    log = tmp_path_factory.mktemp("faults") / "service.log"
    with (
        Proxy(truth.environ["AWS_ENDPOINT_URL"]) as proxy,
        Service(behind(proxy, truth).environ, truth.client_store(), log) as service,
    ):
        yield service, proxy


@pytest.mark.parametrize("fault", [Fault.REQUEST_LOST, Fault.SILENT, Fault.ERROR_503, Fault.THROTTLED])
def test_while_the_store_is_unavailable_callers_get_retry_after_and_then_it_works(
    served: tuple[Service, Proxy], fault: Fault
) -> None:
    service, proxy = served
    way = OverHttp(service.call)
    proxy.plan = lambda _: fault
    reported = way.issue([BODY])
    assert (reported.status, reported.code, reported.retry_after) == (503, "store_unavailable", "1")
    proxy.plan = lambda _: None
    assert way.issue([BODY]).status == 201


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.ANSWER_STUCK])
def test_a_late_answer_is_retried(fault: Fault, proxy: Proxy, truth: StoreEngine) -> None:
    # The other tests are more patient, with a busy machine.
    hasty = replace(
        behind(proxy, truth), patience=PATIENCE._replace(attempt_seconds=1.0, total_seconds=60, attempts=20)
    )
    way = OverStore(hasty.token_store())
    [issued] = way.issue([BODY]).body
    once = iter([fault])
    proxy.plan = lambda _: next(once, None)
    reported = way.use(issued["token"], {"user": "alice"}, None)
    assert (reported.status, reported.replayed) == (200, False)
    assert proxy.met[fault] == 1
    found = truth.token_store().find(issued["tokenId"])
    assert found is not None
    assert [claim.id for claim in found.claims] == [reported.body["useId"]]


def test_two_attempts_and_the_pause_between_them_end_within_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget and no measurement; the soak measures. A store that is away either refuses connections or is silent."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # The stores as they are deployed: those of the other tests are patient with a busy machine.
    assert (PATIENCE.attempts, PATIENCE.total_seconds < 3) == (2, True)
    assert PATIENCE.attempts * PATIENCE.attempt_seconds + PATIENCE.pause_seconds <= PATIENCE.total_seconds
    config = TokenStore("tokens")._model._get_connection().connection.client.meta.config
    attempts = config.retries["total_max_attempts"]
    longest_pause = 1.0  # botocore's standard mode: up to 2 ** 0 seconds before the second attempt
    assert (attempts, config.retries["mode"]) == (2, "standard")
    assert attempts * max(config.connect_timeout, config.read_timeout) + longest_pause <= 3


def test_a_truncated_answer_that_parses_does_not_mean_an_unknown_client(proxy: Proxy, truth: StoreEngine) -> None:
    """The gateway would keep the authorizer's no for a minute."""
    proxy.plan = lambda _: Fault.ANSWER_GARBLED
    with pytest.raises(errors.StoreUnavailable):
        behind(proxy, truth).client_store().find("nobody")
    proxy.plan = lambda _: None
    assert behind(proxy, truth).client_store().find("nobody") is None
