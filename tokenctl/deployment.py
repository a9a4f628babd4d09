"""One stage as an operator reaches it: its settings, its stores, its AWS clients."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from chalicelib.settings import Settings, SettingsError
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.token_store import TokenStore
from tokenctl.trouble import advice

ROOT: Final = Path(__file__).resolve().parent.parent
CONFIG: Final = ROOT / ".chalice" / "config.json"
LOCAL_STAGE: Final = "local"
LOCAL_ENV: Final = ROOT / ".local" / "local.env"
DEMO_ENV: Final = ROOT / ".local" / "demo.env"
LOCAL_SPLUNK: Final = ROOT / ".local" / "splunk"
"""What the local service keeps of what Splunk did not take."""
LOCAL_LOG: Final = ROOT / ".local" / "service.log"
"""What the local service wrote; behind it stands `service.log.1`, the part before."""


class DeploymentError(Exception):
    """A stage can't be reached; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One stage and its settings."""

    settings: Settings

    @property
    def stage(self) -> str:
        return self.settings.stage

    def token_store(self) -> TokenStore:
        return TokenStore(self.settings.token_table)

    def client_store(self) -> ClientStore:
        return ClientStore(self.settings.client_table)

    def aws(self, service: str, *, retries: int = 1) -> Any:
        """A boto3 client; the region and credentials are found in the usual places."""
        import boto3  # noqa: PLC0415 - costs a third of a second, which most commands need not pay
        from botocore.config import Config  # noqa: PLC0415

        return boto3.client(
            service, config=Config(connect_timeout=3, read_timeout=10, retries={"max_attempts": retries})
        )

    def with_deployed_splunk(self) -> Deployment:
        """This stage with the Splunk that its log forwarder delivers to.

        What this process's own settings say of a Splunk comes first. A stage without that function stays as it is.

        Raises:
            DeploymentError: the function's settings can't be read, or not used.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        if self.stage == LOCAL_STAGE or self.settings.splunk.hec_url:
            return self
        function = f"tokenservice-{self.stage}-forward_logs"
        try:
            found = self.aws("lambda").get_function_configuration(FunctionName=function)
            settings = Settings.from_environ(found.get("Environment", {}).get("Variables", {}))
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown error")
            if code == "ResourceNotFoundException":
                return self
            raise DeploymentError(
                f"the settings of function {function} can't be read: {code}; {advice(error, self.stage)}"
            ) from None
        except BotoCoreError as error:
            raise DeploymentError(
                f"the settings of function {function} can't be read: {error} {advice(error, self.stage)}"
            ) from None
        except SettingsError as error:
            raise DeploymentError(f"function {function}: {error}") from None
        return replace(self, settings=self.settings._replace(splunk=settings.splunk))


def open_stage(stage: str) -> Deployment:
    """Read a stage's settings, and point this process at the engine of `make run` where the stage is `local`.

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
    """Forget any AWS account that the environment or the user's files name, so that no call can reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def stages() -> list[str]:
    """The stages of `.chalice/config.json`; none where it can't be read."""
    try:
        return list(_config()["stages"])
    except (DeploymentError, KeyError, TypeError):
        return []


def in_checkout() -> bool:
    """Whether this runs in a checkout; False where `pip install` brought tokenctl alone."""
    return CONFIG.parent.is_dir()


def stage_environ(stage: str) -> dict[str, str]:
    """The environment variables that `.chalice/config.json` gives a stage; without a checkout, its name alone.

    Raises:
        DeploymentError: the file can't be read, or does not know the stage.
    """
    if not in_checkout():
        return {"STAGE": stage}
    config = _config()
    configured = config.get("stages") if isinstance(config, dict) else None
    if not isinstance(configured, dict) or not isinstance(configured.get(stage), dict):
        known = ", ".join(configured) if isinstance(configured, dict) else "none"
        raise DeploymentError(f".chalice/config.json has no stage {stage!r}; it has: {known}")
    variables: dict[str, str] = {}
    for level in (config, configured[stage]):
        given = level.get("environment_variables", {})
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            raise DeploymentError(".chalice/config.json: environment_variables must be an object of strings")
        variables.update(given)
    return variables


def private(path: str, flags: int) -> int:
    """An opener for files that nobody but their owner may read."""
    return os.open(path, flags, 0o600)


def _config() -> Any:
    try:
        return json.loads(CONFIG.read_text("utf-8"))
    except OSError as error:
        raise DeploymentError(f".chalice/config.json: {error.strerror}") from None
    except ValueError as error:
        raise DeploymentError(f".chalice/config.json is not JSON: {error}") from None


def read_env_file(path: Path) -> Mapping[str, str]:
    """Read `NAME=value` lines; empty where there is no such file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
