"""Checks our IAM policies against AWS's data: `python -m deploy.checks.grants TEMPLATE…`.

cfn-lint has this data: the actions of each service (W3037), the resources of each action (I3510). But it passes over
actions in SAM templates, and over resources that hold a variable. So all policies are copied into one plain template
with the variables filled in. Exit code 1 if an action or a resource is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cfnlint.api import ManualArgs, lint

from deploy.policies import policies
from deploy.resources import filled, read_template, stages

Policy = dict[str, Any]

_REGION: Final = "eu-central-1"
_HERE: Final = f"{_REGION}:111122223333"
_VALUES: Final = {
    "AWS::Partition": "aws",
    "AWS::Region": _REGION,
    "AWS::AccountId": "111122223333",
    "Stage": "dev",
    **dict.fromkeys(("HandBucket", "PipelineAccountId", "ProdAccountId", "StageBoundary"), "x"),
    **dict.fromkeys(("ArtifactKeyArn", "KeyArn"), f"arn:aws:kms:{_HERE}:key/k"),
    **dict.fromkeys(("Build.Arn", "Smoke.Arn"), f"arn:aws:codebuild:{_HERE}:project/p"),
    **dict.fromkeys(("BuildLog.Arn", "SmokeLog.Arn"), f"arn:aws:logs:{_HERE}:log-group:g:*"),
    **dict.fromkeys(("BackupVaultArn", "ClientBackupVault.BackupVaultArn"), f"arn:aws:backup:{_HERE}:backup-vault:v"),
    "ApprovalTopicArn": f"arn:aws:sns:{_HERE}:t",
    "Artifacts.Arn": "arn:aws:s3:::b",
    "ClientTable.Arn": f"arn:aws:dynamodb:{_HERE}:table/t",
    "ConnectionArn": "*",  # one service under its old name and its new one
    "Deployer.Arn": "arn:aws:iam::111122223333:role/r",
}
# Of CreateChangeSet, the data lack a transform as a resource (CloudFormation user guide, "Control CloudFormation access
# with IAM"). Of CopyFromBackupVault, cfn-lint can't read the resource: a recovery point of any service.
_UNJUDGED: Final = ("'cloudformation:CreateChangeSet' requires", "'backup:CopyFromBackupVault' requires")


def found(template: dict[str, Any]) -> Iterator[tuple[str, Policy]]:
    """Yield the name and the document of each identity-based policy, with every condition met."""
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            yield name, filled(properties["PolicyDocument"], _VALUES)
        if resource["Type"] == "AWS::IAM::Role":
            for policy in properties.get("Policies", ()):
                yield f"{name}, {policy['PolicyName']}", filled(policy["PolicyDocument"], _VALUES)


def errors(documents: Mapping[str, Policy]) -> list[str]:
    """Return what is wrong in policies, each with the policy's name."""
    resources = {
        f"Policy{number}": {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": document}}
        for number, document in enumerate(documents.values())
    }
    config = ManualArgs(regions=[_REGION], include_checks=["I3510"], ignore_checks=["E", "I1", "I2", "W1", "W2"])
    names = list(documents)
    return [
        f"{names[int(str(match.path[1]).removeprefix('Policy'))]}: {match.rule.id} {match.message}"
        for match in lint(json.dumps({"Resources": resources}), config=config)
        if not any(each in match.message for each in _UNJUDGED)
    ]


def main(paths: list[str]) -> int:
    documents = {f"{path}: {name}": policy for path in paths for name, policy in found(read_template(Path(path)))}
    for stage in stages():
        documents |= {f".chalice/policies/{stage}/{name}.json": policy for name, policy in policies(stage).items()}
    wrong = errors(documents)
    print("\n".join(wrong) or f"{len(documents)} IAM policies grant known actions, on resources of their kind")
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
