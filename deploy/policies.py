"""Writes the functions' IAM policies as the files that Chalice reads: `python -m deploy.policies`.

The source is the roles in `resources.yaml`. Chalice has no variables in policy files, so each stage gets its own files
with its names filled in: `.chalice/policies/<stage>/<function>.json`, where `.chalice/config.json` looks for them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from deploy.resources import FOLDER, filled, read_template, stages
from tokenctl.deployment import CONFIG

POLICIES: Final = CONFIG.parent / "policies"
# `chalice deploy` fills in nothing: any account and region.
_ANY: Final = {"AWS::AccountId": "*", "AWS::Region": "*", "AWS::Partition": "aws"}


def policies(stage: str) -> dict[str, Any]:
    """Return the policy document of each function of a stage, by Chalice's names of functions."""
    resources = read_template(FOLDER / "resources.yaml")["Resources"].values()
    found = [policy for resource in resources for policy in resource["Properties"].get("Policies", ())]
    for policy in found:
        # What a parameter of the template adds, `chalice deploy` does not have.
        statements = policy["PolicyDocument"]["Statement"]
        policy["PolicyDocument"]["Statement"] = [each for each in statements if "Fn::If" not in each]
    return {policy["PolicyName"]: filled(policy["PolicyDocument"], {**_ANY, "Stage": stage}) for policy in found}


def write(folder: Path = POLICIES) -> None:
    for stage in stages():
        for function, document in policies(stage).items():
            path, text = folder / stage / f"{function}.json", json.dumps(document, indent=2) + "\n"
            path.parent.mkdir(parents=True, exist_ok=True)
            # A `chalice package` that runs at the same time must not read half a file.
            if not path.exists() or path.read_text("utf-8") != text:
                path.write_text(text, "utf-8")


if __name__ == "__main__":
    write()
