"""The box that functions are measured in: control groups, the Runtime API, and one process's life."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from studies.bench.box import group
from studies.bench.box.function import Function
from studies.bench.box.runtime_api import Answer, FunctionError, NextRequest, RuntimeApi

# AWS's own client comes with `.venv`; this one does as much of the same as the box needs.
CLIENT = """
import http.client, importlib, json, os, sys
sys.path.insert(0, os.getcwd())
name, _, attribute = sys.argv[1].rpartition(".")
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def ask(method, path, body=None):
    api.request(method, "/2018-06-01/runtime/" + path, body)
    answer = api.getresponse()
    return answer.headers, answer.read()
try:
    handler = getattr(importlib.import_module(name), attribute)
except Exception as error:
    ask("POST", "init/error", json.dumps({"errorMessage": str(error)}))
    sys.exit(1)
while True:
    headers, event = ask("GET", "invocation/next")
    path = "invocation/" + headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        ask("POST", path + "/response", json.dumps(handler(json.loads(event), None)))
    except KeyError as error:
        ask("POST", path + "/error", json.dumps({"errorMessage": repr(error)}))
"""


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., Any]:
    """Starts a function with this source, nothing limited."""
    runtime, task = tmp_path / "runtime", tmp_path / "task"
    for folder in (runtime / "awslambdaric", task):
        folder.mkdir(parents=True)
    (runtime / "awslambdaric" / "__main__.py").write_text(CLIENT)

    @contextmanager
    def start(source: str, **options: Any) -> Iterator[Function]:
        (task / "app.py").write_text(source)
        log = tmp_path / "log"
        with Function(task, runtime, "app.app", {"STAGE": "dev"}, 128, log=log, limited=False, **options) as function:
            yield function

    return start


def test_a_call_costs_the_processor_time_that_the_function_spent(started: Callable[..., Any]) -> None:
    source = """
import time
def app(event, context):
    begun = time.process_time()
    while time.process_time() < begun + event["burn"]:
        pass
    time.sleep(event["sleep"])
    return time.process_time() - begun
"""
    with started(source) as function:
        assert function.init().cpu_ms > 0
        burnt, burning = function.call({"burn": 0.05, "sleep": 0})
        _, sleeping = function.call({"burn": 0, "sleep": 0.1})
    assert burning.cpu_ms >= burnt * 1000 >= 50
    assert burning.wall_ms >= 50
    assert sleeping.wall_ms >= 100
    assert sleeping.cpu_ms < 50


def test_the_start_counts_what_is_done_before_the_first_event(started: Callable[..., Any]) -> None:
    burn = "import time\nbegun = time.process_time()\nwhile time.process_time() < begun + 0.1:\n    pass\n"
    with started("app = lambda event, context: 1") as idle, started(burn + "app = lambda event, context: 1") as busy:
        assert busy.init().cpu_ms >= 100
        assert idle.init().cpu_ms > 0


def test_the_peak_is_the_most_that_was_resident_and_stays_when_it_is_given_back(started: Callable[..., Any]) -> None:
    with started("def app(event, context):\n    return len(bytearray(b'x') * 50_000_000)") as function:
        function.init()
        before = function.peak_mb()
        function.call({})
        assert function.peak_mb() >= before + 45


def test_the_function_gets_lambdas_environment_and_nothing_of_ours(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLUNK_HEC_TOKEN", "ours")
    with started("import os\ndef app(event, context):\n    return dict(os.environ)") as function:
        function.init()
        environ, _ = function.call({})
    assert environ["_HANDLER"] == "app.app"
    assert environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128"
    assert environ["STAGE"] == "dev"
    assert not {"SPLUNK_HEC_TOKEN", "HOME", "VIRTUAL_ENV"} & set(environ)


def test_a_function_can_be_started_under_another_program_and_ended_in_order(
    started: Callable[..., Any], tmp_path: Path
) -> None:
    report = tmp_path / "report"
    wrapper = ("/bin/sh", "-c", 'trap "echo ended > $0; exit" TERM; "$@" & wait', str(report))
    with started("app = lambda event, context: 7", under=wrapper) as function:
        function.init()
        assert function.call({})[0] == 7
        function.end()
    assert report.read_text() == "ended\n"


def test_a_failing_function_reports_why(started: Callable[..., Any]) -> None:
    with (
        started("import sys\nprint('last words', file=sys.stderr)\nimport no_such_module") as function,
        pytest.raises(FunctionError, match=r"no_such_module.*last words"),
    ):
        function.init()
    with started("def app(event, context):\n    return event['missing']") as function:
        function.init()
        with pytest.raises(FunctionError, match="missing"):
            function.call({})


def test_a_function_that_ends_without_a_word_is_noticed(started: Callable[..., Any]) -> None:
    with started("import os\nos._exit(0)") as function, pytest.raises(FunctionError, match="sent nothing"):
        function.init()


def test_the_runtime_api_hands_out_an_event_and_takes_its_answer() -> None:
    with RuntimeApi(lambda: 1.5) as api:
        heard: dict[str, Any] = {}

        def function() -> None:
            client = http.client.HTTPConnection(api.address)
            client.request("GET", "/2018-06-01/runtime/invocation/next")
            answer = client.getresponse()
            heard.update(event=json.loads(answer.read()), headers=dict(answer.headers))
            client.request("POST", "/2018-06-01/runtime/invocation/1/response", b'{"statusCode":200}')
            client.getresponse().read()
            client.close()

        asking = threading.Thread(target=function)
        asking.start()
        assert api.next_request(10) == NextRequest(at=pytest.approx(0, abs=1e12), cpu_seconds=1.5)
        sent = api.send({"body": "é"})
        answer_received = api.answer(10)
        asking.join()
    assert isinstance(answer_received, Answer)
    assert (answer_received.body, answer_received.at > sent) == (b'{"statusCode":200}', True)
    assert heard["event"] == {"body": "é"}
    assert {"Lambda-Runtime-Aws-Request-Id", "Lambda-Runtime-Deadline-Ms"} <= set(heard["headers"])


def test_a_silent_function_times_out() -> None:
    with RuntimeApi(lambda: 0.0) as api, pytest.raises(TimeoutError):
        api.next_request(0.01)


def hierarchy(root: Path, *names: str) -> Path:
    """Folders like those of the kernel. Files come into being as they are written: there they would be made with it."""
    for name in names:
        (root / name).mkdir(exist_ok=True)
        (root / name / "cgroup.procs").touch()
    return root


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_each_controller_of_version_1_holds_its_part(tmp_path: Path) -> None:
    made = group.make("box", hierarchy(tmp_path, "memory", "cpu"))
    assert made is not None
    made.limit_memory(128 * 1024 * 1024)
    made.limit_processor(group.share(128))
    made.enter(77)
    limits = {"memory.limit_in_bytes": "134217728", "memory.memsw.limit_in_bytes": "134217728", "cgroup.procs": "77"}
    assert written(made.memory) == limits
    quota = {"cpu.cfs_period_us": "20000", "cpu.cfs_quota_us": "1447", "cgroup.procs": "77"}
    assert written(made.processor) == quota


def test_one_folder_of_version_2_holds_both(tmp_path: Path) -> None:
    (hierarchy(tmp_path, ".") / "cgroup.controllers").write_text("cpu memory")
    made = group.make("box", tmp_path)
    assert made is not None
    made.limit_memory(128 * 1024 * 1024)
    made.limit_processor(group.share(128))
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"
    limits = {"memory.max": "134217728", "memory.swap.max": "0", "cpu.max": "1447 20000"}
    assert written(made.memory) == limits


def test_if_no_group_can_be_created_nothing_is_left_behind(tmp_path: Path) -> None:
    assert group.make("box", tmp_path / "nowhere") is None
    hierarchy(tmp_path, "memory")
    assert group.make("box", tmp_path) is None
    assert written(tmp_path / "memory") == {"cgroup.procs": ""}


def test_the_share_of_a_processor_grows_with_memory_to_one_and_no_further() -> None:
    assert [round(group.share(size), 3) for size in (128, 512, 1769, 10_240)] == [0.072, 0.289, 1.0, 1.0]
