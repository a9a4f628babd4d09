"""One table for all errors: nothing the code can raise lacks a row."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_every_error_that_is_raised_has_a_row() -> None:
    """By its class, by the reason against a token, or by the code that it is made with."""
    codes = {each.code for each in all_problems() if "code" in vars(each)}
    sources = [path for folder in ("chalicelib", "deploy", "dev") for path in (ROOT / folder).rglob("*.py")]
    made = {code for path in sources for code in re.findall(r'\bProblem\("(\w+)"\)', path.read_text("utf-8"))}
    assert codes | set(Reason) | made == set(TABLE)


def test_a_body_has_the_members_of_rfc_9457_and_names_each_field() -> None:
    _, _, body = problems.answer(InvalidRequest([FieldError("nodeId", "is missing")]), "request-1")
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
