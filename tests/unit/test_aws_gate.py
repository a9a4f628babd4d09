"""The gate: what PynamoDB gets in the place of modules that are slow to load."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import botocore.exceptions
import pytest
from pynamodb.attributes import Attribute

from chalicelib.aws import gate
from chalicelib.aws.errors import Refused
from chalicelib.storage.token_item import TokenItem
from chalicelib.tokens import Terms

ROOT = Path(__file__).resolve().parents[2]


def test_botocore_has_all_names_of_the_stand_ins() -> None:
    """Names that botocore lacks would hide that PynamoDB needs others."""
    for module, names in gate.STAND_INS.items():
        __import__(f"botocore.{module}")
        for name in names:
            assert hasattr(sys.modules[f"botocore.{module}"], name), f"botocore.{module}.{name}"


def test_a_refusal_reads_like_botocores() -> None:
    arguments: Any = ({"Error": {"Code": "C", "Message": "M"}}, "Op")
    ours, theirs = Refused(*arguments), botocore.exceptions.ClientError(*arguments)
    assert str(ours) == str(theirs)
    assert (ours.response, ours.operation_name) == (theirs.response, theirs.operation_name)


def test_inspect_for_pynamodb_returns_what_inspect_does() -> None:
    ours = gate.Inspect("inspect")

    def attributes(member: object) -> bool:
        return isinstance(member, Attribute)

    assert ours.getmembers(TokenItem, attributes) == inspect.getmembers(TokenItem, attributes) != []
    assert ours.getfullargspec(Attribute.__init__).args == inspect.getfullargspec(Attribute.__init__).args
    assert ours.get_annotations(Terms) == inspect.get_annotations(Terms) != {}
    assert ours.get_annotations(object) == inspect.get_annotations(object) == {}


def test_the_first_use_of_another_name_loads_the_module_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    late = gate.Late("calendar")
    monkeypatch.setitem(sys.modules, "calendar", late)
    with pytest.raises(AttributeError, match=r"^__path__$"):  # what the import system looks for loads nothing
        _ = late.__path__
    assert sys.modules["calendar"] is late
    assert late.timegm is sys.modules["calendar"].timegm
    assert sys.modules["calendar"] is not late
    assert late.isleap is sys.modules["calendar"].isleap


def test_imports_return_the_stand_ins_of_what_is_not_loaded_yet() -> None:
    late = {"inspect": gate.Inspect, "calendar": gate.Late, "random": gate.Late, "uuid": gate.Late}
    with patch.dict(sys.modules):
        for name in [name for name in sys.modules if name in late or name.partition(".")[0] == "botocore"]:
            del sys.modules[name]
        gate.close()
        assert import_module("botocore").__name__ == "botocore"
        for name, kind in late.items():
            assert (type(import_module(name)), import_module(name).__name__) == (kind, name)
        for name, content in gate.STAND_INS.items():
            module = import_module(f"botocore.{name}")
            assert vars(module).items() >= content.items()
            assert getattr(import_module("botocore"), name) is module
        with pytest.raises(ModuleNotFoundError, match=r"^No module named 'botocore\.awsrequest'$"):
            import_module("botocore.awsrequest")
    with pytest.raises(RuntimeError, match=r"^botocore is not loaded; set DYNAMODB_TRANSPORT=botocore to use it$"):
        gate.STAND_INS["session"]["get_session"]()


def test_pynamodb_and_both_stores_load_with_them_alone() -> None:
    """In a process where any look at the real botocore fails."""
    code = """
import sys
from chalicelib.aws import gate
gate.close()
names = set(gate.STAND_INS)
from chalicelib.aws.dynamodb import DynamoDbClient
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.token_store import TokenStore
from chalicelib.errors import StoreUnavailable
environ = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}
client = DynamoDbClient.from_environ({**environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
loaded = {name for name in sys.modules if name.startswith("botocore")}
assert loaded == {"botocore"} | {f"botocore.{name}" for name in names}, loaded
for store in (TokenStore("tokens", client=client), ClientStore("clients", client=client)):
    try:
        store.find("tok_1")
    except StoreUnavailable as error:
        assert "NoAnswer" in repr(error.__cause__.cause), repr(error.__cause__)
    else:
        raise AssertionError("nobody listens there")
try:
    TokenStore("others").find("tok_1")
except RuntimeError as error:
    assert "DYNAMODB_TRANSPORT=botocore" in str(error)
print("all is well")
"""
    environ = {"AWS_DEFAULT_REGION": "eu-central-1"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert run.stdout == "all is well\n", run.stderr
