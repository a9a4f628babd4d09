"""What the stores make of DynamoDB's answers, with our own client and with botocore."""

from __future__ import annotations

import time

import pytest

from chalicelib import instants, tokens
from chalicelib.aws.dynamodb import PATIENCE
from chalicelib.clients import Client, Scope
from chalicelib.errors import StoreUnavailable
from chalicelib.settings import BOTOCORE, SLIM
from chalicelib.tokens import Document, Terms, Token
from tests.support import store_engines
from tests.support.dynamodb_answers import THROTTLED, cancelled, document, error
from tests.support.scripted_server import Move, Server, answer, drop
from tests.support.store_engines import StoreEngine

DONE = document({})
NOW = instants.now()
CLIENT = Client("app", frozenset(Scope), (), NOW)
BATCH = [tokens.new_token("app", Terms(Document("node"), NOW), NOW) for _ in range(2)]


def stores_on(server: Server) -> StoreEngine:
    keys = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}
    environ = {**keys, "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ENDPOINT_URL": server.url}
    patience = PATIENCE._replace(attempt_seconds=30, total_seconds=100, pause_seconds=0)
    return StoreEngine("scripted", environ, "tokens", "clients", patience)


@pytest.fixture(params=[SLIM, BOTOCORE])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(store_engines, "TRANSPORT", request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of botocore's pauses, which pass at once."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("batch", [BATCH, BATCH[:1]], ids=["many", "one"])
@pytest.mark.parametrize(
    "trouble",
    [
        *(error(f"{name}Exception") for name in ("TransactionConflict", "ReplicatedWriteConflict", "LimitExceeded")),
        *(error(name) for name in ("ProvisionedThroughputExceededException", "RequestLimitExceeded", THROTTLED)),
        *(cancelled("None", reason) for reason in ("TransactionConflict", "ThrottlingError")),
        error("InternalServerError", 500),
        answer(503, b"<html>Service Unavailable</html>"),
        document({}, crc32="1"),
        drop,
    ],
)
def test_what_may_pass_is_tried_once_more_and_then_the_store_is_unavailable(
    trouble: Move, batch: list[tuple[str, Token]]
) -> None:
    with Server(trouble, DONE) as server:
        stores_on(server).token_store().add(batch)
        assert len(server.received) == 2
    with Server(trouble) as server:
        with pytest.raises(StoreUnavailable):
            stores_on(server).token_store().add(batch)
        assert len(server.received) == 2


@pytest.mark.parametrize("transport", [BOTOCORE], indirect=True)
def test_botocore_pauses_before_it_repeats_a_conflict(transport: str, pauses: list[float]) -> None:
    with Server(error("TransactionConflictException"), DONE) as server:
        stores_on(server).token_store().add(BATCH)
    [pause] = pauses
    assert 0 < pause < PATIENCE.pause_seconds


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        *((error(name), name) for name in ("ValidationException", "SerializationException")),
        (cancelled("None", "ValidationError"), "TransactionCanceledException"),
        (cancelled("ItemCollectionSizeLimitExceeded"), "TransactionCanceledException"),
    ],
)
def test_a_request_that_makes_no_sense_is_a_bug_and_not_repeated(trouble: Move, why: str) -> None:
    with Server(trouble) as server, pytest.raises(Exception, match=why):
        stores_on(server).token_store().add(BATCH)
    assert len(server.received) == 1


@pytest.mark.usefixtures("transport")
def test_a_condition_that_failed_is_no_trouble_of_the_store() -> None:
    refused = error("ConditionalCheckFailedException")
    with Server(refused, refused, DONE) as server:
        assert stores_on(server).token_store().revoke("tok_1", None, NOW) is None
        assert not stores_on(server).client_store().add(CLIENT)  # nor is it the client that is found then
    assert len(server.received) == 3


def test_what_is_found_by_its_id_is_as_of_now(transport: str) -> None:
    """On AWS alone a read may be stale: a client that was just disabled would go on being let in."""
    with Server(DONE) as server:
        assert stores_on(server).token_store().find("tok_1") is None
        clients = stores_on(server).client_store()
        assert clients.find("app") is None
        assert clients.change("app", lambda client: client) is None
        assert clients.delete(CLIENT)
    assert [request.body["ConsistentRead"] for request in server.received] == [True] * 4
    by_botocore = ["user-agent" in request.headers for request in server.received]
    assert by_botocore == [transport == BOTOCORE] * 4


def test_warming_up_asks_our_own_client_for_an_item_that_there_is_not(transport: str) -> None:
    with Server(DONE) as server:
        stores_on(server).token_store().warm_up()
        stores_on(server).client_store().warm_up()
    asked = [("tokens", {"id": {"S": "warm-up"}}), ("clients", {"client_id": {"S": "warm-up"}})]
    received = [(request.body["TableName"], request.body["Key"]) for request in server.received]
    assert received == (asked if transport == SLIM else [])
