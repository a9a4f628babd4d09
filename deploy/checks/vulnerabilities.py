"""Asks pip-audit for known vulnerabilities of pinned libraries: `python -m deploy.checks.vulnerabilities LOCK…`.

pip-audit itself ends well where its service does not know a library, or knows none of them. Here that is said aloud:
what could not be looked up is not audited. A vulnerability that was found is exit code 1; a service that can't be
reached is not, or no build would work without it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

IGNORED: dict[str, str] = {}
"""Vulnerabilities that do not concern us: id to the reason, in a sentence."""


def asked(lock: str) -> list[dict[str, Any]] | None:
    """What pip-audit knows of each library; None where it could not ask at all."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(said.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    return found


def report(lock: str, libraries: list[dict[str, Any]] | None) -> int:
    """Print what is known of a lock; returns how many vulnerabilities there are."""
    if libraries is None:
        print(f"!!! NOT AUDITED: {lock}: the vulnerability service can't be reached, or the lock can't be read")
        return 0
    unknown = sorted(each["name"] for each in libraries if "skip_reason" in each)
    found = [
        (each["name"], each["version"], vulnerability)
        for each in libraries
        for vulnerability in each.get("vulns", [])
        if not IGNORED.keys() & {vulnerability["id"], *vulnerability.get("aliases", [])}
    ]
    for name, version, vulnerability in found:
        fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no version yet"
        print(f"VULNERABLE: {lock}: {name} {version}: {vulnerability['id']}; fixed in {fixed}")
    if unknown:
        print(f"!!! NOT AUDITED: {lock}: {len(unknown)} of {len(libraries)} libraries are unknown to the service")
    if len(unknown) < len(libraries):
        print(f"{lock}: {len(libraries) - len(unknown)} libraries audited, {len(found)} vulnerabilities")
    return len(found)


def main(locks: list[str]) -> int:
    if not locks:
        print("vulnerabilities: name at least one file of pinned requirements", file=sys.stderr)
        return 2
    return 1 if sum([report(lock, asked(lock)) for lock in locks]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
