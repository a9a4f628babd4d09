"""Checks pinned libraries for known vulnerabilities with pip-audit: `python -m deploy.checks.vulnerabilities LOCK…`.

pip-audit succeeds even if its service knows none of the libraries. Here, what could not be audited is printed. Exit
code 1 means that a vulnerability was found; an unreachable service is no failure, or no build would work offline.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def audit(lock: str) -> list[dict[str, Any]] | None:
    """Return pip-audit's result for each library; None if it can't reach its service or read the lock.

    pip-audit's option `--ignore-vuln ID` leaves out one that does not concern us.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        libraries: list[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    return libraries


def report(lock: str, libraries: list[dict[str, Any]] | None) -> int:
    """Print the results for a lock; return the number of vulnerabilities."""
    if libraries is None:
        print(f"!!! NOT AUDITED: {lock}: the vulnerability service can't be reached, or the lock can't be read")
        return 0
    unknown = sum("skip_reason" in library for library in libraries)
    vulnerable = 0
    for library in libraries:
        for vulnerability in library.get("vulns", []):
            vulnerable += 1
            fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no version yet"
            name = f"{library['name']} {library['version']}"
            print(f"VULNERABLE: {lock}: {name}: {vulnerability['id']}; fixed in {fixed}")
    if unknown:
        print(f"!!! NOT AUDITED: {lock}: {unknown} of {len(libraries)} libraries are unknown to the service")
    if unknown < len(libraries):
        print(f"{lock}: {len(libraries) - unknown} libraries audited, {vulnerable} vulnerabilities")
    return vulnerable


if __name__ == "__main__":
    sys.exit(1 if sum([report(lock, audit(lock)) for lock in sys.argv[1:]]) else 0)
