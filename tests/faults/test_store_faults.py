"""Single faults between the service and DynamoDB; test_races.py has many at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from botocore.retries.standard import ExponentialBackoff

from chalicelib import errors, instants, tokens
from chalicelib.aws.dynamodb import PATIENCE
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Document, Terms
from dev.engine import Engine
from tests.support.dynamodb_proxy import DONE_UNANSWERED, Fault, Proxy
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


@pytest.fixture
def store(proxy: Proxy, truth: StoreEngine) -> TokenStore:
    """The store behind the proxy."""
    return behind(proxy, truth).token_store()


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore rests for up to a second before its second attempt: nothing here depends on it, and it takes long."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.0)


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


@pytest.mark.parametrize("fault", sorted(DONE_UNANSWERED - {Fault.ANSWER_STUCK}))
def test_a_retry_with_the_key_gets_the_use_whose_answers_were_all_lost(
    fault: Fault, proxy: Proxy, store: TokenStore
) -> None:
    way = OverStore(store)
    code = way.issue([BODY]).body[0]["token"]
    proxy.plan = lambda _: fault
    assert way.use(code, {"user": "alice"}, "key").code == "store_unavailable"
    proxy.plan = lambda _: None
    reported = way.use(code, {"user": "alice"}, "key")
    assert (reported.status, reported.replayed) == (200, True)
    assert way.use(code, {"user": "bob"}, None).code == "token_exhausted"


@pytest.mark.parametrize("batch", [1, 3])
def test_issuing_that_arrives_a_second_time_late_does_not_bring_a_spent_token_back(
    batch: int, proxy: Proxy, store: TokenStore, truth: StoreEngine
) -> None:
    """The first request seems lost, the SDK's second one is answered, the token is spent; then the first arrives."""
    way = OverStore(store)
    late = iter([Fault.REQUEST_LATE])
    proxy.plan = lambda _: next(late, None)
    proxy.keep_for_later = lambda request: Proxy.keep_for_later(proxy, request, others=1_000)
    issued = way.issue([BODY] * batch).body[0]
    assert way.use(issued["token"], {"user": "alice"}, None).status == 200
    proxy.settle()
    assert way.use(issued["token"], {"user": "bob"}, None).code == "token_exhausted"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("fault", [Fault.CONFLICT, Fault.THROTTLED])
def test_a_repetition_after_a_conflict_that_finds_its_token_spent_brings_nothing_back(
    fault: Fault, batch: int, proxy: Proxy, store: TokenStore, truth: StoreEngine
) -> None:
    """The first attempt is done though it is answered with a conflict, and the token is spent before the second one."""
    now = instants.now()
    made = [tokens.new_token("app", Terms(Document("node"), now + timedelta(hours=1)), now) for _ in range(batch)]
    secret, token = made[0]
    past = truth.token_store()
    past.add(made)
    past.claim(tokens.new_use(secret, "app"), now, None)
    before = past.find(token.id)
    once = iter([fault])
    proxy.plan = lambda _: next(once, None)
    with pytest.raises(errors.StoreUnavailable):
        store.add(made)
    assert past.find(token.id) == before


@pytest.mark.parametrize("change", ["revoked", "mismatch counted"])
def test_repeated_issuing_does_not_undo_later_changes(
    change: str, proxy: Proxy, store: TokenStore, truth: StoreEngine
) -> None:
    now = instants.now()
    issued = tokens.new_token("app", Terms(Document("node"), now + timedelta(hours=1)), now)
    token = issued[1]
    past = truth.token_store()
    lost = iter([Fault.ANSWER_LOST])

    def in_between(_: str) -> None:
        proxy.when_done = lambda _: None
        if change == "revoked":
            past.revoke(token.id, None, now)
        else:
            past.count_mismatch(token.id, now)

    proxy.plan = lambda _: next(lost, None)
    proxy.when_done = in_between
    with pytest.raises(errors.StoreUnavailable):
        store.add([issued])
    found = past.find(token.id)
    assert found is not None
    assert (found.revoked_at, found.mismatches) == ((now, 0) if change == "revoked" else (None, 1))


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
