"""`make package STAGE=dev`: a stage's SAM template, deployment archive and bill of materials, in `out/<stage>/`.

Makes no call to AWS. `chalice package` writes the template and packs the application; `archive.py` adds the rest.
"""

from __future__ import annotations

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

from deploy import archive, policies, sbom, template
from deploy.archive import PackageError
from deploy.resources import Template
from tokenctl.deployment import CONFIG, stage_environ, stage_setting
from tokenctl.errors import DeploymentError

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "out"
NOT_DEPLOYED: Final = ("local",)
SNAP_START: Final = "snap_start"
"""A setting of ours beside Chalice's own: start the functions behind the gateway from a snapshot."""


def package(stage: str, out: Path) -> None:
    """Make the package of a stage.

    Args:
        stage: a stage of `.chalice/config.json`.
        out: folder for `template.yaml`, `deployment.zip` and `sbom.cdx.json`; its former contents are deleted.

    Raises:
        PackageError: the stage, the region or a tool is missing, or Chalice failed.
    """
    _check(stage)
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder, "task")
        packaged, wheels = lay_out(stage, task)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        archive.write(task, out / "deployment.zip")
    sbom.write(sbom.of_archive(out / "deployment.zip", wheels), out / f"sbom{sbom.SUFFIX}")
    write_template(stage, packaged, out)


def write_template(stage: str, packaged: Template, out: Path) -> None:
    """Write the whole template of a stage beside its archive.

    Args:
        packaged: the template that Chalice wrote.
    """
    packed = (out / "deployment.zip").read_bytes()
    finished = template.finish(packaged, stage, commit(), packed, snap_start=bool(stage_setting(stage, SNAP_START)))
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
    snap_start = stage_setting(stage, SNAP_START)
    if snap_start not in (None, False, True):
        raise PackageError(f"{SNAP_START}: {snap_start!r} is not true or false")
    if snap_start and sys.version_info < (3, 12):
        raise PackageError(f"{SNAP_START}: Lambda has it for Python 3.12 and newer, and this package is for 3.11")
    if not Session().get_config_variable("region"):
        raise PackageError("AWS_DEFAULT_REGION: missing; wanted: the region to deploy to, for example eu-central-1")


def lay_out(stage: str, task: Path) -> tuple[Template, dict[str, str]]:
    """Lay out the functions' files as Lambda does, not compiled.

    Args:
        task: folder to create.

    Returns:
        The template that Chalice wrote, and the name of each library to the SHA-256 of its wheel.

    Raises:
        PackageError: Chalice failed, or a library is not what the lock names.
    """
    with tempfile.TemporaryDirectory() as folder:
        packaged = chalice_package(stage, Path(folder))
        [architecture] = packaged["Resources"]["APIHandler"]["Properties"]["Architectures"]
        wheels = archive.install(task, architecture)
        archive.unpack(Path(folder, "deployment.zip"), task)
    return packaged, wheels


def chalice_package(stage: str, folder: Path) -> Template:
    """Run Chalice, which writes its archive without libraries into a folder; return the template that it writes."""
    project = folder / "project"
    settings = project / ".chalice"
    settings.mkdir(parents=True)
    # Without requirements.txt: `archive.py` installs them.
    for name in ("app.py", "chalicelib"):
        (project / name).symlink_to(ROOT / name)
    shutil.copy(CONFIG, settings)
    policies.write(settings / "policies")
    command = [str(Path(sys.executable).with_name("chalice")), "--project-dir", str(project), "package"]
    command += ["--stage", stage, "--merge-template", str(template.RESOURCES), str(folder)]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if run.returncode:
        lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
        raise PackageError(f"chalice package: {' '.join(lines[-3:])}")
    written: Template = yaml.safe_load((folder / "sam.yaml").read_text("utf-8"))
    return written


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
