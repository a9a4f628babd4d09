"""A failed invocation on the local AWS: Lambda tries again, keeps it, and a redrive delivers it."""

from __future__ import annotations

import io
import json
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from chalicelib.settings import Settings
from chalicelib.splunk.forward import forwarder
from chalicelib.splunk.record import FolderRecord, Kind
from local.engine import Engine
from tests.hec_faults import ForcedCode
from tests.hec_server import HecServer
from tests.splunk_world import subscription
from tokenctl.redrive import QueueSource, redrive

ROOT = Path(__file__).resolve().parents[2]
ROLE = "arn:aws:iam::000000000000:role/forwarder"
# What `app.forward_logs` loads, besides the standard library and our own code.
LIBRARIES = ("chalice", "requests", "urllib3", "certifi", "idna", "charset_normalizer", "tenacity")
PATIENCE_SECONDS = 60


def archive() -> bytes:
    """The function's code and libraries, as pure Python."""
    packages = Path(sysconfig.get_path("purelib"))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(ROOT / "app.py", "app.py")
        for folder in (ROOT / "chalicelib", *(packages / name for name in LIBRARIES)):
            for path in folder.rglob("*"):
                if path.is_file() and path.suffix in (".py", ".pem"):
                    archive.write(path, path.relative_to(folder.parent))
    return made.getvalue()


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A local AWS of its own that retries asynchronous invocations quickly; gives boto3 clients by name."""
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    with Engine(log=log, environ={"LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.1"}) as engine:
        environ = engine.client_environ
        yield lambda service: boto3.client(
            service,
            endpoint_url=engine.endpoint_url,
            region_name=environ["AWS_DEFAULT_REGION"],
            aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        )


@pytest.fixture
def hec() -> Iterator[HecServer]:
    with HecServer() as server:
        yield server


def test_what_fails_three_times_waits_at_the_destination_until_a_redrive_delivers_it_once(
    aws: Any, hec: HecServer, tmp_path: Path
) -> None:
    queue = aws("sqs").create_queue(QueueName="failed")["QueueUrl"]
    arn = aws("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    environ = {"STAGE": "dev", "SPLUNK_HEC_URL": hec.url, "SPLUNK_HEC_TOKEN": "the-token"}
    functions = aws("lambda")
    functions.create_function(
        FunctionName="forward_logs",
        Runtime="python3.11",
        Handler="app.forward_logs",
        Role=ROLE,
        Code={"ZipFile": archive()},
        # Lambda names the handler in this variable; MiniStack does not.
        Environment={"Variables": {**environ, "_HANDLER": "app.forward_logs"}},
        Timeout=20,
    )
    functions.put_function_event_invoke_config(
        FunctionName="forward_logs", MaximumRetryAttempts=2, DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    # An incorrect index is a configuration error: waiting does not help, so each invocation fails at once.
    hec.faults.extend([ForcedCode(7, 1)] * 3)
    event = subscription(['{"event":"token.used"}', "plain"])
    functions.invoke(FunctionName="forward_logs", InvocationType="Event", Payload=json.dumps(event))

    source = QueueSource(aws("sqs"), queue)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not source.count() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(hec.requests) == 3
    assert hec.collector.indexed == []

    record = FolderRecord(tmp_path)
    replay = forwarder(Settings.from_environ(environ).splunk, "dev", record=record)
    for _ in range(2):
        redrive(source, replay, source.entries(Kind.FAILED))
    assert [each["event"] for each in hec.collector.indexed] == [{"event": "token.used"}, "plain"]
    assert source.count() == 0
