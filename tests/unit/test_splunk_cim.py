"""Events by the names of Splunk's Common Information Model, and the check of its definitions.

`make lint-splunk` runs these tests with Splunk's own definitions. Those here follow its documentation:
only the required fields.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import cim, spl, splunk_app

AUTHENTICATION = "action app dest src user"
CHANGE = (
    "action change_type command dest dvc object object_attrs object_category object_id src status user vendor_product"
)
DATA_ACCESS = (
    "action app dest object object_attrs object_category object_id object_size src user user_name vendor_account "
    "vendor_product"
)


def model(name: str, tags: str, search: str, required: str, **more: Mapping[str, object]) -> dict[str, Any]:
    fields = [{"name": field, "type": "required", **more.get(field, {})} for field in required.split()]
    data_set = {"name": name, "tags": [tags.split()], "search_constraints": search, "fields": fields}
    return {"model_name": name, "objects": [data_set]}


WRITTEN_DOWN = [
    model(
        *("Authentication", "authentication", "tag=authentication", AUTHENTICATION),
        action={"expected_values": ["success", "failure", "pending", "error"]},
    ),
    model(*("Change", "change", "tag=change", CHANGE), status={"expected_values": ["success", "failure"]}),
    model("Data_Access", "data access", "tag=data tag=access", DATA_ACCESS),
]
# `make lint-splunk` names the directory of Splunk's own definitions.
MODELS = cim.read_models(Path(os.environ["CIM_MODELS"])) if "CIM_MODELS" in os.environ else WRITTEN_DOWN
EVENTS = cim.events()


def found(name: str, **wanted: str) -> Iterator[cim.Event]:
    return (
        event for event in EVENTS if all(event.get(key) == value for key, value in {"event": name, **wanted}.items())
    )


def test_every_required_field_is_in_every_event_and_no_event_in_two_models() -> None:
    assert list(cim.shortcomings(MODELS, EVENTS)) == []


def test_every_audit_event_is_in_the_model_of_its_kind() -> None:
    kinds = {(event["event"], *cim.places(MODELS, event)) for event in EVENTS if "event" in event}
    assert kinds == {
        ("token.issued", "Change"),
        ("token.revoked", "Change"),
        ("token.locked", "Change"),
        ("token.used", "Data_Access"),
        ("token.refused", "Data_Access"),
        ("token.introspected", "Data_Access"),
        ("access", "Authentication"),
        ("auth.refused", "Authentication"),  # of the REST function: a scope is missing
        ("auth.refused",),  # of the authorizer, which sees no address: the access log tells the same with it
    }


def test_refused_credentials_come_from_an_address() -> None:
    reported = [(event["src"], event["user"], event["action"]) for event in found("access")]
    assert reported == [
        ("198.51.100.77", "records", "failure"),
        ("198.51.100.77", "nobody", "failure"),
        ("198.51.100.77", "nobody", "failure"),
    ]
    [scope] = found("auth.refused", reason="insufficient_scope")
    assert (scope["src"], scope["user"], scope["action"]) == ("192.0.2.7", "records", "failure")


def test_a_call_that_was_let_in_is_in_no_model() -> None:
    [line, *_] = found("access")
    let_in = {**line, "status": "200", "error": "-", "reason": "-"}
    let_in |= splunk_app.calculated(let_in)
    assert let_in["action"] is None
    search = splunk_app.config("eventtypes.conf")["tokenservice_authentication"]["search"]
    assert not spl.terms(splunk_app.expanded(search))(let_in)


def test_a_replay_and_a_look_are_no_success() -> None:
    assert {event["action"] for event in found("token.used", reason="replayed")} == {"replayed"}
    assert {event["action"] for event in found("token.used") if "reason" not in event} == {"success"}
    looks = {(event["action"], event.get("reason")) for event in found("token.introspected")}
    assert looks == {("introspected", None), ("failure", "token_not_found"), ("failure", "user_mismatch")}
    assert {event["action"] for event in found("token.refused")} == {"failure"}


def test_the_person_acts_from_her_address_and_the_application_from_its_own() -> None:
    bare, stated = (event for event in found("token.used") if "reason" not in event)
    assert (bare["user"], bare["src"], bare["vendor_account"]) == ("records", "192.0.2.7", "records")
    assert (stated["user"], stated["src"], stated["vendor_account"]) == ("ada", "10.0.0.1", "records")
    assert stated["document_action"] == "preview"
    assert {event["src"] for event in found("token.revoked")} == {"192.0.2.7", "tokenctl"}


def test_a_change_is_of_a_token_and_an_access_of_a_document() -> None:
    assert all(event["object"] == event["tokenId"] for event in found("token.issued"))
    assert all((event["object"], event["object_category"]) == (cim.NODE, "document") for event in found("token.used"))
    [unknown] = found("token.refused", reason="token_not_found")
    assert (unknown["object"], unknown["object_category"]) == (unknown["tokenId"], "token")


def test_dest_is_the_stage() -> None:
    assert {event["dest"] for event in EVENTS} == {"tokenservice-prod"}


# --- The check -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"src": None}, "src is missing"),
        ({"src": "unknown"}, "src is 'unknown', which counts as no value"),
        ({"src": ["10.0.0.1", "192.0.2.7"]}, "src has more than one value"),
        ({"action": "denied"}, "action is 'denied' instead of one of success, failure, pending, error"),
        ({"tag": ["authentication", "change"]}, "is in more than one model: Authentication, Change"),
        ({"src_category": "laptop"}, "src_category is for Splunk to fill in"),
    ],
)
def test_a_fault_is_found_and_named(changed: dict[str, Any], said: str) -> None:
    [event] = found("access", reason="wrong_secret")
    assert any(said in line for line in cim.shortcomings(MODELS, [{**event, **changed}]))


def test_a_model_without_events_is_found() -> None:
    assert "no event is in the model Change" in list(cim.shortcomings(MODELS, []))
