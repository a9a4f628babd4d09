"""`make vendor`: compiled libraries for `chalice deploy`, in `vendor/`, which Chalice adds to its archive.

Chalice packs sources alone, and each cold start would compile them. The files that are compiled here hold the digest of
their source: if they are outdated, Python compiles again and nothing breaks.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from deploy import archive, logs, policies
from deploy.archive import PackageError
from deploy.package import OUT, ROOT, lay_out

VENDOR: Final = ROOT / "vendor"
_STAGE: Final = "dev"  # every stage has the same sources
_CHECKED: Final = "checked-hash"


def vendor(into: Path) -> int:
    """Compile what Chalice would pack.

    Args:
        into: folder for the compiled files, at their places in the archive; its former contents are deleted.

    Returns:
        The number of files.

    Raises:
        PackageError: Chalice failed, or a library is not what the lock names.
    """
    shutil.rmtree(into, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "task")
        lay_out(_STAGE, root)
        archive.compile_all(root, _CHECKED)
        # Chalice packs our own modules with all files beside them; the folder gets the others alone.
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
    """Write the roles' policies and the logs' templates, and compile the libraries, for `chalice deploy`."""
    policies.write()
    logs.write(OUT)
    try:
        count = vendor(VENDOR)
    except PackageError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    click.echo(f"  {VENDOR.relative_to(ROOT)}/  {count} compiled files")


if __name__ == "__main__":
    main()
