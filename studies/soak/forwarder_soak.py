"""Seeded fault runs of the forwarder, as many as asked for: `python -m studies.soak.forwarder_soak --runs 10000`."""

from __future__ import annotations

import argparse
import json
import logging
import sys

from tests.support.forwarder_runs import Findings, run


def main() -> int:
    """Run, print the findings as JSON; 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="first seed; each run has the next")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # thousands of faults on purpose are no news
    findings = Findings()
    for number in range(arguments.runs):
        run(arguments.seed + number, findings)
    print(json.dumps(vars(findings) | {"faults": len(findings.faults)}, indent=2))
    return 0 if findings.good else 1


if __name__ == "__main__":
    sys.exit(main())
