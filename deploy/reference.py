"""`python -m deploy.reference`: write the OpenAPI document, `chalicelib/http/openapi.json`.

It is made from the routes, the types of requests and answers, the table of problems, `docs/samples/` and
`deploy/openapi/document.yaml`. `make reference` also builds its page with Redocly, one file that needs no network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from chalicelib import __version__
from chalicelib.http import problems
from chalicelib.http.routes import BASE_PATH, ROUTES, Route

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = ROOT / "chalicelib" / "http" / "openapi.json"
_SCHEMAS: Final = "#/components/schemas/"
_JSON: Final = "application/json"
_ANY_ROUTE: Final = ("invalid_request", "unauthorized", "too_many_requests", "internal_error", "store_unavailable")
_ANY_BODY: Final = ("payload_too_large", "unsupported_media_type")
_HEADERS: Final = {
    "WWW-Authenticate": "How to authenticate (RFC 7617).",
    "Retry-After": "Seconds to wait before the request is sent again.",
}
_SAMPLES: Final = (
    ("Shell", "curl", "sample.sh"),
    ("Python", "Python: tokenservice_client", "sample.py"),
    ("Java", "Java 17", "Sample.java"),
)
_SECTION: Final = re.compile(r"^ *(?:#|//) (\w+)\n", re.MULTILINE)


def document() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "openapi" / "document.yaml").read_text("utf-8"))
    operations, samples = made.pop("operations"), _samples()
    made["info"]["version"] = __version__
    types = dict.fromkeys(kind for route in ROUTES for kind in (route.request, route.response) if kind)
    _, schemas = msgspec.json.schema_components(types, ref_template=_SCHEMAS + "{name}")
    for schema in schemas.values():
        if "enum" in schema:
            schema.setdefault("type", "string")
    problem = made["components"]["schemas"]["Problem"]
    problem["properties"]["code"]["enum"] = sorted(problems.TABLE)
    for name, value in problems.TABLE["token_exhausted"]._asdict().items():
        if name in problem["properties"]:
            problem["properties"][name]["examples"] = [value]
    made["components"]["schemas"] = {**schemas, "Problem": problem}
    for route in ROUTES:
        name = operation_id(route)
        path = BASE_PATH + route.path.replace("{token_id}", "{tokenId}")
        operation = {
            "operationId": name,
            **_operation(route, operations[name], schemas),
            "x-codeSamples": samples[name],
        }
        made["paths"].setdefault(path, {})[route.method.lower()] = operation
    return made


def operation_id(route: Route) -> str:
    """The name of the route's view in camel case."""
    first, *words = route.view.__name__.split("_")
    return first + "".join(map(str.capitalize, words))


def text() -> str:
    """The document as its file holds it: a line for each operation and each schema, so that a diff names them."""
    return _lines(document(), depth=3) + "\n"


def _lines(value: Any, depth: int) -> str:
    if not depth or not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    members = (f"{json.dumps(name)}: {_lines(member, depth - 1)}" for name, member in value.items())
    return "{\n" + ",\n".join(members) + "\n}"


def _operation(route: Route, known: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    summary, _, description = (route.view.__doc__ or "").partition("\n")
    needs = f"Needs the scope `{route.scope}`." if route.scope else "Any client may call it."
    operation: dict[str, Any] = {
        "tags": [known["tag"]],
        "summary": summary.removesuffix("."),
        "description": " ".join([*description.split(), needs]),
    }
    parameters, codes = known.get("parameters", []), [*_ANY_ROUTE, *known.get("problems", ())]
    if route.scope:
        codes.append("insufficient_scope")
    if route.request and route.method == "GET":
        parameters = [*_query(route.request, known["request"], schemas), *parameters]
    if parameters:
        operation["parameters"] = parameters
    if route.request and route.method != "GET":
        operation["requestBody"] = {"required": True, "content": _content(route.request, known["request"])}
        codes += _ANY_BODY
    success: dict[str, Any] = {"description": (route.response and route.response.__doc__) or "Done."}
    if "headers" in known:
        success["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in known["headers"].items()
        }
    if route.response:
        success["content"] = _content(route.response, known.get("response"))
    operation["responses"] = {str(route.status): success, **_refusals(codes)}
    return operation


def _content(kind: type, example: Any) -> dict[str, Any]:
    content = {"schema": {"$ref": _SCHEMAS + kind.__name__}}
    return {_JSON: {**content, "example": example} if example else content}


def _query(kind: type, example: dict[str, str], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    schema = schemas[kind.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema["required"],
            "description": {**schemas.get(member.get("$ref", "").rpartition("/")[2], {}), **member}["description"],
            "schema": member,
            "example": example[name],
        }
        for name, member in schema["properties"].items()
    ]


def _refusals(codes: Iterable[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in sorted(set(codes)):
        by_status.setdefault(problems.TABLE[code].status, []).append(code)
    return {
        str(status): {
            **_headers(by_status[status]),
            "description": " · ".join(f"`{code}`: {problems.TABLE[code].detail}" for code in by_status[status]),
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS + "Problem"}}},
        }
        for status in sorted(by_status)
    }


def _headers(codes: Iterable[str]) -> dict[str, Any]:
    headers = {
        name: {"description": _HEADERS[name], "schema": {"type": "string"}, "example": value}
        for code in codes
        for name, value in problems.TABLE[code].headers.items()
    }
    return {"headers": headers} if headers else {}


def _samples() -> dict[str, list[dict[str, str]]]:
    """Operation id to its samples.

    A file of `docs/samples/` has a section for each operation, below a comment with its id. A sample is that section
    between what precedes the first section and what follows the comment `end`.
    """
    samples: dict[str, list[dict[str, str]]] = {}
    for language, label, name in _SAMPLES:
        head, *parts = _SECTION.split((ROOT / "docs" / "samples" / name).read_text("utf-8"))
        sections = dict(zip(parts[::2], parts[1::2], strict=True))
        tail = sections.pop("end", "")
        for operation, section in sections.items():
            source = (head + section + tail).replace("class Sample", f"class {operation[0].upper()}{operation[1:]}")
            samples.setdefault(operation, []).append({"lang": language, "label": label, "source": source.rstrip()})
    return samples


if __name__ == "__main__":
    DOCUMENT.write_text(text(), "utf-8")
