"""What an operator can do about an error of AWS."""

from __future__ import annotations

from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.errors import NoAnswer, Refused

_LOG_IN: Final = "log in to AWS ('aws sso login', 'aws configure'), or name a profile with AWS_PROFILE"
_LOOK: Final = "'tokenctl doctor --stage {stage}' looks further"

# The error's name, or AWS's own code -> what to do. `{stage}` is the stage that was worked on.
_ADVICE: Final = {
    "NoRegionError": "set AWS_DEFAULT_REGION to the stage's region",
    "NoCredentialsError": _LOG_IN,
    "PartialCredentialsError": _LOG_IN,
    "CredentialRetrievalError": _LOG_IN,
    "SSOTokenLoadError": _LOG_IN,
    "UnauthorizedSSOTokenError": _LOG_IN,
    "TokenRetrievalError": _LOG_IN,
    "ProfileNotFound": "AWS_PROFILE names no profile of this machine: 'aws configure list-profiles' shows them",
    "ExpiredToken": f"these credentials have expired: {_LOG_IN}",
    "ExpiredTokenException": f"these credentials have expired: {_LOG_IN}",
    "UnrecognizedClientException": f"AWS does not know these credentials: {_LOG_IN}",
    "InvalidClientTokenId": f"AWS does not know these credentials: {_LOG_IN}",
    "InvalidSignatureException": "are the secret key, and this machine's clock, right?",
    "AccessDeniedException": "these credentials may not do this: is it the right account and role?",
    "AccessDenied": "these credentials may not do this: is it the right account and role?",
    "ResourceNotFoundException": "there is no such table in this account and region: deploy the stage, or "
    "'tokenctl tables create --stage {stage}'; " + _LOOK,
    "EndpointConnectionError": "is the network there? Locally: does 'make run' or 'make engine' still run? " + _LOOK,
    "ThrottlingException": "AWS wants fewer calls: try again in a moment",
    "ProvisionedThroughputExceededException": "AWS wants fewer calls: try again in a moment",
    "RequestLimitExceeded": "AWS wants fewer calls: try again in a moment",
}


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
    """What lies at the bottom of an error: AWS's own word for it, or the name of the error."""
    while below := getattr(error, "cause", None) or error.__cause__:
        error = below
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code: str = response.get("Error", {}).get("Code", "")
    return code or type(error).__name__


def advice(error: BaseException, stage: str) -> str:
    """What to do about an error."""
    return _ADVICE.get(cause(error), _LOOK).format(stage=stage)
