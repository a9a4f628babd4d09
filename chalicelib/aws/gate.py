"""The gate between PynamoDB and modules that are slow to load.

PynamoDB imports classes of botocore for its annotations and catches two of its errors. With our own client that is all
it needs of botocore, which takes two seconds to load on a small function. It imports `inspect` for two functions, and
`calendar`, `random` and `uuid` for calls that are rare or never made here. `close()` puts stand-ins in their place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, Final

from chalicelib.aws.errors import NoAnswer, Refused


class _Unavailable:
    """A class that PynamoDB names in an annotation, or calls if it was given no client."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("botocore is not loaded; set DYNAMODB_TRANSPORT=botocore to use it")


STAND_INS: Final[dict[str, dict[str, Any]]] = {
    "exceptions": {"BotoCoreError": NoAnswer, "ClientError": Refused},
    "client": {"BaseClient": _Unavailable, "ClientError": Refused, "Config": _Unavailable},
    "config": {"Config": _Unavailable},
    "credentials": {"Credentials": _Unavailable},
    "endpoint": {"Endpoint": _Unavailable},
    "hooks": {"HierarchicalEmitter": _Unavailable},
    "model": {"OperationModel": _Unavailable},
    "session": {"Session": _Unavailable, "get_session": _Unavailable},
    "signers": {"RequestSigner": _Unavailable},
}
"""Module of botocore to name to class."""


class Late(ModuleType):
    """A module of the standard library that is loaded by the first use of a name that it lacks here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks for some
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


class Inspect(Late):
    """What PynamoDB and its dataclass call of `inspect` while they load."""

    @staticmethod
    def get_annotations(of: type) -> dict[str, Any]:
        return dict(vars(of).get("__annotations__", {}))

    @staticmethod
    def getmembers(of: type, predicate: Callable[[Any], bool]) -> list[tuple[str, Any]]:
        members = ((name, getattr(of, name)) for name in dir(of))
        return [(name, member) for name, member in members if predicate(member)]

    @staticmethod
    def getfullargspec(function: FunctionType) -> SimpleNamespace:
        code = function.__code__
        return SimpleNamespace(args=list(code.co_varnames[: code.co_argcount]))


def close() -> None:
    """Make imports return the stand-ins, in this process from now on. Call it before PynamoDB is imported."""
    for late in (Inspect("inspect"), Late("calendar"), Late("random"), Late("uuid")):
        sys.modules.setdefault(late.__name__, late)
    package = ModuleType("botocore")
    package.__path__ = []
    sys.modules["botocore"] = package
    for name, content in STAND_INS.items():
        module = ModuleType(f"botocore.{name}")
        module.__dict__.update(content)
        sys.modules[module.__name__] = module
        setattr(package, name, module)
