"""`make package STAGE=dev`: the SAM template and the deployment archive of a stage, in `out/<stage>/`.

Needs no AWS account: nothing is asked of AWS. `chalice package` does the main part; `template.py` and `archive.py`
say what we add and take away.
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
from tokenctl.deployment import DeploymentError, stage_environ

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "out"
NOT_DEPLOYED: Final = ("local",)


class PackageError(Exception):
    """There is no package; the message is one line for the person at the terminal."""


def package(stage: str, out: Path) -> None:
    """Make the package of a stage.

    Args:
        stage: a stage of `.chalice/config.json`.
        out: folder for `template.yaml` and `deployment.zip`; what stood there goes.

    Raises:
        PackageError: the stage, the region or a tool is missing, or Chalice found a mistake.
    """
    _check(stage)
    with tempfile.TemporaryDirectory() as folder:
        chalice_package(stage, folder)
        made = yaml.safe_load(Path(folder, "sam.yaml").read_text("utf-8"))
        text = template.to_yaml(template.finish(made, stage, commit()))
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        archive.rebuild(Path(folder, "deployment.zip"), out / "deployment.zip")
    (out / "template.yaml").write_text(text, "utf-8")


def commit() -> str:
    """The commit that is packaged: what COMMIT or the build service says, or else git; `unknown` where nobody does."""
    for name in ("COMMIT", "CODEBUILD_RESOLVED_SOURCE_VERSION"):
        if os.environ.get(name):
            return os.environ[name]
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():  # an unpacked archive may lie in another repository
        return "unknown"
    asked = subprocess.run([git, "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def _check(stage: str) -> None:
    try:
        stage_environ(stage)
    except DeploymentError as error:
        raise PackageError(str(error)) from None
    if stage in NOT_DEPLOYED:
        raise PackageError(f"stage {stage!r} is what 'make run' serves; it is not deployed")
    if not Session().get_config_variable("region"):
        raise PackageError("AWS_DEFAULT_REGION: missing; wanted: the region to deploy to, for example eu-central-1")


def chalice_package(stage: str, folder: str) -> None:
    """Let Chalice write its template and its archive into a folder.

    Raises:
        PackageError: with the last of what it said.
    """
    # Its archives are kept by the digest of the sources; two at once would write the same file.
    (ROOT / ".chalice" / "deployments").mkdir(exist_ok=True)
    command = [str(Path(sys.executable).with_name("chalice")), "package", "--stage", stage]
    command += ["--merge-template", str(template.RESOURCES), folder]
    with (ROOT / ".chalice" / "deployments" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        policies.write()
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Where a library has no fitting build Chalice says so, and goes on without it.
    if said.returncode or "Could not install dependencies" in said.stdout + said.stderr:
        lines = [line for line in (said.stdout + said.stderr).splitlines() if line.strip()]
        raise PackageError(f"chalice package: {' '.join(lines[-3:])}")


@click.command()
@click.option("--stage", required=True, help="A stage of .chalice/config.json.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Else out/<stage>.")
def main(stage: str, out: Path | None) -> None:
    """Make the SAM template and the deployment archive of a stage."""
    out = out or OUT / stage
    click.echo(f"Packaging stage {stage} (half a minute where the libraries are fetched anew) ...")
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
