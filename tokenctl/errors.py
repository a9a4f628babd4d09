"""What ends a command: errors of a stage and of AWS, and what an operator can do about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.errors import NoAnswer, Refused

_DIAGNOSE: Final = "'tokenctl doctor --stage {stage}' checks more"
# The error's name, or AWS's own code -> what to do. About credentials, profiles and rates AWS's own messages say it.
_ADVICE: Final = {
    "ResourceNotFoundException": "no such table is in this account and region: deploy the stage, or "
    f"'tokenctl tables create --stage {{stage}}'; {_DIAGNOSE}",
    "EndpointConnectionError": f"check the network. Locally: does 'make run' or 'make engine' still run? {_DIAGNOSE}",
}


class DeploymentError(Exception):
    """A command can't do its work on a stage; the message is one line that says what to do."""


class OwnErrors:
    """A client of AWS's library that raises the errors of `chalicelib.aws`, the only ones that `chalicelib` knows.

    Args:
        client: a boto3 client.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._client, operation)

        def call(**arguments: Any) -> Any:
            try:
                return method(**arguments)
            except ClientError as error:
                raise Refused(error.response, error.operation_name) from error
            except BotoCoreError as error:
                raise NoAnswer("AWS", type(error).__name__) from error

        return call


def cause(error: BaseException) -> str:
    """Return the code or the class name of the error at the bottom."""
    return code(_bottom(error)) or type(_bottom(error)).__name__


def described(error: BaseException) -> str:
    """Return the message of the error at the bottom in one line, after AWS's code if it has one."""
    error = _bottom(error)
    response: dict[str, Any] = getattr(error, "response", None) or {}
    message = f"{code(error)}: {response['Error'].get('Message', '')}" if code(error) else str(error)
    return " ".join(message.split())


def _bottom(error: BaseException) -> BaseException:
    while below := getattr(error, "cause", None) or error.__cause__:
        error = below
    return error


def code(error: BaseException) -> str:
    """Return AWS's code of an error; empty if it has none."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def advice(error: BaseException, stage: str) -> str:
    """Return what to do about an error."""
    return _ADVICE.get(cause(error), _DIAGNOSE).format(stage=stage)


def unless(refusal: str, call: Callable[..., Any], **named: Any) -> Any:
    """Return the response of a call; None if AWS refuses it with this code."""
    try:
        return call(**named)
    except ClientError as error:
        if code(error) == refusal:
            return None
        raise


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Raise errors of AWS as one line about what was called.

    Raises:
        DeploymentError
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise DeploymentError(f"{what}: {described(error)}") from None
