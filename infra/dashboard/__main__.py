"""`python -m infra.dashboard`: what `make dashboard` executes."""

from __future__ import annotations

import json
import sys

from infra.dashboard.definition import DEFINITION, ROOT, UnknownPart, digest, graphs
from infra.dashboard.picture import PICTURE, draw


def main() -> int:
    """Draw the dashboard as it is defined now; returns the exit code."""
    definition = json.loads(DEFINITION.read_text("utf-8"))
    try:
        draw(graphs(definition), PICTURE, digest(definition))
    except UnknownPart as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"  {PICTURE.relative_to(ROOT)}  {PICTURE.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
