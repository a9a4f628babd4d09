"""Looks for secrets in the sources: `python -m deploy.checks.leaked`; with `--update`, lists what is there as known.

What a person has looked at and found to be none is in `.secrets.baseline`, with `is_secret: false` by that person.
detect-secrets' own hook rewrites that file whenever a line number changes; this does not, because a check should change
nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from detect_secrets.core import baseline
from detect_secrets.core.secrets_collection import SecretsCollection

BASELINE = ".secrets.baseline"
_MADE = frozenset({"out", "build", "node_modules", "__pycache__"})


def sources() -> list[str]:
    """Every file that git keeps or would keep; without git, as in a build, what lies below the working directory."""
    git = shutil.which("git")
    if git and Path(".git").exists():
        command = [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted(path for path in listed if path and Path(path).is_file())
    return sorted(str(path) for path in Path().rglob("*") if path.is_file() and not _is_made(path.parts[:-1]))


def _is_made(folders: Iterable[str]) -> bool:
    return any(each in _MADE or (each.startswith(".") and each not in (".chalice", ".ci")) for each in folders)


def main(arguments: list[str]) -> int:
    kept = json.loads(Path(BASELINE).read_text("utf-8"))
    known = baseline.load(kept, BASELINE)  # also sets which detectors and filters are used
    found = SecretsCollection()
    found.scan_files(*sources())
    if arguments == ["--update"]:
        found.merge(known)
        made = baseline.format_for_output(found)
        made.pop("generated_at", None)
        Path(BASELINE).write_text(json.dumps(made, indent=2) + "\n", "utf-8")
        return 0
    new = list(found - known)
    for path, secret in new:
        print(f"{path}:{secret.line_number}: looks like a secret ({secret.type})", file=sys.stderr)
    if new:
        print(f"If none of them is: .venv/bin/python -m {__spec__.name} --update", file=sys.stderr)
        return 1
    print(f"no secret in {len(sources())} files; {len(known.json())} of them hold something that was looked at")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
