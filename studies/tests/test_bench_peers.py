"""What the peers share, and how archives are laid out. That peers do what they should is asked in each measurement."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from studies.bench.box import build, variants
from studies.bench.box.variants import Archive

ROOT = Path(__file__).resolve().parents[2]
ENVIRON = {
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "s" * 40,
    "AWS_SESSION_TOKEN": "a session",
}


def load(name: str) -> Any:
    """A module that lies beside a peer; its folder is on no path."""
    spec = importlib.util.spec_from_file_location(name, build.PEERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sigv4, record = load("sigv4"), load("record")


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "OUT", tmp_path)
    return tmp_path


def test_the_hand_made_signature_is_the_one_of_aws_own_client() -> None:
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


@pytest.mark.parametrize(
    "body",
    [
        None,
        "",
        "{",
        "[]",
        '"x"',
        "{}",
        '{"token":5}',
        '{"token":"0"}',
        f'{{"token":"{"G" * 64}"}}',
        '{"token":"","x":1}',
    ],
)
def test_a_peer_rejects_an_invalid_token(body: str | None) -> None:
    with pytest.raises(record.Refused, match="invalid_request"):
        record.read_use(body)


@pytest.mark.parametrize(
    "body", ['{"nodeId":""}', '{"nodeId":"a\\n"}', '{"nodeId":"n","maxUses":0}', '{"nodeId":"n","maxUses":true}']
)
def test_a_peer_rejects_an_invalid_issue_body(body: str) -> None:
    with pytest.raises(record.Refused, match="invalid_request"):
        record.read_issue(body)


def test_a_peer_returns_why_a_use_was_refused() -> None:
    digest = record.digest_of("a token")
    stored = record.item(digest, "portal", ("node", 1, 300), 1000.0)
    assert [
        record.refusal(None, digest, 1000).code,
        record.refusal(stored, "another", 1000).code,
        record.refusal(stored | {"revoked_at": {"N": "1001"}}, digest, 1000).code,
        record.refusal(stored, digest, 1300).code,
        record.refusal(stored, digest, 1299).code,
    ] == ["token_not_found", "token_not_found", "token_revoked", "token_expired", "token_exhausted"]


def test_a_peer_refuses_clients_without_the_scope() -> None:
    with pytest.raises(record.Refused, match="unauthorized"):
        record.require_scope({}, "use")
    with pytest.raises(record.Refused, match="insufficient_scope"):
        record.require_scope({"authorizer": {"clientId": "portal", "scopes": "issue"}}, "use")
    assert record.require_scope({"authorizer": {"clientId": "portal", "scopes": "issue use"}}, "use") == "portal"


def test_a_tuned_archive_is_compiled_and_trusts_few_and_a_stock_one_is_as_it_came(out: Path) -> None:
    tuned = build.built(Archive("tuned", "bare_botocore", ("jmespath",)), None)
    assert (tuned.task / "__pycache__" / f"app.{sys.implementation.cache_tag}.pyc").is_file()
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


def test_an_archive_is_built_again_only_if_it_changed(out: Path) -> None:
    archive = Archive("floor", "floor")
    stray = build.built(archive, None).task / "stray"
    stray.touch()
    build.built(archive, None)
    assert stray.exists()
    build.built(Archive("floor", "floor", shared=("record.py", "sigv4.py")), None)
    assert not stray.exists()


def test_the_closure_has_indirect_requirements_and_no_extras() -> None:
    assert build._closure(["boto3"]) == [
        "boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3",
    ]  # fmt: skip


def test_every_variant_has_its_sources_and_a_name_of_its_own() -> None:
    assert len({each.name for each in variants.ALL}) == len(variants.ALL)
    by_name: dict[str, Archive] = {}
    for each in variants.ALL:
        assert by_name.setdefault(each.archive.name, each.archive) == each.archive
        assert all(path.is_file() for path in build._sources_of(each.archive))
    assert all(each in variants.ALL for each in (*variants.GUARDED, *variants.AT_OTHER_SIZES))
