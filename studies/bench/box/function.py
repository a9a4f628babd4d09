"""One execution environment: a fresh process of AWS's own runtime client, with Lambda's limits."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dev.engine import REGION
from studies.bench.box import group as groups
from studies.bench.box.runtime_api import FunctionError, RuntimeApi

_PATIENCE_SECONDS = 600.0  # under valgrind, on a busy machine
_LOOK_EVERY_SECONDS = 1.0
# The process waits for a line first: it is in its group, and its clock is read, before Python begins.
_GATE = ("/bin/sh", "-c", 'read -r go && exec "$@"', "gate")


@dataclass(frozen=True)
class Spent:
    """What one phase or one call cost.

    Attributes:
        wall_ms: until the answer; of the init phase, until the process requests its first event.
        cpu_ms: processor time until the process requests its next event, work after the answer included.
    """

    wall_ms: float
    cpu_ms: float


class Function:
    """A function in a folder like /var/task.

    Args:
        task: the folder.
        runtime: the folder with the runtime client, like /var/runtime.
        handler: module and name, `app.app`.
        environ: environment variables beside those that Lambda sets for every function.
        memory_mb: its size, which decides its share of a processor.
        log: the file of its standard output and error.
        limited: run it in a control group. If False, nothing is limited and only processor times mean something.
        python: the interpreter that starts it.
        under: the program that executes the interpreter, with its options; empty means none.
    """

    def __init__(
        self,
        task: Path,
        runtime: Path,
        handler: str,
        environ: Mapping[str, str],
        memory_mb: int,
        *,
        log: Path,
        limited: bool,
        python: str = sys._base_executable,
        under: Sequence[str] = (),
    ) -> None:
        self._command = [*under, python, "-m", "awslambdaric", handler]
        self._task = task
        self._handler = handler
        self._memory_mb = memory_mb
        self._log = log
        self._limited = limited
        self._environ = {**_lambda_environ(task, runtime, handler, memory_mb), **environ}
        self._group: groups.ControlGroup | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = ExitStack()
        self._cpu_before = 0.0

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._ended.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.close()

    def _open(self) -> None:
        if self._limited:
            self._group = groups.make("lambda-box")
            if self._group is None:
                raise OSError("no more control groups can be made")
            self._ended.callback(self._group.remove)
            self._group.limit_memory(self._memory_mb * 1024 * 1024)
        self._api = self._ended.enter_context(RuntimeApi(self._cpu_seconds))
        self._environ["AWS_LAMBDA_RUNTIME_API"] = self._api.address
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_GATE, *self._command],
                cwd=self._task,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._ended.callback(self._kill)
        if self._group is not None:
            self._group.enter(self._process.pid)

    def init(self) -> Spent:
        """Start the process and wait until it requests its first event; from then on its processor is limited."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._await_gate()
        cpu_begun = self._cpu_seconds()
        begun = time.perf_counter()
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        request = self._wait(self._api.next_request)
        self._cpu_before = request.cpu_seconds
        if self._group is not None:
            self._group.limit_processor(groups.share(self._memory_mb))
        return Spent((request.at - begun) * 1000, (request.cpu_seconds - cpu_begun) * 1000)

    def call(self, event: dict[str, Any]) -> tuple[Any, Spent]:
        """Send it an event; returns its answer and the cost."""
        sent = self._api.send(event)
        answer = self._wait(self._api.answer)
        request = self._wait(self._api.next_request)
        spent = Spent((answer.at - sent) * 1000, (request.cpu_seconds - self._cpu_before) * 1000)
        self._cpu_before = request.cpu_seconds
        return json.loads(answer.body), spent

    def end(self) -> None:
        """Stop the process with SIGTERM, so that the program around it can write its report."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(_PATIENCE_SECONDS)

    def peak_mb(self) -> float:
        """The most memory that was resident so far, in MB of 1,000,000 bytes."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6

    def _await_gate(self) -> None:
        """Let the gate reach its `read`, so that its own start is not counted."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/stat")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while status.read_text().rpartition(")")[2].split()[0] != "S" and time.monotonic() < deadline:
            time.sleep(0.001)

    def _wait(self, wait: Callable[[float], Any]) -> Any:
        """Wait for a message, while the process lives and patience lasts."""
        assert self._process is not None
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return wait(_LOOK_EVERY_SECONDS)
            except TimeoutError as error:
                if self._process.poll() is None and time.monotonic() < deadline:
                    continue
                reason: Exception = error
            except FunctionError as error:
                reason = error
            last_lines = " ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:])
            raise FunctionError(f"{self._task.name} {self._handler}: {reason} {last_lines}".strip()) from None

    def _cpu_seconds(self) -> float:
        """Processor time of the process, all threads that ever were included, in nanoseconds' steps."""
        assert self._process is not None
        # What clock_getcpuclockid(3) makes of a process id. It works with and without control groups.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def _kill(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


def _lambda_environ(task: Path, runtime: Path, handler: str, memory_mb: int) -> dict[str, str]:
    """The variables that Lambda sets for every function.

    Source: AWS Lambda developer guide, "Defined runtime environment variables".
    """
    return {
        "_HANDLER": handler,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EXECUTION_ENV": "AWS_Lambda_python{}.{}".format(*sys.version_info),
        "AWS_LAMBDA_FUNCTION_NAME": "tokenservice",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/tokenservice",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef",
        "LAMBDA_TASK_ROOT": str(task),
        "LAMBDA_RUNTIME_DIR": str(runtime),
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(runtime),
        "TZ": ":UTC",
        # Ours: /var/task is read-only, a user's own packages are not on Lambda, and equal starts do equal work.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONHASHSEED": "0",
    }
