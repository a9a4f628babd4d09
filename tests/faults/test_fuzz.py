"""A hundred requests made from the OpenAPI document; `make soak` sends as many as one has patience for."""

from __future__ import annotations

from pathlib import Path

from dev.engine import Engine
from tests.support.fault_ways import Service
from tests.support.store_engines import MINISTACK, StoreEngine
from tokenctl.deployment import Deployment

REQUESTS = 100


def test_every_answer_to_a_generated_request_is_in_the_document(
    engine: Engine, deployment: Deployment, tmp_path: Path
) -> None:
    from tests.support.fuzz import Fuzz  # its libraries take seconds, which every run of tests would pay

    settings = deployment.settings
    store = StoreEngine(MINISTACK, engine.client_environ, settings.token_table, settings.client_table)
    with Service(store.environ, store.client_store(), tmp_path / "service.log") as service:
        findings = Fuzz(service, seed=7).run(REQUESTS)
        written = service.output
    assert findings.wrong == []
    assert findings.requests == REQUESTS
    assert len(findings.operations) == 9, "every operation must be asked"
    assert {200, 201, 400, 404} <= set(findings.statuses)
    assert service.password not in written
