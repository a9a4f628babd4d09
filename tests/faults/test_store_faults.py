"""Single faults between the service and DynamoDB; test_races.py has many at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from chalicelib import errors
from chalicelib.aws.dynamodb import PATIENCE
from chalicelib.storage.token_store import TokenStore
from tests.support.dynamodb_proxy import Fault, Proxy
from tests.support.fault_ways import OverStore
from tests.support.store_engines import StoreEngine


@pytest.fixture
def proxy(store_engine: StoreEngine) -> Iterator[Proxy]:
    with Proxy(store_engine.environ["AWS_ENDPOINT_URL"]) as proxy:
        yield proxy


@pytest.fixture
def behind(store_engine: StoreEngine, proxy: Proxy) -> StoreEngine:
    return replace(store_engine, environ={**store_engine.environ, "AWS_ENDPOINT_URL": proxy.url})


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.ANSWER_STUCK])
def test_a_late_answer_is_retried(fault: Fault, proxy: Proxy, behind: StoreEngine, store_engine: StoreEngine) -> None:
    # The other tests are more patient, with a busy machine.
    hasty = replace(behind, patience=PATIENCE._replace(attempt_seconds=1.0, total_seconds=60, attempts=20))
    way = OverStore(hasty.token_store())
    [issued] = way.issue([{"nodeId": "n"}]).body
    once = iter([fault])
    proxy.plan = lambda _: next(once, None)
    reported = way.use(issued["token"], {"user": "alice"}, None)
    assert (reported.status, reported.replayed) == (200, False)
    assert proxy.met[fault] == 1
    found = store_engine.token_store().find(issued["tokenId"])
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


def test_a_truncated_answer_that_parses_does_not_mean_an_unknown_client(proxy: Proxy, behind: StoreEngine) -> None:
    """The gateway would keep the authorizer's no for a minute."""
    proxy.plan = lambda _: Fault.ANSWER_GARBLED
    with pytest.raises(errors.StoreUnavailable):
        behind.client_store().find("nobody")
    proxy.plan = lambda _: None
    assert behind.client_store().find("nobody") is None
