"""`python -m deploy.reference`: the API reference, made from the types that parse the requests.

Writes `docs/openapi.yaml` for people and tools, `chalicelib/http/openapi.json` for `GET /openapi.json`, and
`docs/api.html` for browsers. The page is one file: the document, and Redoc, which draws it. It loads nothing, and its
policy lets it load nothing.

Redoc is pinned in `requirements/redoc.json`. The page that is there holds it already, so npm is asked only where the
pin has changed.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenctl import openapi

ROOT: Final = Path(__file__).resolve().parent.parent
YAML: Final = ROOT / "docs" / "openapi.yaml"
JSON: Final = ROOT / "chalicelib" / "http" / "openapi.json"
PAGE: Final = ROOT / "docs" / "api.html"
PIN: Final = ROOT / "requirements" / "redoc.json"

_PARTS: Final = re.compile(
    r'<script type="text/plain" id="licences">\n(.*?)\n</script>\n<script id="redoc">\n(.*?)\n</script>\n', re.DOTALL
)
# Redoc writes its own styles and searches in a worker that it makes of itself.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; worker-src blob:; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'"
)
_OPTIONS: Final = {
    "expandResponses": "200,201,204",
    "hideDownloadButton": True,
    "hideRequestPayloadSample": True,
    "pathInMiddlePanel": True,
    "sortRequiredPropsFirst": True,
    "theme": {
        "rightPanel": {"width": "45%"},
        "typography": {"fontFamily": "system-ui, sans-serif", "headings": {"fontFamily": "system-ui, sans-serif"}},
    },
}
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<title>{title}: API reference</title>
<style>body {{ margin: 0 }} img[alt="redocly logo"] {{ display: none }} noscript {{ font-family: sans-serif }}</style>
</head>
<body>
<noscript>This page is drawn by a script. What it says is in openapi.yaml beside it, too.</noscript>
<div id="reference"></div>
<script type="application/json" id="document">
{document}
</script>
<script type="text/plain" id="licences">
{licences}
</script>
<script id="redoc">
{bundle}
</script>
<script>
const told = JSON.parse(document.getElementById("document").textContent);
Redoc.init(told, {options}, document.getElementById("reference"));
</script>
</body>
</html>
"""


class NoReference(Exception):
    """There is no page; the message is one line for the person at the terminal."""


@dataclass(frozen=True)
class Renderer:
    """Redoc as one script, and what its licences want to be kept with it."""

    bundle: str
    licences: str

    def is_pinned(self) -> bool:
        return bool(hashlib.sha256(self.bundle.encode()).hexdigest() == _pin()["bundle_sha256"])


def page(document: dict[str, Any], renderer: Renderer) -> str:
    """The reference as one HTML file."""
    return _PAGE.format(
        policy=_POLICY,
        title=html.escape(document["info"]["title"]),
        document=_in_script(document),
        licences=renderer.licences,
        bundle=renderer.bundle,
        options=_in_script(_OPTIONS),
    )


def find_renderer(text: str) -> Renderer | None:
    """The renderer that a page holds; None where it holds none."""
    found = _PARTS.search(text)
    return Renderer(found[2], found[1]) if found else None


def fetch_renderer() -> Renderer:
    """Get the pinned renderer from npm.

    Raises:
        NoReference: npm is missing, has not got it, or has something else under its name.
    """
    npm, pin = shutil.which("npm"), _pin()
    if npm is None:
        raise NoReference("npm is not installed (Debian: npm)")
    named = f"{pin['package']}@{pin['version']}"
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", named, "--ignore-scripts", "--pack-destination", folder]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(Path(folder).iterdir())
        if said.returncode or len(archives) != 1:
            raise NoReference(f"npm pack {named}: {' '.join(said.stderr.split())[-300:]}")
        digest = hashlib.sha512(archives[0].read_bytes()).digest()
        if f"sha512-{base64.b64encode(digest).decode()}" != pin["integrity"]:
            raise NoReference(f"{named} is not what {PIN.name} pins")
        with tarfile.open(archives[0]) as package:
            texts = [_member(package, name) for name in (pin["bundle"], *pin["licences"])]
    found = Renderer(texts[0].strip(), "\n".join(texts[1:]).strip())
    if not found.is_pinned() or "</script" in found.bundle + found.licences:
        raise NoReference(f"{pin['bundle']} of {named} is not what {PIN.name} pins, or no page can hold it")
    return found


def _member(package: tarfile.TarFile, name: str) -> str:
    content = package.extractfile(f"package/{name}")
    if content is None:
        raise NoReference(f"{name} is no file of the package")
    return content.read().decode()


def _in_script(value: Any) -> str:
    """JSON in which no text can end the script that holds it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _pin() -> dict[str, Any]:
    pin: dict[str, Any] = json.loads(PIN.read_text("utf-8"))
    return pin


def main() -> int:
    """Write the three files; returns the exit code."""
    try:
        kept = find_renderer(PAGE.read_text("utf-8")) if PAGE.exists() else None
        renderer = kept if kept and kept.is_pinned() else fetch_renderer()
    except NoReference as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    YAML.write_text(openapi.document_text(), "utf-8")
    JSON.write_text(openapi.served_text(), "utf-8")
    PAGE.write_text(page(openapi.document(), renderer), "utf-8")
    for path in (YAML, JSON, PAGE):
        print(f"  {path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
