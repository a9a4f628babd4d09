"""One stage: its settings, its stores, its AWS clients."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from chalicelib.settings import Settings, SettingsError
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.index_keys import read_secrets
from chalicelib.storage.token_store import TokenStore
from tokenctl.errors import DeploymentError, OwnErrors, aws_errors, unless

ROOT: Final = Path(__file__).resolve().parent.parent
CONFIG: Final = ROOT / ".chalice" / "config.json"
LOCAL_STAGE: Final = "local"
LOCAL_ENV: Final = ROOT / ".local" / "local.env"
DEMO_ENV: Final = ROOT / ".local" / "demo.env"
LOCAL_LOG: Final = ROOT / ".local" / "service.log"
"""The log of the local service; `service.log.1` is the part before."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One stage and its settings."""

    settings: Settings

    @property
    def stage(self) -> str:
        return self.settings.stage

    def token_store(self) -> TokenStore:
        return TokenStore(
            self.settings.token_table, index_secrets=self.index_secrets, seals=self.settings.seal_node_ids
        )

    def index_secrets(self) -> tuple[bytes, ...]:
        """Read the secrets of the index by node; none without a parameter."""
        parameter = self.settings.index_key_parameter
        return read_secrets(parameter, OwnErrors(self.aws("ssm"))) if parameter else ()

    def client_store(self) -> ClientStore:
        return ClientStore(self.settings.client_table)

    def aws(self, service: str, *, retries: int = 1) -> Any:
        """A boto3 client; the region and credentials are found in the usual places."""
        import boto3  # noqa: PLC0415 - costs a third of a second, which most commands need not pay
        from botocore.config import Config  # noqa: PLC0415 - most commands do without

        return boto3.client(
            service, config=Config(connect_timeout=3, read_timeout=10, retries={"max_attempts": retries})
        )

    def with_deployed_splunk(self) -> Deployment:
        """Return this stage with the Splunk settings of its deployed log forwarder.

        This process's own Splunk settings take precedence. A stage without that function is returned as it is.

        Raises:
            DeploymentError: the function's settings can't be read or are invalid.
        """
        if self.stage == LOCAL_STAGE or self.settings.splunk.hec_url:
            return self
        name = f"tokenservice-{self.stage}-forward_logs"
        with aws_errors(f"settings of function {name}"):
            call = self.aws("lambda").get_function_configuration
            function = unless("ResourceNotFoundException", call, FunctionName=name)
        if function is None:
            return self
        try:
            settings = Settings.from_environ(function.get("Environment", {}).get("Variables", {}))
        except SettingsError as error:
            raise DeploymentError(f"function {name}: {error}") from None
        return replace(self, settings=self.settings._replace(splunk=settings.splunk))


def open_stage(stage: str) -> Deployment:
    """Read a stage's settings. For `local`, also point this process at the engine of `make run`.

    Raises:
        DeploymentError: there is no such stage, or its settings are wrong.
    """
    environ = {**os.environ, **stage_environ(stage)}
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise DeploymentError(f"AWS_ENDPOINT_URL: {endpoint!r} is not an http(s) URL")
    if stage == LOCAL_STAGE and "AWS_ENDPOINT_URL" not in os.environ:
        engine = read_env_file(LOCAL_ENV)
        if not in_checkout():
            raise DeploymentError("there is no checkout here, so no local stage: name a stage with --stage")
        if not engine:
            raise DeploymentError(
                "nothing runs locally: start 'make run' or 'make engine', or name a stage with --stage"
            )
        leave_aws()
        os.environ.update(engine)
    try:
        return Deployment(Settings.from_environ(environ))
    except SettingsError as error:
        raise DeploymentError(f"stage {stage}: {error}") from None


def leave_aws() -> None:
    """Clear the AWS account of the environment and the user's files, so that no call can reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def stages() -> list[str]:
    """Return the stages of `.chalice/config.json`; none if it can't be read."""
    try:
        return list(_config().stages)
    except DeploymentError:
        return []


def in_checkout() -> bool:
    """Return whether this runs in a checkout, not as an installed wheel."""
    return CONFIG.parent.is_dir()


def stage_environ(stage: str) -> dict[str, str]:
    """Return the environment variables of a stage in `.chalice/config.json`; without a checkout, `STAGE` alone.

    Raises:
        DeploymentError: the file can't be read, or has no such stage.
    """
    if not in_checkout():
        return {"STAGE": stage}
    config = _config()
    if stage not in config.stages:
        raise DeploymentError(f".chalice/config.json has no stage {stage!r}; it has: {', '.join(config.stages)}")
    return {**config.environment_variables, **config.stages[stage].environment_variables}


def stage_setting(stage: str, name: str) -> Any:
    """Return another setting of a stage in `.chalice/config.json`, or else of the whole file, or else None."""
    config = json.loads(CONFIG.read_bytes())
    return config["stages"][stage].get(name, config.get(name))


def private(path: str, flags: int) -> int:
    """Open a file that only its owner may read: an opener for `open()`."""
    return os.open(path, flags, 0o600)


class _Stage(msgspec.Struct, kw_only=True):
    environment_variables: dict[str, str] = {}


class _Config(_Stage, kw_only=True):
    stages: dict[str, _Stage]


def _config() -> _Config:
    try:
        return msgspec.json.decode(CONFIG.read_bytes(), type=_Config)
    except OSError as error:
        raise DeploymentError(f".chalice/config.json: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DeploymentError(f".chalice/config.json: {error}") from None


def read_env_file(path: Path) -> Mapping[str, str]:
    """Read `NAME=value` lines; empty if there is no such file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
