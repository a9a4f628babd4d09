"""The package of a stage on the local AWS: from CloudFormation to a REST call to an event in Splunk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.api import NODE, Credentials
from tests.support.hec_rules import Collector
from tests.support.hec_server import HecServer
from tests.support.local_aws import Package, Stack, local_aws
from tests.support.splunk_world import state_change, subscription
from tests.support.waiting import wait_until

FORWARDER = "tokenservice-dev-forward_logs"
HEC_TOKEN = "5b0d9e0a-6a1c-4a0e-9c7b-2f7d1d1c9a11"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def hec(authority: trustme.CA) -> Iterator[HecServer]:
    with HecServer(Collector(tokens={HEC_TOKEN}), authority) as server:
        yield server


@pytest.fixture(scope="module")
def stack(
    packages: Path, tmp_path_factory: pytest.TempPathFactory, hec: HecServer, authority: trustme.CA
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("deployed")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    made = Package.of("dev", packages)
    with local_aws(folder / "engine.log") as aws:
        aws.client("ssm").put_parameter(Name="/tokenservice/dev/splunk-hec-token", Type="SecureString", Value=HEC_TOKEN)
        yield Stack(aws, made, {"SplunkHecUrl": hec.url}, SPLUNK_CA_BUNDLE=str(folder / "ca.pem"))


@pytest.fixture(scope="module")
def client(stack: Stack) -> Credentials:
    return stack.add_client("appian")


def events(hec: HecServer, **wanted: str) -> list[dict[str, Any]]:
    """What Splunk has indexed of the service's own events."""
    indexed = [each["event"] for each in list(hec.collector.indexed)]
    return [each for each in indexed if isinstance(each, dict) and wanted.items() <= each.items()]


def test_a_use_through_the_gateway_is_found_in_splunk(stack: Stack, client: Credentials, hec: HecServer) -> None:
    issued = stack.call("POST", "/token", client, {"nodeId": NODE, "user": "ada"})
    assert issued.status_code == 201, issued.text
    token, token_id = issued.json()["token"], issued.json()["tokenId"]
    used = stack.call("POST", "/use", client, {"token": token, "user": "ada"})
    assert (used.status_code, used.json()["nodeId"]) == (200, NODE)
    again = stack.call("GET", "/use", client, params={"token": token, "user": "ada"})
    assert (again.status_code, again.json()["code"]) == (410, "token_exhausted")

    for name in ("token.issued", "token.used", "token.refused"):
        [event] = wait_until(lambda name=name: events(hec, event=name, tokenId=token_id))
        assert (event["clientId"], event["stage"]) == ("appian", "dev")
    # The local AWS writes no access log; tests/e2e/test_local_gateway.py joins all three.
    assert event["requestId"] == again.json()["requestId"]
    assert event["extendedRequestId"]
    assert not any(event["requestId"] in line for line in stack.log("/aws/lambda/tokenservice-dev") if "{" not in line)
    [reported] = [each for each in hec.collector.indexed if each["event"] == event]
    assert reported["source"] == "/aws/lambda/tokenservice-dev"
    assert token not in json.dumps(hec.collector.indexed)


def test_revocations_by_an_operator_are_explained_and_in_splunk(
    stack: Stack, client: Credentials, hec: HecServer
) -> None:
    token_id = stack.call("POST", "/token", client, {"nodeId": NODE}).json()["tokenId"]
    stack.aws.tokenctl("dev", "token", "revoke", token_id)
    [event] = wait_until(lambda: events(hec, event="token.revoked", tokenId=token_id))
    assert event["clientId"] == "tokenctl"
    assert stack.aws.tokenctl("dev", "explain", token_id)["moments"][-1]["clientId"] == "tokenctl"


def test_wrong_credentials_get_the_challenge_and_are_in_splunk(
    stack: Stack, client: Credentials, hec: HecServer
) -> None:
    for credentials in (None, Credentials("appian", "wrong"), Credentials("nobody", "at all")):
        refused = stack.call("GET", "/version", credentials)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="tokenservice", charset="UTF-8"'
        assert refused.json()["requestId"] == refused.headers["x-amzn-requestid"]
    [event] = wait_until(lambda: events(hec, event="auth.refused", clientId="appian"))
    assert event["reason"] == "wrong_secret"


def test_an_invalid_path_gets_a_problem_that_echoes_nothing(stack: Stack, client: Credentials) -> None:
    missing = stack.call("GET", "/nowhere", client)
    assert (missing.status_code, missing.json()["code"]) == (404, "route_not_found")
    assert client.password not in missing.text
    assert client.header not in missing.text


def test_every_route_answers(stack: Stack, client: Credentials) -> None:
    token = stack.call("POST", "/token", client, {"nodeId": NODE}).json()
    batch = stack.call("POST", "/tokens", client, {"tokens": [{"nodeId": NODE}, {"nodeId": "another"}]})
    assert (batch.status_code, len(batch.json()["tokens"])) == (201, 2)
    seen = stack.call("POST", "/introspect", client, {"token": token["token"]})
    assert (seen.status_code, seen.json()["active"]) == (200, True)
    shown = stack.call("GET", f"/token/{token['tokenId']}", client)
    assert (shown.status_code, shown.json()["maxUses"]) == (200, 1)
    assert stack.call("DELETE", f"/token/{token['tokenId']}", client).status_code == 204
    revoked = stack.call("POST", "/revoke", client, {"nodeId": "another"})
    assert (revoked.status_code, revoked.json()) == (200, {"revoked": 1, "more": False})
    version = stack.call("GET", "/version", client).json()
    assert (version["service"], version["stage"]) == ("tokenservice", "dev")
    assert stack.call("PUT", "/token", client).headers["Allow"] == "POST"


def test_the_stage_listens_to_its_own_alarms_only(stack: Stack) -> None:
    # MiniStack's alarms tell EventBridge nothing, and nobody may send events in AWS's name: the rule itself is asked.
    events = stack.aws.client("events")
    [rule] = [each for each in events.list_rules()["Rules"] if each.get("EventPattern")]
    assert rule["State"] == "ENABLED"
    for alarm, is_ours in (("tokenservice-dev-slow", True), ("tokenservice-prod-slow", False), ("billing", False)):
        event = json.dumps(state_change(alarm))
        assert events.test_event_pattern(EventPattern=rule["EventPattern"], Event=event)["Result"] is is_ours


def test_a_state_change_is_sent_to_splunk(stack: Stack, hec: HecServer) -> None:
    said = stack.invoke("tokenservice-dev-forward_events", state_change("tokenservice-dev-slow"))
    assert said["error"] is None, said
    [reported] = [each for each in hec.collector.indexed if each["sourcetype"] == "aws:cloudwatch:event"]
    assert reported["event"]["detail"]["alarmName"] == "tokenservice-dev-slow"


def test_rejected_inputs_wait_at_the_destination_until_a_redrive_delivers_them_once(
    stack: Stack, hec: HecServer
) -> None:
    # On AWS it waits in the failure bucket, where the template sends it. MiniStack reaches queues only (the
    # test takes it from there to the bucket), and tries again only what is invoked asynchronously.
    sqs, functions = stack.aws.client("sqs"), stack.aws.client("lambda")
    queue = sqs.create_queue(QueueName="failed")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    functions.put_function_event_invoke_config(
        FunctionName=FORWARDER, MaximumRetryAttempts=2, DestinationConfig={"OnFailure": {"Destination": arn}}
    )

    def waiting() -> int:
        said = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])
        return int(said["Attributes"]["ApproximateNumberOfMessages"])

    def delivered() -> list[Any]:
        return [each["event"] for each in hec.collector.indexed if each["source"] == "/aws/lambda/elsewhere"]

    hec.collector.tokens.remove(HEC_TOKEN)
    event = subscription(['{"event":"token.used"}'], log_group="/aws/lambda/elsewhere")
    functions.invoke(FunctionName=FORWARDER, InvocationType="Event", Payload=json.dumps(event))
    assert wait_until(waiting) == 1
    assert delivered() == []

    hec.collector.tokens.add(HEC_TOKEN)
    [message] = sqs.receive_message(QueueUrl=queue)["Messages"]
    bucket, key = stack.outputs["FailureBucketName"], f"aws/lambda/async/{FORWARDER}/1"
    stack.aws.s3.put_object(Bucket=bucket, Key=key, Body=message["Body"].encode())
    for _ in range(2):
        stack.aws.tokenctl("dev", "splunk", "redrive")
    assert delivered() == [{"event": "token.used"}]
    assert "Contents" not in stack.aws.s3.list_objects_v2(Bucket=bucket)


def test_a_schedule_invokes_the_redrive(stack: Stack) -> None:
    """What it does there is in test_least_privilege.py."""
    events = stack.aws.client("events")
    [rule] = [each for each in events.list_rules()["Rules"] if each.get("ScheduleExpression")]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(15 minutes)", "ENABLED")
    [target] = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target["Arn"].endswith(":function:tokenservice-dev-redrive")


def test_an_event_that_splunk_can_never_take_is_kept_in_the_failure_bucket(stack: Stack) -> None:
    said = stack.invoke(FORWARDER, subscription(["good", None]))
    assert said["error"] is None, said
    [kept] = stack.aws.tokenctl("dev", "splunk", "failed")
    assert (kept["kind"], kept["events"]) == ("poison", 1)
    assert stack.outputs["FailureBucketName"] == "tokenservice-dev-failures-000000000000-us-east-1"


def test_no_secret_is_in_any_log(stack: Stack, client: Credentials) -> None:
    token = stack.call("POST", "/token", client, {"nodeId": NODE}).json()["token"]
    stack.call("GET", "/use", client, params={"token": token})
    written = "".join(line for group in stack.log_groups() for line in stack.log(group))
    assert '"event":"token.used"' in written
    for secret in (token, client.password, client.header, HEC_TOKEN):
        assert secret not in written
