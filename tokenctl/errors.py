"""What ends a command: errors of a stage and of AWS, and what an operator can do about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.errors import NoAnswer, Refused

_LOG_IN: Final = "log in to AWS ('aws sso login', 'aws configure'), or name a profile with AWS_PROFILE"
_DIAGNOSE: Final = "'tokenctl doctor --stage {stage}' checks more"
_EXPIRED: Final = f"these credentials have expired: {_LOG_IN}"
_UNKNOWN: Final = f"AWS does not know these credentials: {_LOG_IN}"
_FORBIDDEN: Final = "these credentials have no permission for this: is it the right account and role?"
_THROTTLED: Final = "AWS throttles the calls: try again in a moment"

# The error's name, or AWS's own code -> what to do.
_ADVICE: Final = {
    "NoRegionError": "set AWS_DEFAULT_REGION to the stage's region",
    "NoCredentialsError": _LOG_IN,
    "PartialCredentialsError": _LOG_IN,
    "CredentialRetrievalError": _LOG_IN,
    "SSOTokenLoadError": _LOG_IN,
    "UnauthorizedSSOTokenError": _LOG_IN,
    "TokenRetrievalError": _LOG_IN,
    "ProfileNotFound": "AWS_PROFILE names no profile of this machine: 'aws configure list-profiles' lists them",
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "UnrecognizedClientException": _UNKNOWN,
    "InvalidClientTokenId": _UNKNOWN,
    "InvalidSignatureException": "check the secret key, and this machine's clock",
    "AccessDeniedException": _FORBIDDEN,
    "AccessDenied": _FORBIDDEN,
    "ResourceNotFoundException": "there is no such table in this account and region: deploy the stage, or "
    f"'tokenctl tables create --stage {{stage}}'; {_DIAGNOSE}",
    "EndpointConnectionError": f"check the network. Locally: does 'make run' or 'make engine' still run? {_DIAGNOSE}",
    "ThrottlingException": _THROTTLED,
    "ProvisionedThroughputExceededException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
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
    while below := getattr(error, "cause", None) or error.__cause__:
        error = below
    return code(error) or type(error).__name__


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
def aws_errors(what: str, stage: str = "") -> Iterator[None]:
    """Raise errors of AWS as one line about what was called; with a stage, also what to do.

    Raises:
        DeploymentError
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        message = str(error)
        if isinstance(error, ClientError):
            message = " ".join(f"{code(error)}: {error.response.get('Error', {}).get('Message', '')}".split())
        advised = f"; {advice(error, stage)}" if stage else ""
        raise DeploymentError(f"{what}: {message}{advised}") from None
