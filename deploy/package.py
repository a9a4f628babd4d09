"""`make package STAGE=dev`: the SAM template and the deployment archive of a stage, in `out/<stage>/`.

Makes no call to AWS. `chalice package` does the main part; `template.py` and `archive.py` add to and remove from it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import click
import yaml
from botocore.session import Session

from deploy import archive, policies, template
from tokenctl.deployment import stage_environ
from tokenctl.errors import DeploymentError

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "out"
NOT_DEPLOYED: Final = ("local",)


class PackageError(Exception):
    """There is no package; the message is one line."""


def package(stage: str, out: Path) -> None:
    """Make the package of a stage.

    Args:
        stage: a stage of `.chalice/config.json`.
        out: folder for `template.yaml` and `deployment.zip`; its former contents are deleted.

    Raises:
        PackageError: the stage, the region or a tool is missing, or Chalice failed.
    """
    _check(stage)
    with tempfile.TemporaryDirectory() as folder:
        chalice_package(stage, folder)
        packaged = yaml.safe_load(Path(folder, "sam.yaml").read_text("utf-8"))
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        archive.rebuild(Path(folder, "deployment.zip"), out / "deployment.zip")
    finished = template.finish(packaged, stage, commit(), (out / "deployment.zip").read_bytes())
    (out / "template.yaml").write_text(template.to_yaml(finished), "utf-8")


def commit() -> str:
    """Return the packaged commit: from COMMIT, the build service or git; else `unknown`."""
    for name in ("COMMIT", "CODEBUILD_RESOLVED_SOURCE_VERSION"):
        if os.environ.get(name):
            return os.environ[name]
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():  # an unpacked archive may be inside another repository
        return "unknown"
    run = subprocess.run([git, "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def _check(stage: str) -> None:
    try:
        stage_environ(stage)
    except DeploymentError as error:
        raise PackageError(str(error)) from None
    if stage in NOT_DEPLOYED:
        raise PackageError(f"stage {stage!r} is served by 'make run' and never deployed")
    if not Session().get_config_variable("region"):
        raise PackageError("AWS_DEFAULT_REGION: missing; wanted: the region to deploy to, for example eu-central-1")


def chalice_package(stage: str, folder: str) -> None:
    """Run Chalice, which writes its template and its archive into a folder.

    Raises:
        PackageError: with the last lines of its output.
    """
    # It caches archives by the digest of the sources; two runs at once would write the same file.
    (ROOT / ".chalice" / "deployments").mkdir(exist_ok=True)
    command = [str(Path(sys.executable).with_name("chalice")), "package", "--stage", stage]
    command += ["--merge-template", str(template.RESOURCES), folder]
    with (ROOT / ".chalice" / "deployments" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        policies.write()
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    # If a library has no fitting build, Chalice prints this and continues without the library.
    if run.returncode or "Could not install dependencies" in output:
        lines = [line for line in output.splitlines() if line.strip()]
        raise PackageError(f"chalice package: {' '.join(lines[-3:])}")


@click.command()
@click.option("--stage", required=True, help="A stage of .chalice/config.json.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: out/<stage>.")
def main(stage: str, out: Path | None) -> None:
    """Make the SAM template and the deployment archive of a stage."""
    out = out or OUT / stage
    click.echo(f"Packaging stage {stage} (half a minute if libraries have to be downloaded) ...")
    try:
        package(stage, out)
    except PackageError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    for path in sorted(out.iterdir()):
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        click.echo(f"  {shown}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
