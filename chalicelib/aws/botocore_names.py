"""The names of botocore that PynamoDB asks for when it is imported, without botocore.

PynamoDB names classes of botocore in annotations, and catches two of its errors. Where our own client does the
calling, that is all it needs, and botocore's two seconds of loading on a small function are spared.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class BotoCoreError(Exception):
    """A request that came to nothing on this side."""

    fmt = "An unspecified error occurred"

    def __init__(self, **facts: Any) -> None:
        super().__init__(self.fmt.format(**facts))


class ClientError(Exception):
    """A request that AWS refused.

    Attributes:
        response: the answer, with `Error` holding `Code` and `Message`.
        operation_name: what was asked.
    """

    def __init__(self, error_response: dict[str, Any], operation_name: str) -> None:
        error = error_response.get("Error", {})
        super().__init__(
            f"An error occurred ({error.get('Code', 'Unknown')}) when calling the {operation_name} operation: "
            f"{error.get('Message', 'Unknown')}"
        )
        self.response = error_response
        self.operation_name = operation_name


class ChecksumError(BotoCoreError):
    """An answer that is not what AWS sent."""


class _OnlyNamed:
    """What PynamoDB names in an annotation, or calls to make a client where it was given none."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("botocore is not loaded; DYNAMODB_TRANSPORT=botocore asks for it")


_NAMES: dict[str, dict[str, Any]] = {
    "exceptions": {"BotoCoreError": BotoCoreError, "ChecksumError": ChecksumError, "ClientError": ClientError},
    "client": {"BaseClient": _OnlyNamed, "ClientError": ClientError, "Config": _OnlyNamed},
    "config": {"Config": _OnlyNamed},
    "credentials": {"Credentials": _OnlyNamed},
    "endpoint": {"Endpoint": _OnlyNamed},
    "hooks": {"HierarchicalEmitter": _OnlyNamed},
    "model": {"OperationModel": _OnlyNamed},
    "session": {"Session": _OnlyNamed, "get_session": _OnlyNamed},
    "signers": {"RequestSigner": _OnlyNamed},
}


def install() -> None:
    """Let `import botocore` find these names; call it before PynamoDB is imported."""
    package = ModuleType("botocore", "The names of botocore that PynamoDB asks for.")
    package.__path__ = []
    sys.modules["botocore"] = package
    for name, content in _NAMES.items():
        module = ModuleType(f"botocore.{name}")
        module.__dict__.update(content)
        sys.modules[module.__name__] = module
        setattr(package, name, module)
