"""`make vendor`: templates of what `chalice deploy` does not make, `out/logs-<stage>.yaml`.

Log groups, failure bucket and subscriptions, cut out of `resources.yaml`. What needs a function waits for the parameter
`SplunkHecUrl`, so the same template is deployed before the functions and after them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from deploy.resources import Template, stage_template, stages
from deploy.template import to_yaml

_KINDS: Final = (
    *("AWS::Logs::LogGroup", "AWS::Logs::SubscriptionFilter", "AWS::S3::Bucket", "AWS::S3::BucketPolicy"),
    *("AWS::Lambda::Permission", "AWS::Lambda::EventInvokeConfig"),
)
_ARN: Final = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:"


def logs_template(stage: str) -> Template:
    """Return the template of a stage's log groups, failure bucket and subscriptions."""
    whole = stage_template(stage)
    resources = whole["Resources"]
    # A function has no type there: Chalice writes it.
    names = {key: each["Properties"].get("FunctionName") for key, each in resources.items() if "Type" not in each}
    parts = {key: _by_name(each, names) for key, each in resources.items() if each.get("Type") in _KINDS}
    for part in parts.values():
        if part["Type"] == "AWS::Lambda::EventInvokeConfig":
            part["Condition"] = "Forwards"
    return {
        "Parameters": {
            "Stage": {"Type": "String", "Default": stage, "AllowedValues": [stage]},
            "SplunkHecUrl": whole["Parameters"]["SplunkHecUrl"],
        },
        "Mappings": whole["Mappings"],
        "Conditions": {"Forwards": whole["Conditions"]["Forwards"]},
        "Resources": parts,
    }


def write(folder: Path) -> None:
    """Write the template of each stage as `logs-<stage>.yaml`."""
    folder.mkdir(exist_ok=True)
    for stage in stages():
        (folder / f"logs-{stage}.yaml").write_text(to_yaml(logs_template(stage)), "utf-8")


def _by_name(value: Any, names: dict[str, Any]) -> Any:
    """Replace references to functions, which are in no template here, by their names."""
    match value:
        case {"Ref": str(key)} if key in names:
            return names[key]
        case {"Fn::GetAtt": [str(key), "Arn"]} if key in names:
            return {"Fn::Sub": _ARN + names[key]["Fn::Sub"]}
        case dict():
            return {key: _by_name(member, names) for key, member in value.items()}
        case list():
            return [_by_name(member, names) for member in value]
    return value
