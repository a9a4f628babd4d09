"""Lets AWS's own SAM translator read templates: `python -m deploy.checks.transform TEMPLATE…`.

CloudFormation does the same with a template before it looks at any resource. Exit code 1 where it would refuse one.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

# The archive lies beside the template until it is uploaded; the translator wants to see where it will be.
_UPLOADED = "s3://bucket/packages/deployment.zip"


class _NoManagedPolicies:
    """Roles are written out in our templates, so no policy has to be looked up by its name."""

    def load(self) -> dict[str, str]:
        return {}


def translated(path: Path) -> dict[str, Any]:
    """The template as CloudFormation gets it, in resources of its own.

    Raises:
        InvalidDocumentException: the translator refuses it.
    """
    template = yaml_parse(path.read_text("utf-8"))
    for resource in template.get("Resources", {}).values():
        if "CodeUri" in resource.get("Properties", {}):
            resource["Properties"]["CodeUri"] = _UPLOADED
    made: dict[str, Any] = transform(template, {}, _NoManagedPolicies())
    return made


def main(paths: list[str]) -> int:
    if not paths:
        print("transform: name at least one template", file=sys.stderr)
        return 2
    # It derives names of managed policies from the region, and asks boto3 for it.
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
    logging.disable(logging.WARNING)
    refused = 0
    for path in paths:
        try:
            resources = translated(Path(path))["Resources"]
        except InvalidDocumentException as error:
            refused += 1
            print(f"{path}: the SAM translator refuses it", file=sys.stderr)
            for cause in error.causes:
                print(f"  {cause.message}", file=sys.stderr)
        except (OSError, AttributeError, TypeError, ValueError) as error:
            refused += 1
            print(f"{path}: no template ({error})", file=sys.stderr)
        else:
            print(f"{path}: the SAM translator makes {len(resources)} resources of it")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
