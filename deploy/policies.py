"""Writes the functions' IAM policies as the files that Chalice reads: `python -m deploy.policies`.

The source is the roles in `resources.yaml`. Chalice has no variables in policy files, so each stage gets its own files
with its names filled in: `.chalice/policies/<stage>/<function>.json`, where `.chalice/config.json` looks for them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from deploy.resources import FOLDER, Template, filled, read_template
from tokenctl.deployment import CONFIG

POLICIES: Final = CONFIG.parent / "policies"
# `chalice deploy` fills in nothing: any account and region.
_ANY: Final = {"AWS::AccountId": "*", "AWS::Region": "*", "AWS::Partition": "aws"}


def policies(stage: str) -> dict[str, Any]:
    """Return the policy document of each function of a stage, by Chalice's names of functions."""
    return _policies(read_template(FOLDER / "resources.yaml"), stage)


def write(folder: Path = POLICIES) -> None:
    template = read_template(FOLDER / "resources.yaml")
    for stage in template["Mappings"]["Stages"]:
        for function, document in _policies(template, stage).items():
            path, text = folder / stage / f"{function}.json", json.dumps(document, indent=2) + "\n"
            path.parent.mkdir(parents=True, exist_ok=True)
            # A `chalice package` that runs at the same time must not read half a file.
            if not path.exists() or path.read_text("utf-8") != text:
                path.write_text(text, "utf-8")


def _policies(template: Template, stage: str) -> dict[str, Any]:
    roles = (resource["Properties"].get("Policies", ()) for resource in template["Resources"].values())
    documents = {policy["PolicyName"]: policy["PolicyDocument"] for role in roles for policy in role}
    # What a parameter of the template adds, `chalice deploy` does not have.
    always = {
        function: {**document, "Statement": [each for each in document["Statement"] if "Fn::If" not in each]}
        for function, document in documents.items()
    }
    return {function: filled(document, {**_ANY, "Stage": stage}) for function, document in always.items()}


if __name__ == "__main__":
    write()
