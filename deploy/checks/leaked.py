"""Looks for secrets in the sources: `python -m deploy.checks.leaked`; `--update` lists those that are there as known.

Each line of `known_secrets.txt` is what a person has looked at: the file, the kind, and the SHA-1 of the text.
detect-secrets' own list has 12 lines for each, and its hook rewrites line numbers; a check should change nothing.
"""

from __future__ import annotations

import sys

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings

from deploy.checks.sources import ROOT, sources

_KNOWN = ROOT / "deploy" / "checks" / "known_secrets.txt"


def main(arguments: list[str]) -> int:
    """Return the exit code: 1 if something looks like a secret and is not known."""
    files = sources()
    found = SecretsCollection()
    with default_settings():
        found.scan_files(*map(str, files))
    lines = {f"{path}: {secret.type}: {secret.secret_hash}": f"{path}:{secret.line_number}" for path, secret in found}
    if arguments == ["--update"]:
        _KNOWN.write_text("".join(f"{line}\n" for line in sorted(lines)), "utf-8")
        return 0
    known = set(_KNOWN.read_text("utf-8").splitlines())
    new = sorted(lines.keys() - known)
    for line in new:
        print(f"{lines[line]}: looks like a secret ({line.split(': ')[1]})", file=sys.stderr)
    if new:
        print(f"If none of them is: .venv/bin/python -m {__spec__.name} --update", file=sys.stderr)
        return 1
    print(f"no secret in {len(files)} files; {len(known)} that look like one were looked at")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
