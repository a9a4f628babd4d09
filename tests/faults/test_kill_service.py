"""SIGKILL between the store's write and the answer: the use is spent once, and the repetition gets it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dev.engine import Engine
from tests.support.dynamodb_proxy import Proxy
from tests.support.fault_courses import Findings
from tests.support.fault_ways import Service
from tests.support.kills import kill_between_write_and_answer
from tests.support.store_engines import StoreEngine
from tokenctl.deployment import Deployment

KILLS = 3


def test_a_service_that_is_killed_between_write_and_answer_neither_loses_nor_doubles_a_use(
    engine: Engine, deployment: Deployment, tmp_path: Path
) -> None:
    settings = deployment.settings
    past = StoreEngine("ministack", engine.client_environ, settings.token_table, settings.client_table)
    findings = Findings()
    with Proxy(engine.endpoint_url) as proxy:
        behind = replace(past, environ={**past.environ, "AWS_ENDPOINT_URL": proxy.url})
        with Service(behind.environ, past.client_store(), tmp_path / "service.log") as service:
            for _ in range(KILLS):
                kill_between_write_and_answer(service, proxy, past.token_store(), findings)
    assert findings.violations == []
    assert findings.answers["killed"] == KILLS
    assert findings.replays == 2 * KILLS
