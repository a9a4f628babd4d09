"""What `chalice local`, typed with nothing else set, needs to start: a stage, an engine and tables.

Chalice starts the application in a thread and ignores the exception of a failed start, or answers every call with a
traceback. So this module checks everything before the first call, and ends the process with one line.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

_CHALICES_DEFAULT_STAGE: Final = "dev"
"""Chalice sets its variables if no stage is named."""
_CHALICES_DEFAULT_PORT: Final = "8000"
_NO_TOKEN: Final = "tok_" + "0" * 32
_NO_CLIENT: Final = "-"


def prepare(arguments: Sequence[str]) -> None:
    """Choose the stage, point this process at its tables, and end it if they or the port can't be used.

    Does nothing for Chalice's other commands.

    Args:
        arguments: of the command line that Chalice runs, without the program's name.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--stage")
    parser.add_argument("--port", default=_CHALICES_DEFAULT_PORT)
    options, others = parser.parse_known_args(arguments)
    if "local" not in others:
        return
    for name in ("botocore", "pynamodb"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at INFO, they log where they look for settings
    from chalicelib.errors import ServiceError
    from dev import preflight
    from tokenctl.deployment import LOCAL_STAGE, open_stage, stage_environ
    from tokenctl.errors import DeploymentError, advice, described

    _watch_sources_alone()
    _join_headers()
    stage: str = options.stage or LOCAL_STAGE
    try:
        if options.stage is None:
            for name in stage_environ(_CHALICES_DEFAULT_STAGE):
                os.environ.pop(name, None)
        os.environ.update(stage_environ(stage))
        deployment = open_stage(stage)
        deployment.client_store().find(_NO_CLIENT)
        deployment.token_store().find(_NO_TOKEN)
        if options.port.isdecimal():  # if not, Chalice has a message of its own
            preflight.check_port(int(options.port), "chalice local --port ")
    except (DeploymentError, preflight.StartError) as error:
        _end(str(error))
    except ServiceError as error:
        _end(f"stage {stage}: {described(error)}; {advice(error, stage)}")


def _watch_sources_alone() -> None:
    """Keep Chalice's reloader away from hidden directories and `__pycache__`.

    It restarts the service when any file of the project changes. The engine stores below `.local/`, so every issued
    token would restart it.
    """
    from chalice.cli.filewatch.stat import StatFileWatcher

    poll = StatFileWatcher._single_pass_poll

    def is_watched(name: str) -> bool:
        return not name.startswith((".", "__"))

    def walk(_: Any, directory: str) -> Iterator[str]:
        for path, directories, files in os.walk(directory):
            directories[:] = filter(is_watched, directories)
            yield from (str(Path(path, name)) for name in files)

    def poll_sources(self: Any, directory: str, callback: Callable[[], None]) -> None:
        # Chalice has filled this before it loaded the application, and with it this module.
        self._mtime_cache = {
            path: changed
            for path, changed in self._mtime_cache.items()
            if all(map(is_watched, Path(path).relative_to(directory).parts[:-1]))
        }
        poll(self, directory, callback)

    watcher: Any = StatFileWatcher
    watcher._recursive_walk_files = walk
    watcher._single_pass_poll = poll_sources


def _join_headers() -> None:
    """Join headers of one name by a comma (RFC 9110, section 5.3); Chalice takes only the first of them."""
    from chalice.local import ChaliceRequestHandler

    handler: Any = ChaliceRequestHandler
    parse = handler._parse_payload

    def parse_all(self: Any) -> tuple[dict[str, str], bytes | None]:
        headers, body = parse(self)
        return {name: ", ".join(self.headers.get_all(name)) for name in headers}, body

    handler._parse_payload = parse_all


def _end(message: str) -> NoReturn:
    print(f"tokenservice: {message}", file=sys.stderr, flush=True)
    os._exit(1)  # this may be a thread, whose SystemExit would end nothing
