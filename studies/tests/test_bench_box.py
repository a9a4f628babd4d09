"""The box that functions are measured in: control groups, and one process's life."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from studies.bench.box import build, function, group
from studies.bench.box.function import Function, FunctionError


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "OUT", tmp_path_factory.mktemp("box"))
        yield build.runtime()


@pytest.fixture
def started(runtime: Path, tmp_path: Path) -> Callable[..., Any]:
    """Starts a function with this source, nothing limited."""

    @contextmanager
    def start(source: str, **options: Any) -> Iterator[Function]:
        task = tmp_path / "task"
        task.mkdir(exist_ok=True)
        (task / "app.py").write_text(source)
        options = {"log": tmp_path / "log", "limited": False, **options}
        with function.opened(task, runtime, "app.app", {"STAGE": "dev"}, 128, **options) as opened:
            yield opened

    return start


def test_start_and_calls_cost_the_processor_time_that_the_function_spent(started: Callable[..., Any]) -> None:
    source = """
import time
def burn(seconds):
    begun = time.process_time()
    while time.process_time() < begun + seconds:
        pass
burn(0.1)
def app(event, context):
    burn(event["burn"])
    time.sleep(event["sleep"])
    return "é"
"""
    with started(source) as opened:
        assert opened.init().cpu_ms >= 100
        answer, burning = opened.call({"burn": 0.05, "sleep": 0})
        _, sleeping = opened.call({"burn": 0, "sleep": 0.1})
    assert answer == "é"
    assert min(burning.cpu_ms, burning.wall_ms) >= 50
    assert sleeping.wall_ms >= 100
    assert sleeping.cpu_ms < 50


def test_the_peak_is_the_most_that_was_resident_and_stays_when_it_is_given_back(started: Callable[..., Any]) -> None:
    with started("def app(event, context):\n    return len(bytearray(b'x') * 50_000_000)") as opened:
        opened.init()
        before = opened.peak_mb()
        opened.call({})
        assert opened.peak_mb() >= before + 45


def test_the_function_gets_lambdas_environment_and_nothing_of_ours(
    started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLUNK_HEC_TOKEN", "ours")
    with started("import os\ndef app(event, context):\n    return dict(os.environ)") as opened:
        opened.init()
        environ, _ = opened.call({})
    named = {"_HANDLER": "app.app", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "STAGE": "dev"}
    assert named.items() <= environ.items()
    assert not {"SPLUNK_HEC_TOKEN", "HOME", "VIRTUAL_ENV"} & set(environ)


def test_a_function_can_be_started_under_another_program_and_ended_in_order(
    started: Callable[..., Any], tmp_path: Path
) -> None:
    report = tmp_path / "report"
    wrapper = ("/bin/sh", "-c", 'trap "echo ended > $0; exit" TERM; "$@" & wait', str(report))
    with started("app = lambda event, context: 7", under=wrapper) as opened:
        opened.init()
        assert opened.call({})[0] == 7
        opened.end()
    assert report.read_text() == "ended\n"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import no_such_module", "no_such_module"),
        ("def app(event, context):\n    return event['missing']", "missing"),
        ("import os\nos.write(2, b'last words')\nos._exit(0)", "sent nothing last words"),
    ],
)
def test_a_failing_function_reports_why(started: Callable[..., Any], source: str, why: str) -> None:
    def live() -> None:
        with started(source) as opened:
            opened.init()
            opened.call({})

    with pytest.raises(FunctionError, match=why):
        live()


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
