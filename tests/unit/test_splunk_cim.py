"""Events by the names of Splunk's Common Information Model, and the check of its definitions.

Every event that is in one of the models must have each field that the model requires, with a value that it allows, and
no event may be in two models. `make lint-splunk` runs these tests with Splunk's own definitions. Those here follow its
documentation: only the required fields.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chalicelib.log_names import Event
from tests.support import splunk_app, stage_logs
from tests.support.searches import Row, value

Definition = Mapping[str, Any]


def model(name: str, tags: str, required: str, **more: Mapping[str, object]) -> Definition:
    fields = [{"name": field, "type": "required", **more.get(field, {})} for field in required.split()]
    search = " ".join(f"tag={tag}" for tag in tags.split())
    objects = [{"tags": [tags.split()], "search_constraints": search, "fields": fields}]
    return {"model_name": name, "objects": objects}


OBJECT = "action dest object object_attrs object_category object_id src user vendor_product"
ANSWERS = {"expected_values": ["success", "failure", "pending", "error"]}
MODELS = [
    model("Authentication", "authentication", "action app dest src user", action=ANSWERS),
    model("Change", "change", f"{OBJECT} change_type command dvc status", status=ANSWERS),
    model("Data_Access", "data access", f"{OBJECT} app object_size user_name vendor_account"),
]
NAMES = {each["model_name"] for each in MODELS}
if "CIM_MODELS" in os.environ:  # `make lint-splunk` names the directory of Splunk's own definitions.
    MODELS = [json.loads(path.read_text("utf-8")) for path in sorted(Path(os.environ["CIM_MODELS"]).glob("*.json"))]
EVENTS = [event for event in stage_logs.events() if "event" in event]


def data_sets(sets: Iterable[Definition], event: Row) -> Iterator[Definition]:
    """The data sets of a model that an event is in: by its tags, and by the search that a data set stands for."""
    for each in sets:
        tagged = any({*tags} <= {*event["tag"].split()} for tags in each["tags"])
        if tagged and value(splunk_app.terms(each["search_constraints"]), event):
            yield each
            yield from data_sets(each.get("child_dataset", ()), event)


def places(event: Row) -> dict[str, list[Definition]]:
    """The models that an event is in, and of each the data sets."""
    found = {each["model_name"]: list(data_sets(each["objects"], event)) for each in MODELS}
    return {name: sets for name, sets in found.items() if sets}


def shortcomings(event: Row) -> Iterator[str]:
    """What is missing or wrong, a line for each field."""
    found = places(event)
    if len(found) > 1:
        yield f"in more than one model: {', '.join(found)}"
    for field in (field for sets in found.values() for each in sets for field in each["fields"]):
        # A field with a condition is required of events that fit it.
        if field["type"] in ("required", "conditional") and value(splunk_app.terms(field.get("condition", "")), event):
            yield from (f"{field['name']} {fault}" for fault in faults(field, event))
    for asset in ("dest", "dvc", "src", "src_user", "user"):
        enriched = {f"{asset}_{suffix}" for suffix in ("bunit", "category", "priority")} & event.keys()
        yield from (f"{name} is for Splunk to fill in" for name in enriched)


def faults(field: Definition, event: Row) -> Iterator[str]:
    found = event.get(field["name"])
    if "\n" in str(found) and not field.get("multi_value"):
        yield "has more than one value"
    # Splunk's definitions write texts in single quotes, which are for names of fields.
    valid = value(splunk_app.expression(field.get("validity", field["name"]).replace("'", '"')), event)
    expected = [text.lower() for text in field.get("expected_values", ())]
    if valid is None or str(valid).lower() in ("", "-", "unknown", "null", "(null)"):
        yield f"is {found!r}, which counts as no value"
    elif expected and str(valid).lower() not in expected:
        yield f"is {found!r} instead of one of {', '.join(expected)}"


def found(name: str, **wanted: str) -> list[Row]:
    return [event for event in EVENTS if event["event"] == name and wanted.items() <= event.items()]


def test_every_required_field_is_in_every_event_and_no_event_in_two_models() -> None:
    assert [(event["_raw"], fault) for event in EVENTS for fault in shortcomings(event)] == []


def test_every_audit_event_is_in_the_model_of_its_kind() -> None:
    assert {each["model_name"] for each in MODELS} >= NAMES
    assert {event["event"] for event in EVENTS} == {*Event, "access", "log"}
    assert {(event["event"], *places(event)) for event in EVENTS} == {
        ("token.issued", "Change"),
        ("token.revoked", "Change"),
        ("token.locked", "Change"),
        ("token.used", "Data_Access"),
        ("token.refused", "Data_Access"),
        ("token.introspected", "Data_Access"),
        ("access", "Authentication"),
        ("auth.refused", "Authentication"),  # of the REST function: a scope is missing
        ("auth.refused",),  # of the authorizer, which sees no address: the access log tells the same with it
        ("log",),
    }


def test_refused_credentials_come_from_an_address() -> None:
    reported = [(event["src"], event["user"], event["action"]) for event in found("access")]
    assert reported == [("198.51.100.77", user, "failure") for user in ("records", "nobody", "nobody")]
    [scope] = found("auth.refused", reason="insufficient_scope")
    assert (scope["src"], scope["user"], scope["action"]) == ("192.0.2.7", "app", "failure")


def test_a_call_that_was_let_in_is_in_no_model() -> None:
    [let_in] = splunk_app.events(stage_logs.forwarded([stage_logs.log_lines.ACCESS]), stage_logs.INDEXED_AT)
    assert "action" not in let_in
    assert places(let_in) == {}


def test_a_replay_and_a_look_are_no_success() -> None:
    assert {(event["action"], event.get("reason")) for event in found("token.used")} == {
        ("success", None),
        ("replayed", "replayed"),
    }
    looks = {(event["action"], event.get("reason")) for event in found("token.introspected")}
    assert looks == {("introspected", None), ("failure", "user_mismatch")}
    assert {event["action"] for event in found("token.refused")} == {"failure"}


def test_the_person_acts_from_her_address_and_the_application_from_its_own() -> None:
    acting = {(event["user"], event["src"], event["vendor_account"]) for event in found("token.used")}
    assert acting >= {("app", "192.0.2.7", "app"), ("Zoë", "10.0.0.1", "app")}
    assert {event["document_action"] for event in found("token.used", user="Zoë")} == {"download"}
    assert {event["src"] for event in found("token.revoked")} == {"192.0.2.7", "tokenctl"}


def test_a_change_is_of_a_token_and_an_access_of_a_document() -> None:
    assert all(event["object"] == event["tokenId"] for event in found("token.issued"))
    read = {(event["object"], event["object_category"]) for event in found("token.used", clientId="app")}
    assert read == {("node", "document")}
    [unknown] = found("token.refused", reason="token_not_found")
    assert (unknown["object"], unknown["object_category"]) == (unknown["tokenId"], "token")


def test_dest_is_the_stage() -> None:
    assert {event["dest"] for event in EVENTS} == {"tokenservice-prod"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"src": None}, "src is None, which counts as no value"),
        ({"src": "unknown"}, "src is 'unknown', which counts as no value"),
        ({"src": "10.0.0.1\n192.0.2.7"}, "src has more than one value"),
        ({"action": "denied"}, "action is 'denied' instead of one of success, failure, pending, error"),
        ({"tag": "authentication\nchange"}, "in more than one model: Authentication, Change"),
        ({"src_category": "laptop"}, "src_category is for Splunk to fill in"),
    ],
)
def test_a_fault_is_found_and_named(changed: Row, said: str) -> None:
    [event] = found("access", reason="wrong_secret")
    assert said in shortcomings({**event, **changed})
