"""The Python client as a package."""

from __future__ import annotations

from typing import Final

from dev.engine import ROOT

CLIENT: Final = ROOT / "clients" / "python" / "tokenservice_client"
NEEDED: Final = {"requests", "tenacity", "urllib3"}
"""The distributions that it depends on."""
