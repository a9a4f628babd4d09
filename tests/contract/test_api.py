"""The API as its users see it: every route, refusal and header of the contract, on a real engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from chalicelib import __version__, tokens
from chalicelib.clients import Scope
from chalicelib.entry import api as entry
from chalicelib.http import routes
from tests.support.api import NODE, Answer, Api, Credentials


def audit_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was written since the last look: one JSON object per line."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


class TestIssue:
    def test_issuing_returns_the_token_once_with_its_limits(self, api: Api, client: Credentials) -> None:
        answer = api.call("POST", "/token", client, {"nodeId": NODE})
        issued = answer.json
        assert answer.status == 201
        assert set(issued) == {"token", "tokenId", "expiresAt", "maxUses", "actions"}
        assert re.fullmatch(r"[0-9a-f]{64}", issued["token"])
        assert issued["tokenId"] == tokens.token_id(tokens.digest(issued["token"]))
        assert (issued["maxUses"], issued["actions"]) == (1, ["download"])
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["location"] == f"/tokenservice/services/api/token/{issued['tokenId']}"

    @pytest.mark.parametrize(("body", "seconds"), [({}, 300), ({"expiresIn": 7}, 7)])
    def test_a_life_is_counted_from_the_instant_of_the_issue(
        self, api: Api, client: Credentials, body: dict[str, int], seconds: int
    ) -> None:
        answer = api.call("POST", "/token", client, {"nodeId": NODE, **body})
        [batched] = api.call("POST", "/tokens", client, {"tokens": [{"nodeId": NODE, **body}]}).json["tokens"]
        for issued in (answer.json, batched):
            status = api.call("GET", f"/token/{issued['tokenId']}", client).json
            begin, end = (datetime.fromisoformat(status[name]) for name in ("issuedAt", "expiresAt"))
            assert (end - begin).total_seconds() == seconds

    def test_a_batch_is_issued_in_order(self, api: Api, client: Credentials) -> None:
        answer = api.call("POST", "/tokens", client, {"tokens": [{"nodeId": f"n{n}"} for n in range(100)]})
        assert answer.status == 201
        issued = answer.json["tokens"]
        assert len({each["token"] for each in issued}) == 100
        nodes = [api.use(client, each["token"]).json["nodeId"] for each in issued[:3]]
        assert nodes == ["n0", "n1", "n2"]


class TestUse:
    def test_a_token_is_used_once_and_the_second_try_is_refused(self, api: Api, client: Credentials) -> None:
        issued = api.issue(client)
        answer = api.use(client, issued["token"])
        used = answer.json
        assert answer.status == 200
        assert used == {
            "tokenId": issued["tokenId"],
            "nodeId": NODE,
            "actions": ["download"],
            "usesRemaining": 0,
            "expiresAt": issued["expiresAt"],
            "useId": used["useId"],
        }
        assert re.fullmatch(r"use_[0-9a-f]{32}", used["useId"])
        assert answer.headers["cache-control"] == "no-store"
        assert "idempotent-replayed" not in answer.headers
        second = api.use(client, issued["token"])
        assert (second.status, second.code) == (410, "token_exhausted")

    def test_get_does_the_same_with_the_token_in_the_query_and_the_key_in_its_header(
        self, api: Api, client: Credentials
    ) -> None:
        token = api.issue(client, user="alice", ipAddresses=["10.0.0.1"], maxUses=2)["token"]
        query = {"token": token, "user": "alice", "ipAddress": "10.0.0.1", "action": "download"}
        headers = {"Idempotency-Key": "k"}
        first, again = (api.call("GET", "/use", client, query=query, headers=headers) for _ in range(2))
        assert (first.json["usesRemaining"], first.text) == (1, again.text)
        assert api.call("POST", "/use", client, query).json["usesRemaining"] == 0

    def test_a_token_that_is_given_as_the_user_is_not_kept(self, api: Api, client: Credentials) -> None:
        issued = api.issue(client)
        for user in (issued["token"], f"alice {issued['token'].upper()}"):
            answer = api.use(client, issued["token"], user=user)
            assert (answer.status, answer.json["errors"][0]["field"]) == (400, "user")
            assert issued["token"] not in answer.text.lower()
        assert api.use(client, issued["token"], user="alice").status == 200


class TestIdempotency:
    def test_a_repeated_key_gets_the_same_answer_and_spends_nothing(self, api: Api, client: Credentials) -> None:
        token = api.issue(client, maxUses=3, metadata={"a": "b"})["token"]
        first = api.use(client, token, key="k1", user="u")
        api.use(client, token)
        again = api.use(client, token, key="k1", user="u")
        assert again.status == 200
        assert again.text == first.text
        assert again.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in first.headers
        assert api.use(client, token).json["usesRemaining"] == 0
        reused = api.use(client, token, key="k1", user="v")
        assert (reused.status, reused.code) == (422, "idempotency_key_reused")


class TestIntrospect:
    def test_it_returns_what_a_use_would_return_without_a_use_id(self, api: Api, client: Credentials) -> None:
        issued = api.issue(client, maxUses=2, metadata={"a": "b"}, user="alice")
        asked = {"token": issued["token"], "user": "alice"}
        reported = api.call("POST", "/introspect", client, asked)
        assert reported.status == 200
        used = api.call("POST", "/use", client, asked).json
        del used["useId"]
        assert reported.json == {"active": True, **used, "usesRemaining": 2}


class TestStatusAndRevocation:
    def test_the_status_has_limits_and_claims_but_neither_token_nor_node(self, api: Api, client: Credentials) -> None:
        issued = api.issue(client, maxUses=2)
        used = api.use(client, issued["token"], user="alice", ipAddress="10.0.0.1", action="download").json
        answer = api.call("GET", f"/token/{issued['tokenId']}", client)
        status = answer.json
        [claim] = status["claims"]
        assert answer.status == 200
        assert (status["maxUses"], status["usesRemaining"], status["revoked"]) == (2, 1, False)
        assert (claim["useId"], claim["clientId"]) == (used["useId"], client.user)
        assert (claim["user"], claim["ipAddress"], claim["action"]) == ("alice", "10.0.0.1", "download")
        assert issued["token"] not in answer.text.lower()
        assert NODE not in answer.text

    def test_revoking_is_idempotent_and_final(self, api: Api, client: Credentials) -> None:
        issued = api.issue(client)
        for _ in range(2):
            answer = api.call("DELETE", f"/token/{issued['tokenId']}", client)
            assert (answer.status, answer.text) == (204, "")
        assert api.use(client, issued["token"]).code == "token_revoked"
        assert api.call("DELETE", "/token/tok_" + "0" * 32, client).status == 204
        assert api.call("GET", f"/token/{issued['tokenId']}", client).json["revoked"] is True

    def test_if_time_runs_out_the_response_has_more(
        self, api: Api, client: Credentials, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = "node-with-many"
        for _ in range(3):
            api.issue(client, nodeId=node)
        left = iter([True, False])
        monkeypatch.setattr(routes.Call, "has_time_left", lambda _: next(left))
        assert api.call("POST", "/revoke", client, {"nodeId": node}).json == {"revoked": 1, "more": True}
        monkeypatch.undo()
        assert api.call("POST", "/revoke", client, {"nodeId": node}).json == {"revoked": 2, "more": False}


class TestErrors:
    def test_the_ids_of_the_gateway_are_in_the_answer_and_in_every_event(
        self, api: Api, client: Credentials, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A caller can choose the gateway's requestId, so the other one stands beside it."""
        token, weak = api.issue(client)["token"], api.client(Scope.ISSUE)
        calls: list[tuple[str, Callable[[], Answer]]] = [
            ("token.issued", lambda: api.call("POST", "/token", client, {"nodeId": NODE})),
            ("token.introspected", lambda: api.call("POST", "/introspect", client, {"token": token})),
            ("token.used", lambda: api.use(client, token)),
            ("token.refused", lambda: api.use(client, token)),
            ("auth.refused", lambda: api.use(weak, token)),
            ("token.revoked", lambda: api.call("POST", "/revoke", client, {"nodeId": NODE})),
        ]
        for name, call in calls:
            capsys.readouterr()
            answer = call()
            reported = [line for line in audit_lines(capsys) if line.get("event") == name]
            assert reported, name
            for line in reported:
                assert line.items() >= api.gateway.ids.items(), name
            if answer.code is not None:
                assert answer.json["requestId"] == api.gateway.ids["requestId"]

    def test_a_bug_is_reported_without_its_text(
        self, api: Api, client: Credentials, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("the inside of the service")

        monkeypatch.setattr(entry.service(), "use", broken)
        answer = api.use(client, "0" * 64)
        assert (answer.status, answer.code) == (500, "internal_error")
        assert "inside" not in answer.text
        [reported] = [line for line in audit_lines(capsys) if line.get("event") == "log"]
        assert "the inside of the service" in reported["exception"]
        assert reported["requestId"] == answer.json["requestId"] == api.gateway.ids["requestId"]
        assert len(reported["lambdaRequestId"]) == 36
        assert reported["lambdaRequestId"] != reported["requestId"]

    def test_other_methods_get_a_list_of_the_supported_ones_and_spend_nothing(
        self, api: Api, client: Credentials
    ) -> None:
        query = {"token": api.issue(client)["token"]}
        for path in {route.path for route in routes.ROUTES}:
            target = path.replace("{token_id}", "tok_" + "0" * 32)
            allowed = {route.method for route in routes.ROUTES if route.path == path}
            allowed |= {"HEAD"} if "GET" in allowed and path != "/use" else set()
            for method in set(routes.METHODS) - allowed - {"HEAD"}:
                answer = api.call(method, target, client, query=query)
                expected = (204, None) if method == "OPTIONS" else (405, "method_not_allowed")
                assert (answer.status, answer.code) == expected
                assert set(answer.headers["allow"].split(", ")) == allowed
        assert api.use(client, query["token"]).status == 200

    @pytest.mark.parametrize("path", [route.path for route in routes.ROUTES if route.method == "GET"])
    def test_head_answers_as_get_does_without_a_body_and_spends_nothing(
        self, api: Api, client: Credentials, path: str
    ) -> None:
        issued = api.issue(client)
        target = path.replace("{token_id}", issued["tokenId"])
        query = {"token": issued["token"]}
        head = api.call("HEAD", target, client, query=query)
        assert head.text == ""
        if path == "/use":
            assert (head.status, head.headers["allow"]) == (405, "GET, POST")
        else:
            get = api.call("GET", target, client, query=query)
            assert (head.status, head.headers) == (get.status, get.headers)
        assert api.call("HEAD", "/token/tok_" + "0" * 32, client).status == 404
        assert api.call("HEAD", "/tokens", client).status == 405
        assert api.use(client, issued["token"]).status == 200

    def test_any_client_gets_the_version(self, api: Api, client: Credentials) -> None:
        answer = api.call("GET", "/version", client)
        expected = {"service": "tokenservice", "version": __version__, "commit": "unknown", "stage": "local"}
        assert answer.json == expected


class TestAudit:
    MEMBERS = frozenset({"event", "time", "level", "requestId", "clientId", "tokenId", "nodeId", "user"}) | {
        *("extendedRequestId", "sourceIp", "ipAddress", "action", "reason", "useId", "stage", "version"),
        *("uses", "previous", "issuedAt", "maxUses", "expiresAt", "actions"),
    }

    def test_every_decision_is_one_audit_event_and_is_counted(
        self, api: Api, capsys: pytest.CaptureFixture[str]
    ) -> None:
        client = api.client()
        capsys.readouterr()
        issued = api.issue(client, user="alice")
        said = {"user": "alice", "ipAddress": "10.0.0.1", "action": "download"}
        for key in ("k", "k", None):
            api.use(client, issued["token"], **said, key=key)
        api.call("POST", "/introspect", client, {"token": issued["token"], **said})
        api.call("DELETE", f"/token/{issued['tokenId']}", client)
        api.call("GET", "/version", Credentials(client.user, "wrong"))
        api.call("GET", f"/token/{issued['tokenId']}", api.client(Scope.USE))
        lines = audit_lines(capsys)
        events = [line for line in lines if "event" in line]
        reported = [(event["event"], event["level"], event.get("reason")) for event in events]
        assert reported == [
            ("token.issued", "INFO", None),
            ("token.used", "INFO", None),
            ("token.used", "INFO", "replayed"),
            ("token.refused", "WARNING", "token_exhausted"),
            ("token.introspected", "INFO", "token_exhausted"),
            ("token.revoked", "INFO", None),
            ("auth.refused", "WARNING", "wrong_secret"),
            ("auth.refused", "WARNING", "insufficient_scope"),
        ]
        assert all(set(event) <= self.MEMBERS for event in events)
        # The authorizer sees no address; the access log has it.
        assert [event.get("sourceIp") for event in events] == [*["127.0.0.1"] * 6, None, "127.0.0.1"]
        counted = {name for line in lines if "_aws" in line for name in line if name[0].isupper()}
        assert {"TokensIssued", "TokensUsed", "TokensRefused", "AuthRefused", "StoreLatency"} <= counted


class TestRequestsToTheStore:
    """How many requests each route sends to DynamoDB, counted where PynamoDB hands them over."""

    def test_each_outcome_costs_the_calls_of_the_architecture(
        self, api: Api, client: Credentials, asked: list[str]
    ) -> None:
        def sent(call: Callable[[], object]) -> list[str]:
            asked.clear()
            call()
            return list(asked)

        update, batch = "UpdateItem", {"tokens": [{"nodeId": "n"}] * 3}
        plain, bound = api.issue(client, user="alice"), api.issue(client, ipAddresses=["10.0.0.1"], maxUses=2)
        api.issue(client, nodeId="node-to-count")
        token, status, there = plain["token"], f"/token/{plain['tokenId']}", bound["token"]
        assert sent(lambda: api.issue(client)) == ["PutItem"]
        assert sent(lambda: api.call("POST", "/tokens", client, batch)) == ["TransactWriteItems"]
        assert sent(lambda: api.call("POST", "/introspect", client, {"token": token})) == ["GetItem"]
        assert sent(lambda: api.call("GET", status, client)) == ["GetItem"]
        assert sent(lambda: api.use(client, token)) == [update, update], "a mismatch"
        assert sent(lambda: api.use(client, token, user="alice", key="k")) == [update], "granted"
        assert sent(lambda: api.use(client, token, user="alice", key="k")) == [update], "replayed"
        assert sent(lambda: api.use(client, token, user="bob", key="k")) == [update], "key reused"
        assert sent(lambda: api.use(client, token, user="alice")) == [update], "exhausted"
        assert sent(lambda: api.use(client, "0" * 64)) == [update], "unknown"
        assert sent(lambda: api.use(client, there, ipAddress="10.0.0.1")) == [update, update], "granted to an address"
        assert sent(lambda: api.use(client, there, ipAddress="10.0.0.2")) == [update, update], "another address"
        assert sent(lambda: api.call("DELETE", status, client)) == [update]
        assert sent(lambda: api.use(client, token, user="alice")) == [update], "revoked"
        assert sent(lambda: api.call("POST", "/revoke", client, {"nodeId": "node-to-count"})) == ["Query", update]
        assert sent(lambda: api.use(client, "nonsense")) == [], "bad input"
        assert sent(lambda: api.call("GET", "/version", client)) == []
