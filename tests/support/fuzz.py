"""Requests made from the OpenAPI document, good and bad ones."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, product
from typing import Any, Final

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deploy.reference import DOCUMENT
from tests.support.fault_ways import Service

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
_MOST_PER_OPERATION: Final = 40


@dataclass
class Findings:
    """What a number of requests came to; `wrong` must stay empty: dropped, a 5xx, or an answer not in the document."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Fuzz:
    """Sends requests to a running service.

    Half of those that hold a token or a token's id get one that lives, so that they come further than 404.
    """

    def __init__(self, service: Service, seed: int, advance: Callable[[], object] = lambda: None) -> None:
        self._service = service
        self._seed = seed
        self._random = random.Random(seed)
        self._advance = advance
        self._session = requests.Session()
        self._live: list[Mapping[str, str]] = []
        self.findings = Findings()

    def run(self, wanted: int) -> Findings:
        """Send requests for every operation in turn until there were that many."""
        operations = [found.ok() for found in schemathesis.openapi.from_path(str(DOCUMENT)).get_all_operations()]
        numbers = count(self._seed)
        with self._session:
            while self.findings.requests < wanted:
                self._issue()
                seed = next(numbers)
                for operation, mode in product(operations, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):
                    self._round(operation.as_strategy(generation_mode=mode), seed, wanted)
        return self.findings

    def _issue(self) -> None:
        body = {"tokens": [{"nodeId": "n", "maxUses": 100, "actions": ["download", "preview", "edit"]}] * 100}
        self._live = json.loads(self._service.call("POST", "/tokens", body, {})[2])["tokens"]

    def _round(self, cases: Any, seed: int, wanted: int) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=min(_MOST_PER_OPERATION, 1 + wanted // 18),
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=cases)
        def send(case: Any) -> None:
            if self.findings.requests < wanted:
                self._send(case)

        # There are operations to which no request can be wrong.
        with suppress(hypothesis.errors.Unsatisfiable):
            send()

    def _send(self, case: Any) -> None:
        findings = self.findings
        findings.requests += 1
        findings.operations[case.operation.definition.raw["operationId"]] += 1
        self._advance()
        self._put_in_a_live_token(case)
        try:
            answer = case.call(
                base_url=self._service.endpoint_url,
                session=self._session,
                headers={"Authorization": self._service.authorization},
                timeout=60,
            )
            findings.statuses[answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)
        except requests.exceptions.InvalidHeader:
            return  # not sent: the library itself refuses it
        except (requests.RequestException, FailureGroup, Failure) as wrong:
            reasons = " | ".join(repr(each) for each in getattr(wrong, "exceptions", [wrong]))
            findings.wrong.append(f"{case.method} {case.path}: {reasons}"[:300])

    def _put_in_a_live_token(self, case: Any) -> None:
        live = self._random.choice(self._live)
        for place in (case.body, case.query):
            if isinstance(place, dict) and "token" in place and self._random.random() < 0.5:
                place["token"] = live["token"]
        if case.path_parameters and self._random.random() < 0.5:
            case.path_parameters["tokenId"] = live["tokenId"]
