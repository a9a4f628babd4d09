"""The client's classes of errors follow the service's table of codes."""

from __future__ import annotations

import pickle

import pytest
import tokenservice_client
from tokenservice_client import errors
from tokenservice_client.errors import (
    FieldError,
    InsufficientScope,
    InternalError,
    InvalidRequest,
    Problem,
    Refused,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    UnexpectedAnswer,
)

import chalicelib
from chalicelib.http.problems import TABLE
from chalicelib.tokens import Reason


def test_the_class_of_a_code_follows_its_status_with_two_exceptions() -> None:
    families = {code: errors.family(code, row.status) for code, row in TABLE.items()}
    assert {code for code, family in families.items() if family is Refused} == set(Reason)
    # 403 is for tokens but for this one; a path that is none is no token that is none.
    assert {
        code: family
        for code, family in families.items()
        if family is not errors.family("brand_new", TABLE[code].status)
    } == {"insufficient_scope": InsufficientScope, "route_not_found": InvalidRequest}


@pytest.mark.parametrize(
    ("status", "family"),
    [
        *((status, InvalidRequest) for status in (400, 405, 413, 415, 418)),
        *((status, Refused) for status in (403, 404, 410, 422)),
        *((status, ServiceUnavailable) for status in (502, 503, 504, 599)),
        *((401, Unauthorized), (429, TooManyRequests), (500, InternalError)),
    ],
)
def test_a_code_of_a_newer_service_goes_by_its_status(status: int, family: type[Problem]) -> None:
    error = errors.problem(status, {"code": "brand_new", "detail": "Something new.", "requestId": "r-1"})
    assert type(error) is family
    assert (error.code, error.detail, error.status, error.request_id) == ("brand_new", "Something new.", status, "r-1")


def test_an_invalid_request_lists_its_fields() -> None:
    body = {"code": "invalid_request", "errors": [{"field": "maxUses", "message": "too many"}, "?", {"field": 1}]}
    error = errors.problem(400, body)
    assert isinstance(error, InvalidRequest)
    assert error.errors == (FieldError("maxUses", "too many"), FieldError("", ""))


@pytest.mark.parametrize("body", [None, [], "Forbidden", {}, {"message": "Forbidden"}, {"code": 7}, {"code": ""}])
@pytest.mark.parametrize(
    ("status", "family"),
    [
        *((status, UnexpectedAnswer) for status in (302, 403, 404, 500)),
        *((status, ServiceUnavailable) for status in (502, 503, 504)),
        (429, TooManyRequests),
    ],
)
def test_words_of_another_are_no_refusal_of_a_token(body: object, status: int, family: type[Problem]) -> None:
    error = errors.problem(status, body, "from-the-header")
    assert type(error) is family
    assert (error.status, error.request_id) == (status, "from-the-header")


def test_a_redirect_is_unexpected_even_when_it_speaks_like_the_service() -> None:
    assert type(errors.problem(307, {"code": "token_exhausted"})) is UnexpectedAnswer


def test_an_error_is_readable_and_can_be_pickled() -> None:
    error = errors.problem(410, {"code": "token_exhausted", "detail": "Used up.", "requestId": "r-1"})
    again = pickle.loads(pickle.dumps(error))
    assert str(error) == str(again) == "token_exhausted: Used up. (request r-1)"
    assert (type(again), again.status) == (Refused, 410)
    assert str(errors.problem(503, None)) == "service_unavailable: The service returned 503."


def test_a_long_text_of_the_server_is_truncated() -> None:
    assert len(errors.problem(400, {"code": "invalid_request", "detail": "word " * 1000}).detail) == 500


def test_the_client_has_the_version_of_the_service() -> None:
    assert tokenservice_client.__version__ == chalicelib.__version__
