"""From HTTP text to a typed request: JSON bodies, queries and headers, with every mistake named."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from chalicelib.problems import FieldError, InvalidRequest
from chalicelib.schemas import BatchRequest, IssueRequest, Request
from chalicelib.tokens import Action

_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")
_R = TypeVar("_R", bound=Request)
_LENGTH: Final = r"Expected `\w+` of length (>=|<=) (\d+)"  # compiled by the first mistake that needs it
_BOUND: Final = {">=": "least", "<=": "most"}
_FIELD_PATH = re.compile(r" - at `(key` in `)?\$\.?(.*)`$")


def parse_body(body: bytes, into: type[_R]) -> _R:
    """Read a request's JSON body.

    Raises:
        InvalidRequest: not JSON, or not of that type; names every field that is wrong.
    """
    try:
        request = msgspec.json.decode(body, type=into)
        # msgspec lets the last of two equal keys win, and two readers of one body must not differ.
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_field_errors(body, into) or [_field_error(error)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest([FieldError("body", "not a JSON document in UTF-8")]) from None
    return request


def parse_query(query: Mapping[str, Sequence[str]], into: type[_R]) -> _R:
    """Read a request from query parameters, each of which may be given once.

    Raises:
        InvalidRequest: names every parameter that is wrong.
    """
    repeated = [FieldError(name, "given more than once") for name, values in query.items() if len(values) != 1]
    if repeated:
        raise InvalidRequest(repeated)
    return _convert({name: values[0] for name, values in query.items()}, into)


def parse_idempotency_key(value: str | None) -> str | None:
    """Read the header `Idempotency-Key`: 1 to 255 visible ASCII characters; None: it was not sent."""
    if value is not None and not _IDEMPOTENCY_KEY.fullmatch(value):
        raise InvalidRequest([FieldError("Idempotency-Key", "must be 1 to 255 visible ASCII characters")])
    return value


def _convert(values: Any, into: type[_R]) -> _R:
    try:
        return msgspec.convert(values, into)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_errors_by_field(values, into) or [_field_error(error)]) from None


def _field_errors(body: bytes, into: type[Request]) -> list[FieldError]:
    try:
        values = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [FieldError("body", "not a JSON document in UTF-8")]
    return _errors_by_field(values, into)


def _errors_by_field(values: Any, into: type[Request], prefix: str = "") -> list[FieldError]:
    """Everything that is wrong with an object: msgspec itself stops at the first."""
    if not isinstance(values, dict):
        return [FieldError(prefix.rstrip(".") or "body", "must be a JSON object")]
    fields = {field.encode_name: field for field in msgspec.structs.fields(into)}
    errors = [FieldError(prefix + name, "there is no such field") for name in values if name not in fields]
    for name, field in fields.items():
        if name not in values:
            if field.required:
                errors.append(FieldError(prefix + name, "is missing"))
            continue
        try:
            msgspec.convert(values[name], field.type)
        except msgspec.ValidationError as error:
            errors += _errors_of_entries(name, values[name], into) or [_field_error(error, prefix + name)]
    return errors


def _errors_of_entries(name: str, values: Any, into: type[Request]) -> list[FieldError]:
    """What is wrong with the tokens of a batch, each field with its place."""
    if into is not BatchRequest or not isinstance(values, list):
        return []
    return [
        error
        for place, each in enumerate(values)
        for error in _errors_by_field(each, IssueRequest, f"{name}[{place}].")
    ]


def _field_error(error: msgspec.ValidationError, parent: str = "") -> FieldError:
    """One of msgspec's messages, in words that do not repeat what was sent."""
    message = str(error)
    found = _FIELD_PATH.search(message)
    path = found[2] if found else ""
    if found:
        message = ("one of its names: " if found[1] else "") + message[: found.start()]
    field = parent + path or "body"
    if message.startswith("Invalid enum value"):
        message = f"must be one of {', '.join(Action)}"
    elif "matching regex" in message:
        message = "has characters that are not allowed"
    message = re.sub(_LENGTH, lambda found: f"must be at {_BOUND[found[1]]} {found[2]} long", message)
    return FieldError(field, message.replace("`", ""))


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    times = Counter(name for name, _ in pairs)
    if len(times) != len(pairs):
        twice = sorted(name for name, count in times.items() if count > 1)
        raise InvalidRequest([FieldError(name, "given more than once") for name in twice])
