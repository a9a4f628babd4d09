"""One table for all errors: nothing the code can raise lacks a row."""

from __future__ import annotations

import ast
import re
from http import HTTPStatus
from pathlib import Path

import pytest

from chalicelib.errors import ServiceError
from chalicelib.http import problems
from chalicelib.http.problems import TABLE, FieldError, InvalidRequest
from chalicelib.tokens import Reason

ROOT = Path(__file__).resolve().parents[2]

CONTRACT = {
    400: {"invalid_request"},
    401: {"unauthorized"},
    403: {
        *("insufficient_scope", "user_mismatch", "ip_mismatch", "action_not_permitted", "audience_mismatch"),
        "token_not_yet_valid",
    },
    404: {"token_not_found", "route_not_found"},
    405: {"method_not_allowed"},
    410: {"token_expired", "token_exhausted", "token_revoked", "token_locked"},
    413: {"payload_too_large"},
    415: {"unsupported_media_type"},
    422: {"idempotency_key_reused"},
    429: {"too_many_requests"},
    500: {"internal_error"},
    503: {"store_unavailable"},
}


def all_problems(base: type[ServiceError] = ServiceError) -> set[type[ServiceError]]:
    below = {each for each in base.__subclasses__() if each.__module__.startswith("chalicelib.")}
    return below.union(*(all_problems(each) for each in below))


def test_each_status_has_the_codes_of_the_contract() -> None:
    by_status: dict[int, set[str]] = {}
    for code, row in TABLE.items():
        by_status.setdefault(row.status, set()).add(code)
    assert by_status == CONTRACT


def test_every_problem_class_and_every_reason_has_a_row() -> None:
    codes = {each.code for each in all_problems() if "code" in vars(each)}
    assert codes | set(Reason) <= set(TABLE)
    assert len(codes) > 5


def test_every_exception_that_the_code_raises_is_a_problem_or_caught_within() -> None:
    """A new exception class must be made a `ServiceError`, or be put here because its own layer catches it."""
    caught_within = {
        "SettingsError",  # ends the start
        "SystemExit",
        "MalformedCredentials",  # caught by the authorizer
        "ValueError",  # addresses: caught by schemas
        "_ConditionFailed",  # caught by the stores
    }
    names = {each.__name__ for each in all_problems()} | caught_within
    raised = set()
    package = ROOT / "chalicelib"
    for path in [*package.glob("*.py"), *(package / "http").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                target = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                raised.add(ast.unparse(target))
    assert raised <= names
    assert len(raised) > 8


def test_the_tree_in_the_docstring_shows_every_problem() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", problems.__doc__ or ""))
    assert drawn == {each.__name__ for each in all_problems()}


@pytest.mark.parametrize("code", TABLE)
def test_a_title_is_the_same_for_all_problems_with_one_code_and_a_detail_ends_like_a_sentence(
    code: str,
) -> None:
    row = TABLE[code]
    assert row.status in set(HTTPStatus)
    assert not row.title.endswith(".")
    assert row.detail.endswith(".")


def test_a_body_has_the_members_of_rfc_9457_and_names_each_field() -> None:
    body = problems.answer(InvalidRequest([FieldError("nodeId", "is missing")]), "request-1").body
    assert body == {
        "type": "urn:tokenservice:problem:invalid_request",
        "title": "Invalid request",
        "status": 400,
        "detail": "nodeId: is missing",
        "code": "invalid_request",
        "requestId": "request-1",
        "errors": [{"field": "nodeId", "message": "is missing"}],
    }


def test_an_answer_lists_a_limited_number_of_errors() -> None:
    problem = InvalidRequest([FieldError(f"f{n}", "is wrong") for n in range(5000)])
    assert [error.field for error in problem.errors] == [f"f{n}" for n in range(problems.MAX_ERRORS)]
    assert problem.detail.count("is wrong") == problems.MAX_ERRORS
