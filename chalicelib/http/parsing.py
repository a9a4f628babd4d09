"""From HTTP text to a typed request: JSON bodies, queries and headers, with every error named.

msgspec decodes a valid request in one pass. It stops at the first error, and its messages are not for callers, so
`_examine()` reads an invalid request a second time. That ends with the fiftieth error and skips lists that are too
long, so that an invalid request costs no more than a valid one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from chalicelib.http.problems import MAX_ERRORS, Errors, FieldError, InvalidRequest
from chalicelib.http.schemas import Request

_GIVEN_TWICE: Final = "given more than once"
_SINGLE_HEADERS: Final = {name.lower(): name for name in ("Authorization", "Content-Type", "Idempotency-Key")}
_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")
_MAX_NAME: Final = 64
_LAST_CONTROL: Final = 0x9F
_REPLACEMENT: Final = 0xFFFD
_SURROGATE: Final = r"[\ud800-\udfff]"
_ODD: Final = r"[\x00-\x1f\x7f-\x9f\ufffd\ud800-\udfff]"
_R = TypeVar("_R", bound=Request)
_T = TypeVar("_T")
Read = Callable[[_R, Errors], _T | None]
"""Converts a request to a domain object, see `conversion`."""


def parse_body(body: bytes, into: type[_R], read: Read[_R, _T]) -> _T:
    """Read a request's JSON body.

    Raises:
        InvalidRequest: not JSON, or invalid; names every invalid field.
    """
    errors = Errors()
    try:
        request = msgspec.json.decode(body, type=into)
        # msgspec takes the last of two equal names. Another reader of the same body may take the first.
        _DISTINCT.decode(body.decode())
    except (ValueError, RecursionError):
        request = _examine(_parse(body), _type_of(into), "", errors)
    return _finish(request, read, errors)


def parse_query(query: Mapping[str, Sequence[str]], into: type[_R], read: Read[_R, _T]) -> _T:
    """Read a request from query parameters, none of which may be repeated.

    Raises:
        InvalidRequest: names every invalid parameter.
    """
    errors = Errors()
    pairs = _Object([(name, value) for name, values in query.items() for value in values])
    try:
        parameters = _distinct(pairs)
        request = msgspec.convert(parameters, into)
        "".join(parameters.values()).encode()  # a gateway may pass surrogates on, which UTF-8 lacks
    except ValueError:
        request = _examine(pairs, _type_of(into), "", errors)
    return _finish(request, read, errors)


def _finish(request: _R | None, read: Read[_R, _T], errors: Errors) -> _T:
    result = None if request is None else read(request, errors)
    if errors or result is None:
        raise InvalidRequest(errors)
    return result


def check_headers(names: Iterable[str]) -> None:
    """Check that no significant header is repeated: another reader of the same request may take the other value.

    Args:
        names: of all headers, in any case, with repetitions.

    Raises:
        InvalidRequest: names the headers.
    """
    lines = [_SINGLE_HEADERS[name.lower()] for name in names if name.lower() in _SINGLE_HEADERS]
    if len(set(lines)) != len(lines):
        raise InvalidRequest([FieldError(name, _GIVEN_TWICE) for name in sorted(_repeated(lines))])


def parse_media_type(value: str) -> str:
    """Read the header `Content-Type`: the media type in lower case, without its parameters.

    Raises:
        InvalidRequest: there are two; proxies join them with a comma (RFC 9110, section 5.3).
    """
    outside_quotes = value.split('"')[::2]
    if any("," in part for part in outside_quotes):
        raise InvalidRequest([FieldError("Content-Type", _GIVEN_TWICE)])
    return value.partition(";")[0].strip().lower()


def parse_idempotency_key(value: str | None) -> str | None:
    """Check the header `Idempotency-Key`: 1 to 255 visible ASCII characters, or None if it was not sent.

    Raises:
        InvalidRequest: anything else, or two keys that a proxy joined with a comma and a space.
    """
    if value is not None and not _IDEMPOTENCY_KEY.fullmatch(value):
        message = _GIVEN_TWICE if ", " in value else "must be 1 to 255 visible ASCII characters"
        raise InvalidRequest([FieldError("Idempotency-Key", message)])
    return value


class _Object(list[tuple[str, Any]]):
    """A JSON object as it was sent: names may be repeated."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without repeated names.

    Raises:
        ValueError: a name is repeated.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError(_GIVEN_TWICE)
    return members


_DISTINCT: Final = json.JSONDecoder(object_pairs_hook=_distinct)
# Classes and built-in functions as hooks: a body may hold thousands of values, and Python code would run for each.
_AS_SENT: Final = json.JSONDecoder(object_pairs_hook=_Object, parse_float=Decimal)
_WITH_HUGE_NUMBERS: Final = json.JSONDecoder(object_pairs_hook=_Object, parse_int=float)


def _parse(body: bytes) -> Any:
    """Read any JSON; objects are `_Object`s.

    Raises:
        InvalidRequest: the message explains what it is instead.
    """
    encoding = json.detect_encoding(body)
    try:
        if not body.strip():
            message = "is missing"
        elif encoding == "utf-8-sig":
            message = "begins with a byte order mark; send UTF-8 without it"
        elif encoding != "utf-8":
            message = f"is {encoding.upper()}, must be UTF-8"
        else:
            return _decode(body.decode())
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 (byte {error.start + 1})"
    except RecursionError:
        message = "is nested too deeply"
    except json.JSONDecodeError as error:
        message = f"is not JSON (line {error.lineno}, column {error.colno})"
    raise InvalidRequest([FieldError("body", message)])


def _decode(text: str) -> Any:
    try:
        return _AS_SENT.decode(text)
    except json.JSONDecodeError:
        raise
    except (ValueError, ArithmeticError):  # an integer of thousands of digits, or an exponent of as many
        return _WITH_HUGE_NUMBERS.decode(text)


@cache
def _type_of(request: type[Request]) -> inspect.Type:
    return inspect.type_info(request)


def _examine(value: Any, kind: inspect.Type, field: str, errors: Errors, *, optional: bool = False) -> Any:
    """Read one value by its type, and add its errors.

    Args:
        value: as `_parse()` returns it.
        field: path in the request; empty for the request itself.
        optional: whether the field may be left out.

    Returns:
        What msgspec would decode it to; None if it is invalid.
    """
    wanted: str | None = None
    while isinstance(kind, inspect.Metadata):
        wanted = (kind.extra or {}).get("wanted", wanted)
        kind = kind.type
    match kind, value:
        case inspect.StructType(), _Object():
            return _examine_object(value, kind, field and f"{field}.", errors)
        case inspect.DictType(), _Object():
            return _examine_texts(value, field, errors)
        case inspect.ListType(), list() if not isinstance(value, _Object) and _fits(value, kind):
            return [_examine(item, kind.item_type, f"{field}[{i}]", errors) for i, item in enumerate(value)]
    if (scalar := _scalar(value, kind)) is not None:
        return scalar
    message = f"must be {wanted or _wanted(kind)}"
    if isinstance(kind, inspect.StrType) and isinstance(value, str):
        message += _oddity(value)
    if optional and value in (None, "", []):
        message += "; if it is not set, leave the field out"
    errors.add(field or "body", message)
    return None


def _scalar(value: Any, kind: inspect.Type) -> Any:
    """The value converted to its type; None if it is not of that type."""
    match kind, value:
        case inspect.IntType(), int() | float() | Decimal() if not isinstance(value, bool) and _is_whole(value, kind):
            return int(value)
        case inspect.EnumType(), str() if value in kind.cls._value2member_map_:
            return kind.cls(value)
        case inspect.StrType(), str() if _fits(value, kind) and _is_allowed(value, kind.pattern):
            return value
    return None


def _examine_object(value: _Object, kind: inspect.StructType, prefix: str, errors: Errors) -> Any:
    members = dict(value)
    fields = {field.encode_name: field for field in kind.fields}
    repeated = _repeated([name for name, _ in value]) if len(members) < len(value) else []
    for name in repeated:
        errors.add(prefix + _shown(name), _GIVEN_TWICE)
    for name in members:
        if name not in fields and name not in repeated:
            errors.add(prefix + _shown(name), "there is no such field")
    draft: dict[str, Any] = {}
    for name, field in fields.items():
        if name in repeated:
            draft[field.name] = None
        elif name in members:
            draft[field.name] = _examine(members[name], field.type, prefix + name, errors, optional=not field.required)
        elif field.required:
            errors.add(prefix + name, "is missing")
            draft[field.name] = None
    return kind.cls(**draft)


def _examine_texts(value: _Object, field: str, errors: Errors) -> Any:
    members = dict(value)
    faults = [(f"{field}.{_shown(name)}", _GIVEN_TWICE) for name in _repeated([name for name, _ in value])[:MAX_ERRORS]]
    if "" in members:
        faults.append((field, "must not hold an empty name"))
    if any(kind is not str for kind in set(map(type, members.values()))):
        faults.append((f"{field}[...]", "must be a string"))
    elif oddity := _oddity("".join([*members, *members.values()]), _SURROGATE):
        faults.append((field, f"must hold text{oddity}"))
    for place, message in faults:
        errors.add(place, message)
    return None if faults else members


def _repeated(names: list[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _fits(value: Sequence[Any], kind: inspect.ListType | inspect.StrType) -> bool:
    return (kind.min_length or 0) <= len(value) <= (kind.max_length or len(value))


def _is_whole(value: float | Decimal, kind: inspect.IntType) -> bool:
    """Whether it is an integer within the bounds. 1.0 is an integer (JSON Schema, validation, section 6.1.1)."""
    return kind.ge is not None and kind.le is not None and kind.ge <= value <= kind.le and value == int(value)


def _is_allowed(text: str, pattern: str | None) -> bool:
    return re.search(pattern or "", text) is not None and re.search(_SURROGATE, text) is None


def _wanted(kind: inspect.Type) -> str:
    """Describe the values of a type, for error messages. Strings have their description in `Meta.extra`."""
    match kind:
        case inspect.ListType():
            return f"a list of {kind.min_length} to {kind.max_length} entries"
        case inspect.IntType():
            return f"a whole number from {kind.ge} to {kind.le}"
        case inspect.EnumType():
            return f"one of {', '.join(kind.cls)}"
        case inspect.DictType():
            return "a JSON object of strings"
    return "a JSON object"


def _oddity(text: str, pattern: str = _ODD) -> str:
    """Describe the first character that no string may hold; empty if there is none."""
    match = re.search(pattern, text)
    if match is None:
        return ""
    code = ord(match[0])
    if code == _REPLACEMENT:
        return f"; U+{code:04X} stands for bytes that were not UTF-8"
    return f"; U+{code:04X} is {'half of a surrogate pair' if code > _LAST_CONTROL else 'a control character'}"


def _shown(name: str) -> str:
    """An unknown name in a form that may be logged: a secret inside a long name could not be redacted."""
    if len(name) > _MAX_NAME:
        return f"(a name of {len(name)} characters)"
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()
