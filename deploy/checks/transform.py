"""Runs AWS's own SAM translator on templates: `python -m deploy.checks.transform TEMPLATE…`.

CloudFormation does the same with a template before it reads any resource; cfn-lint does not. Exit code 1 if the
translator rejects one.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

# The archive lies beside the template until it is uploaded; the translator expects the address that it then has.
UPLOADED: Final = "s3://bucket/packages/deployment.zip"


class _NoManagedPolicies:
    """Roles are written out in our templates, so no policy has to be looked up by its name."""

    def load(self) -> dict[str, str]:
        return {}


def expanded(
    template: dict[str, Any], parameters: Mapping[str, str] | None = None, archive: str = UPLOADED
) -> dict[str, Any]:
    """Return a template as CloudFormation expands it.

    Args:
        template: a SAM template; it is changed.
        parameters: values of its parameters.
        archive: address of the uploaded archive.

    Raises:
        InvalidDocumentException: the translator rejects it.
    """
    for resource in template["Resources"].values():
        if "CodeUri" in resource.get("Properties", {}):
            resource["Properties"]["CodeUri"] = archive
    return dict(transform(template, dict(parameters or {}), _NoManagedPolicies()))


def errors(path: Path) -> list[str]:
    try:
        expanded(yaml_parse(path.read_text("utf-8")))
    except InvalidDocumentException as error:
        return [cause.message for cause in error.causes]
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        return [f"not a template: {error}"]
    return []


def main(paths: list[str]) -> int:
    # The translator derives names of managed policies from the region, which boto3 has to know.
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
    logging.disable(logging.WARNING)
    rejected = [f"{path}: {error}" for path in paths for error in errors(Path(path))]
    print("\n".join(rejected) or f"the SAM translator accepts {', '.join(paths)}", file=sys.stderr)
    return 1 if rejected or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
