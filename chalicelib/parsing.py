"""From HTTP text to a typed request: JSON bodies, queries and headers, with every mistake named."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from chalicelib.problems import FieldError, InvalidRequest
from chalicelib.schemas import BatchRequest, IssueRequest, Request
from chalicelib.tokens import Action

_GIVEN_TWICE: Final = "given more than once"
_SINGLE_HEADERS: Final = {name.lower(): name for name in ("Authorization", "Content-Type", "Idempotency-Key")}
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
    repeated = [FieldError(name, _GIVEN_TWICE) for name, values in query.items() if len(values) != 1]
    if repeated:
        raise InvalidRequest(repeated)
    return _convert({name: values[0] for name, values in query.items()}, into)


def check_headers(names: Iterable[str]) -> None:
    """Check that no header that decides something comes twice: two readers of one request must not differ.

    Args:
        names: the name of every header that came, in any case, as often as it came.

    Raises:
        InvalidRequest: names the headers.
    """
    lines = [_SINGLE_HEADERS[name.lower()] for name in names if name.lower() in _SINGLE_HEADERS]
    if len(set(lines)) != len(lines):
        raise InvalidRequest([FieldError(name, _GIVEN_TWICE) for name in sorted(set(lines)) if lines.count(name) > 1])


def parse_media_type(value: str) -> str:
    """Read the header `Content-Type`: the media type in lower case, without its parameters.

    Raises:
        InvalidRequest: there are two, which a proxy may have joined by a comma (RFC 9110, section 5.3).
    """
    outside_quotes = value.split('"')[::2]
    if any("," in part for part in outside_quotes):
        raise InvalidRequest([FieldError("Content-Type", _GIVEN_TWICE)])
    return value.partition(";")[0].strip().lower()


def parse_idempotency_key(value: str | None) -> str | None:
    """Read the header `Idempotency-Key`: 1 to 255 visible ASCII characters; None: it was not sent.

    Raises:
        InvalidRequest: something else, or two keys, which a proxy joined by a comma and a space.
    """
    if value is not None and not _IDEMPOTENCY_KEY.fullmatch(value):
        message = _GIVEN_TWICE if ", " in value else "must be 1 to 255 visible ASCII characters"
        raise InvalidRequest([FieldError("Idempotency-Key", message)])
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
        raise InvalidRequest([FieldError(name, _GIVEN_TWICE) for name in twice])
