"""Requests made from the OpenAPI document, good and bad ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
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

from deploy.checks.openapi import DOCUMENT
from tests.support.fault_ways import Service

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
_MOST_PER_OPERATION: Final = 40
_LIVE_TOKENS: Final = 200


@dataclass
class Findings:
    """What a number of requests came to; the first three must stay 0."""

    server_errors: int = 0
    undocumented: int = 0
    dropped: int = 0
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        return self.server_errors + self.undocumented + self.dropped


class Fuzz:
    """Sends requests to a running service.

    Half of those that hold a token or a token's id get one that lives, so that they come further than 404.
    """

    def __init__(self, service: Service, seed: int, advance: Callable[[], object] = lambda: None) -> None:
        self._service = service
        self._url = service.endpoint_url
        self._seed = seed
        self._random = random.Random(seed)
        self._advance = advance
        self._session = requests.Session()
        self._schema = schemathesis.openapi.from_path(str(DOCUMENT))
        self._live: list[Mapping[str, str]] = []
        self.findings = Findings()

    def run(self, wanted: int) -> Findings:
        """Send requests for every operation in turn until there were that many."""
        with self._session:
            for number in range(wanted):
                self._issue()
                for found in self._schema.get_all_operations():
                    for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
                        self._round(found.ok(), mode, self._seed + number, wanted)
                if self.findings.requests >= wanted:
                    break
        return self.findings

    def _issue(self) -> None:
        body = {"tokens": [{"nodeId": "n", "maxUses": 100, "actions": ["download", "preview", "edit"]}] * 50}
        self._live = []
        while len(self._live) < _LIVE_TOKENS:
            _, _, text = self._service.call("POST", "/tokens", body, {})
            self._live += requests.models.complexjson.loads(text)["tokens"]

    def _round(self, operation: Any, mode: GenerationMode, seed: int, wanted: int) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=min(_MOST_PER_OPERATION, 1 + wanted // 18),
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
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
                base_url=self._url,
                session=self._session,
                headers={"Authorization": self._service.authorization},
                timeout=60,
            )
        except requests.exceptions.InvalidHeader:
            return  # not sent: the library itself refuses it
        except requests.RequestException as error:
            findings.dropped += 1
            findings.reasons.append(f"{case.method} {case.path}: {type(error).__name__}")
            return
        findings.statuses[answer.status_code] += 1
        try:
            case.validate_response(answer, checks=CHECKS)
        except (FailureGroup, Failure) as wrong:
            self._note(case, answer.status_code, wrong)

    def _put_in_a_live_token(self, case: Any) -> None:
        live = self._random.choice(self._live)
        for place in (case.body, case.query):
            if isinstance(place, dict) and "token" in place and self._random.random() < 0.5:
                place["token"] = live["token"]
        if case.path_parameters and self._random.random() < 0.5:
            case.path_parameters["tokenId"] = live["tokenId"]

    def _note(self, case: Any, status: int, wrong: FailureGroup | Failure) -> None:
        if status >= 500:
            self.findings.server_errors += 1
        else:
            self.findings.undocumented += 1
        kinds = [type(each).__name__ for each in getattr(wrong, "exceptions", [wrong])]
        words = " | ".join(str(each).splitlines()[0] for each in getattr(wrong, "exceptions", [wrong]))
        self.findings.reasons.append(f"{case.method} {case.path}: {status} {kinds} {words}"[:300])
