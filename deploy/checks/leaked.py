"""Looks for secrets in the sources: `python -m deploy.checks.leaked`; `--update` lists those that are there as known.

`.secrets.baseline` holds what a person has looked at, with `is_secret: false` by that person. detect-secrets' own hook
rewrites that file whenever a line number changes; a check should change nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from detect_secrets.core import baseline
from detect_secrets.core.secrets_collection import SecretsCollection

from deploy.checks.sources import sources

BASELINE = ".secrets.baseline"


def main(arguments: list[str]) -> int:
    known = baseline.load(json.loads(Path(BASELINE).read_text("utf-8")), BASELINE)  # sets detectors and filters, too
    found = SecretsCollection()
    found.scan_files(*map(str, sources()))
    if arguments == ["--update"]:
        found.merge(known)
        updated = baseline.format_for_output(found)
        updated.pop("generated_at", None)
        Path(BASELINE).write_text(json.dumps(updated, indent=2) + "\n", "utf-8")
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
