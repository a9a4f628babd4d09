"""One execution environment: a fresh process of AWS's own runtime client, with Lambda's limits."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.engine import REGION
from studies.bench.box import group as groups
from studies.bench.box import runtime_api
from studies.bench.box.runtime_api import Message, RuntimeApi

_PATIENCE_SECONDS = 600.0  # under valgrind, on a busy machine
_LOOK_EVERY_SECONDS = 1.0
# The process waits for a line first: it is in its group, and its clock is read, before Python begins.
_GATE = ("/bin/sh", "-c", 'read -r go && exec "$@"', "gate")


class FunctionError(Exception):
    """The function failed, in its init phase or in a call, with the message that it sent."""


@dataclass(frozen=True)
class Spent:
    """What one phase or one call cost.

    Attributes:
        wall_ms: until the answer; of the init phase, until the process requests its first event.
        cpu_ms: processor time until the process requests its next event, work after the answer included.
    """

    wall_ms: float
    cpu_ms: float


@contextmanager
def opened(
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
) -> Iterator[Function]:
    """A function in a folder like /var/task, about to start; it ends with the block.

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
    with ExitStack() as stack:
        group = None
        if limited:
            group = groups.make("lambda-box")
            if group is None:
                raise OSError("no more control groups can be made")
            stack.callback(group.remove)
            group.limit_memory(memory_mb * 1024 * 1024)
        api = stack.enter_context(RuntimeApi())
        process = subprocess.Popen(
            [*_GATE, *under, python, "-m", "awslambdaric", handler],
            cwd=task,
            env={
                **_lambda_environ(task, runtime, handler, memory_mb),
                **environ,
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_address[1]}",
            },
            stdin=subprocess.PIPE,
            stdout=stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
        )
        stack.enter_context(process)
        stack.callback(process.kill)
        api.pid = process.pid
        if group is not None:
            group.enter(process.pid)
        yield Function(process, api, group, memory_mb, f"{task.name} {handler}", log)


@dataclass
class Function:
    """The function, to be started and called."""

    _process: subprocess.Popen[bytes]
    _api: RuntimeApi
    _group: groups.ControlGroup | None
    _memory_mb: int
    _name: str
    _log: Path
    _cpu_before: float = 0.0

    def init(self) -> Spent:
        """Start the process and wait until it requests its first event; from then on its processor is limited."""
        self._await_gate()
        assert self._process.stdin is not None
        cpu_begun, begun = runtime_api.cpu_seconds(self._process.pid), time.perf_counter()
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        request = self._wait("next")
        self._cpu_before = request.cpu_seconds
        if self._group is not None:
            self._group.limit_processor(groups.share(self._memory_mb))
        return Spent((request.at - begun) * 1000, (request.cpu_seconds - cpu_begun) * 1000)

    def call(self, event: dict[str, Any]) -> tuple[Any, Spent]:
        """Send it an event; returns its answer and the cost."""
        body = json.dumps(event, separators=(",", ":")).encode()
        sent = time.perf_counter()
        self._api.events.put(body)
        answer, request = self._wait("response"), self._wait("next")
        spent = Spent((answer.at - sent) * 1000, (request.cpu_seconds - self._cpu_before) * 1000)
        self._cpu_before = request.cpu_seconds
        return json.loads(answer.body), spent

    def end(self) -> None:
        """Stop the process with SIGTERM, so that the program around it can write its report."""
        self._process.terminate()
        self._process.wait(_PATIENCE_SECONDS)

    def peak_mb(self) -> float:
        """The most memory that was resident so far, in MB of 1,000,000 bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6

    def _await_gate(self) -> None:
        """Let the gate reach its `read`, so that its own start is not counted."""
        status = Path(f"/proc/{self._process.pid}/stat")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while status.read_text().rpartition(")")[2].split()[0] != "S" and time.monotonic() < deadline:
            time.sleep(0.001)

    def _wait(self, kind: str) -> Message:
        """Wait for a message, while the process lives and patience lasts.

        Raises:
            FunctionError: another one came, or none.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        reason = "it sent nothing"
        while True:
            try:
                message = self._api.messages.get(timeout=_LOOK_EVERY_SECONDS)
            except queue.Empty:
                if self._process.poll() is None and time.monotonic() < deadline:
                    continue
                break
            if message.kind == kind:
                return message
            reason = message.body.decode(errors="replace")[:2000] or f"it sent {message.kind} in place of {kind}"
            break
        last_lines = " ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:])
        raise FunctionError(f"{self._name}: {reason} {last_lines}".strip())


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
