"""The floor's signature, and how archives are laid out. That peers do what they should is held in each measurement."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from studies.bench.box import build
from studies.bench.box.variants import Archive

ENVIRON = {
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "s" * 40,
    "AWS_SESSION_TOKEN": "a session",
}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "OUT", tmp_path)
    return tmp_path


def test_the_hand_made_signature_is_the_one_of_aws_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(build.PEERS)
    sigv4 = importlib.import_module("sigv4")
    body = b'{"TableName":"tokens"}'
    made = sigv4.signed("dynamodb.eu-central-1.amazonaws.com", "GetItem", body, "20261121T100000Z", ENVIRON)
    request = AWSRequest("POST", "https://dynamodb.eu-central-1.amazonaws.com/", data=body)
    for name, text in made.items():
        if name not in ("authorization", "host"):
            request.headers[name] = text
    request.context["timestamp"] = "20261121T100000Z"
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", "s" * 40, "a session"), "dynamodb", "eu-central-1")
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    assert made["authorization"].endswith(f"Signature={signature}")
    assert f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(request))}," in made["authorization"]


def test_a_tuned_archive_is_compiled_and_trusts_few_and_a_stock_one_is_as_it_came(out: Path) -> None:
    tuned = build.built(Archive("tuned", "bare_botocore", ("jmespath",)), None)
    assert (tuned.task / "jmespath" / "__pycache__" / f"lexer.{sys.implementation.cache_tag}.pyc").is_file()
    assert 0 < tuned.authorities.count(b"BEGIN CERTIFICATE") < 10
    stock = build.built(Archive("stock", "bare_botocore", ("botocore",), tuned=False), None)
    assert list(stock.task.rglob("*.pyc")) == []
    assert stock.authorities.count(b"BEGIN CERTIFICATE") > 100
    assert {"dynamodb", "s3", "ec2"} <= {path.name for path in (stock.task / "botocore" / "data").iterdir()}
    assert stock.zip_bytes > 10 * tuned.zip_bytes > 0


def test_functions_start_from_an_interpreter_without_packages(out: Path) -> None:
    code = "import site, sys; print(*site.getsitepackages(), sep='\\n')"
    run = subprocess.run([build.python(), "-c", code], capture_output=True, text=True, check=True)
    [packages] = map(Path, run.stdout.splitlines())
    assert packages.is_relative_to(out)
    assert list(packages.iterdir()) == []
