"""`make vendor`: compiled libraries for `chalice deploy`, in `vendor/`, which Chalice adds to its archive.

Chalice packs sources alone, and each cold start would compile them anew. What is compiled here holds the digest of its
source: where the two do not fit, after an update that nobody ran this for, Python compiles again and nothing breaks.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from deploy import archive
from deploy.package import ROOT, PackageError, chalice_package

VENDOR: Final = ROOT / "vendor"
_STAGE: Final = "dev"  # every stage has the same sources
_CHECKED: Final = "checked-hash"


def vendor(into: Path) -> int:
    """Compile what Chalice would pack.

    Args:
        into: folder for the compiled files, at their places in the archive; what stood there goes.

    Returns:
        How many there are.

    Raises:
        PackageError: Chalice found a mistake.
    """
    shutil.rmtree(into, ignore_errors=True)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made, "task")
        chalice_package(_STAGE, made)
        archive.unpack(Path(made, "deployment.zip"), root)
        archive.compile_all(root, _CHECKED)
        # Chalice takes our own modules with all that lies beside them; only what is elsewhere goes into the folder.
        ours = ROOT / "chalicelib"
        archive.compile_all(ours, _CHECKED)
        compiled = [path for path in root.rglob("*.pyc") if not path.is_relative_to(root / ours.name)]
        for path in compiled:
            place = into / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    return len(compiled)


@click.command()
def main() -> None:
    """Compile the libraries for `chalice deploy`."""
    try:
        count = vendor(VENDOR)
    except PackageError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    click.echo(f"  {VENDOR.relative_to(ROOT)}/  {count} compiled files")


if __name__ == "__main__":
    main()
