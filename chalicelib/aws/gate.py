"""The gate between PynamoDB and botocore.

PynamoDB imports classes of botocore for its annotations and catches two of its errors. With our own client that is all
it needs of botocore, which takes two seconds to load on a small function. `close()` puts stand-ins in its place.
"""

from __future__ import annotations

import sys
from types import ModuleType
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


def close() -> None:
    """Make `import botocore` return the stand-ins, in this process from now on. Call it before PynamoDB is imported."""
    package = ModuleType("botocore")
    package.__path__ = []
    sys.modules["botocore"] = package
    for name, content in STAND_INS.items():
        module = ModuleType(f"botocore.{name}")
        module.__dict__.update(content)
        sys.modules[module.__name__] = module
        setattr(package, name, module)
