"""The errors of every call to AWS, whoever makes it."""

from __future__ import annotations

from typing import Any


class AwsError(Exception):
    """Base of the errors of AWS calls.

    Attributes:
        why: the cause in a word or two, without secrets, for logs and messages.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class NoCredentials(AwsError):
    """The environment lacks credentials or a region; the message names the variable."""

    def __init__(self, variable: str) -> None:
        super().__init__(f"{variable}: missing", f"{variable}: missing")


class NoAnswer(AwsError):
    """No trustworthy response: the request may or may not have been executed."""

    def __init__(self, service: str, why: str) -> None:
        super().__init__(f"{service} gave no answer: {why}", why)


class Refused(AwsError):
    """The service refused the request, was throttling or failed.

    Args:
        response: as botocore's errors hold it, with `Error` holding `Code` and `Message`.
        operation: for example `PutItem`.
    """

    def __init__(self, response: dict[str, Any], operation: str) -> None:
        code, message = response["Error"]["Code"], response["Error"]["Message"]
        super().__init__(f"An error occurred ({code}) when calling the {operation} operation: {message}", code)
        self.response = response
        self.operation_name = operation
