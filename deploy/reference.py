"""`python -m deploy.reference`: write `chalicelib/http/openapi.json`, and build its page `out/api.html` with Redocly.

The page is one file that a browser opens without a network. If Node or npm is missing, only the document is written.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.checks.openapi import DOCUMENT, ENVIRON, ROOT, ToolsMissing, tools
from tokenctl import openapi

PAGE: Final = ROOT / "out" / "api.html"


def build_page(page: Path) -> None:
    """Write the page.

    Raises:
        ToolsMissing: Node or npm is missing or too old, or npm failed.
        CalledProcessError: Redocly failed; its output explains why.
    """
    command = [str(tools() / "redocly"), "build-docs", str(DOCUMENT), "--inlineBundle", "--output", str(page)]
    subprocess.run(
        [*command, "--config", "deploy/openapi/redocly.yaml"], cwd=ROOT, env={**os.environ, **ENVIRON}, check=True
    )


def main() -> int:
    """Write the document and the page; returns the exit code."""
    DOCUMENT.write_text(openapi.document_text(), "utf-8")
    try:
        build_page(PAGE)
    except (ToolsMissing, subprocess.CalledProcessError) as error:
        print(f"Error: {PAGE.relative_to(ROOT)}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
