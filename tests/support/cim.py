"""The Splunk app and Splunk's Common Information Model: our events, and the check of them against its definitions.

Every event that is in one of the models must have each field that the model requires, with a value that it allows, and
no event may be in two models. The events are made by the product's code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from chalicelib import __version__, addresses, tokens
from chalicelib.audit import Audit
from chalicelib.clients import Doubt, Scope
from chalicelib.errors import InsufficientScope
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Action, Document, Terms
from tests.support import log_lines as lines
from tests.support import spl, splunk_app
from tests.support.memory_store import MemoryTokenStore
from tests.support.splunk_search import forwarded

MODELS: Final = ("Authentication", "Change", "Data_Access")
"""The models that the app serves."""
_WITHOUT_MEANING: Final = ("", "-", "unknown", "null", "(null)")
_ENRICHED: Final = ("_bunit", "_category", "_priority")
_ASSETS: Final = ("dest", "dvc", "src", "src_user", "user")

Definition = Mapping[str, Any]
Event = Mapping[str, Any]

NOW: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NODE: Final = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"


# --- Events ----------------------------------------------------------------------------------------------------------


def events() -> list[Event]:
    """Return an event of each kind, with all facts and with as few as it can have, as Splunk has them."""
    written = (*_decisions(), *lines.PLATFORM, *_refused_calls())
    return [splunk_app.event(envelope, indexed_at=NOW.timestamp()) for envelope in forwarded(written)]


def _decisions() -> list[str]:
    """What the service and the authorizer write."""
    written: list[str] = []
    audit = Audit("prod", __version__, written.append)
    service = TokenService(MemoryTokenStore(), audit, lambda: NOW)
    caller = Caller("records", frozenset(Scope), NODE, "192.0.2.7")
    operator = Caller("tokenctl", frozenset(Scope), "tokenctl")
    bare = Terms(Document(NODE), NOW + timedelta(hours=1))
    full = replace(bare, user="ada", actions=frozenset(Action), max_uses=9, audience=frozenset({"records"}))
    [(first, _), (second, token), (third, other)] = service.issue(caller, [bare, full, bare])
    use = partial(tokens.new_use, client_id="records")
    stated = partial(use, user="ada", address=addresses.parse_address("10.0.0.1"), action=Action.PREVIEW)
    service.use(caller, use(first))
    for _ in range(2):  # the second is a replay
        service.use(caller, stated(second, idempotency_key="key"))
    for secret in (second, "0" * 64):
        service.introspect(caller, use(secret))
        service.introspect(caller, stated(secret))
    service.use(caller, use("0" * 64))
    for _ in range(tokens.LOCKED_AFTER_MISMATCHES):
        service.use(caller, use(second, user="eve"))
    service.revoke(caller, token.id)
    service.revoke(operator, other.id)
    service.use(caller, use(third))
    with suppress(InsufficientScope):
        service.status(replace(caller, scopes=frozenset()), token.id)
    # The authorizer needs Chalice. What it writes is in tests/unit/test_authorizer.py.
    audit.event("auth.refused", NOW, "WARNING", requestId=NODE, clientId="records", reason=Doubt.WRONG_SECRET)
    audit.event("auth.refused", NOW, "WARNING", requestId=NODE, reason=Doubt.UNKNOWN_CLIENT)
    return written


def _refused_calls() -> Iterator[str]:
    """Lines of the access log: a wrong secret, a name that no client has, and no credentials at all."""
    usual = json.loads(lines.ACCESS)
    for client_id, reason, error in (
        ("records", "wrong_secret", "ACCESS_DENIED"),
        ("nobody", "unknown_client", "ACCESS_DENIED"),
        ("-", "-", "UNAUTHORIZED"),
    ):
        yield json.dumps(usual | {"status": "401", "clientId": client_id, "reason": reason, "error": error})


# --- Models ----------------------------------------------------------------------------------------------------------


def read_models(directory: Path) -> list[Definition]:
    """Read the definitions of all models, ours and those that an event of ours may not be in.

    Raises:
        FileNotFoundError: one of ours is not among them.
    """
    models = [json.loads(path.read_text("utf-8")) for path in sorted(directory.glob("*.json"))]
    missing = set(MODELS) - {model["model_name"] for model in models}
    if missing:
        raise FileNotFoundError(f"{directory}: no definition of {', '.join(sorted(missing))}")
    return models


def places(models: Iterable[Definition], event: Event) -> dict[str, list[Definition]]:
    """Return the models that an event is in, and of each the data sets."""
    found = {model["model_name"]: list(_data_sets(model["objects"], event)) for model in models}
    return {name: data_sets for name, data_sets in found.items() if data_sets}


def shortcomings(models: Sequence[Definition], events: Iterable[Event]) -> Iterator[str]:
    """Say what is missing or wrong, a line for each event and field."""
    unused = set(MODELS)
    for event in events:
        found = places(models, event)
        unused.difference_update(found)
        if len(found) > 1:
            yield f"{_named(event)} is in more than one model: {', '.join(found)}"
        for name, data_sets in found.items():
            for data_set in data_sets:
                yield from (f"{_named(event)}, {name}: {fault}" for fault in _faults(data_set, event))
    yield from (f"no event is in the model {name}" for name in sorted(unused))


def _named(event: Event) -> str:
    return f"{event.get('event', 'plain text')} ({event.get('reason', 'no reason')})"


def _data_sets(data_sets: Iterable[Definition], event: Event) -> Iterator[Definition]:
    """The data sets of a model that an event is in: by its tags, and by the search that a data set stands for."""
    for data_set in data_sets:
        tagged = any(set(tags) <= set(event["tag"]) for tags in data_set["tags"])
        if tagged and spl.terms(data_set["search_constraints"])(event):
            yield data_set
            yield from _data_sets(data_set.get("child_dataset", ()), event)


def _faults(data_set: Definition, event: Event) -> Iterator[str]:
    for field in data_set["fields"]:
        is_required = field["type"] == "required" or (
            field["type"] == "conditional" and spl.terms(field["condition"])(event)
        )
        if is_required and (fault := _fault(field, event)):
            yield f"{field['name']} {fault}"
    for name in event:
        if any(name == asset + suffix for asset in _ASSETS for suffix in _ENRICHED):
            yield f"{name} is for Splunk to fill in"


def _fault(field: Definition, event: Event) -> str:
    value = event.get(field["name"])
    if value is None:
        return "is missing"
    if isinstance(value, list) and not field.get("multi_value"):
        return "has more than one value"
    valid = spl.expression(field.get("validity", field["name"]))(event)
    expected = [text.lower() for text in field.get("expected_values", ())]
    if valid is None or spl.text(valid).lower() in _WITHOUT_MEANING:
        return f"is {value!r}, which counts as no value"
    if expected and spl.text(valid).lower() not in expected:
        return f"is {value!r} instead of one of {', '.join(expected)}"
    return ""
