"""A template as CloudFormation sees it: expanded by AWS's own SAM translator, and its conditions decided."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from unittest import mock

from samtranslator.translator.transform import transform

from deploy.resources import Template

_UPLOADED = "s3://bucket/packages/deployment.zip"
_NOTHING = object()


class _NoManagedPolicies:
    """Roles are written out in our templates, so no policy has to be looked up by its name."""

    def load(self) -> dict[str, str]:
        return {}


def expanded(template: Template, parameters: Mapping[str, str], archive: str = _UPLOADED) -> Template:
    """Expand a template as CloudFormation does before it reads any resource; cfn-lint does not.

    Args:
        template: it is changed.
        parameters: values of its parameters.
        archive: address of the uploaded archive.

    Raises:
        InvalidDocumentException: the translator rejects it.
    """
    for resource in template["Resources"].values():
        if "CodeUri" in resource.get("Properties", {}):
            resource["Properties"]["CodeUri"] = archive
    # The translator reads the partition from the region.
    with mock.patch.dict(os.environ, {"AWS_DEFAULT_REGION": "eu-central-1"}):
        return dict(transform(template, dict(parameters), _NoManagedPolicies()))


def expansion(template: Template, archive: str = _UPLOADED, **parameters: str) -> Template:
    """Expand a template with the values of some parameters; the others have their defaults.

    In the result, conditions, `Fn::If`, `Fn::FindInMap` and references to parameters are gone. What names a resource or
    a pseudo parameter is left.
    """
    defaults = {name: str(each["Default"]) for name, each in template["Parameters"].items() if "Default" in each}
    assert parameters.keys() <= template["Parameters"].keys()
    values = defaults | parameters
    whole = expanded(template, values, archive)
    decided = _Decisions(values, whole.get("Conditions", {}), whole.get("Mappings", {}))
    parts = {
        part: {
            name: decided.of(each) for name, each in whole.get(part, {}).items() if decided.holds(each.get("Condition"))
        }
        for part in ("Resources", "Outputs")
    }
    return {**whole, **parts}


class _Decisions:
    def __init__(self, values: Mapping[str, str], conditions: Mapping[str, Any], mappings: Mapping[str, Any]) -> None:
        self._values = values
        self._conditions = conditions
        self._mappings = mappings

    def holds(self, name: str | None) -> bool:
        return name is None or self._is_true(self._conditions[name])

    def _is_true(self, condition: Any) -> bool:
        [(kind, operands)] = condition.items()
        match kind:
            case "Condition":
                return self.holds(operands)
            case "Fn::Not":
                return not self._is_true(operands[0])
            case "Fn::And":
                return all(map(self._is_true, operands))
            case "Fn::Or":
                return any(map(self._is_true, operands))
            case "Fn::Equals":
                left, right = (str(self.of(operand)) for operand in operands)
                return left == right
        raise ValueError(f"no condition function: {kind}")

    def of(self, value: Any) -> Any:
        match value:
            case list():
                return [member for member in map(self.of, value) if member is not _NOTHING]
            case dict():
                return self._of_mapping(value)
        return value

    def _of_mapping(self, value: dict[str, Any]) -> Any:
        match value:
            case {"Fn::If": [name, if_true, if_false]}:
                return self.of(if_true if self.holds(name) else if_false)
            case {"Ref": str(name)} if len(value) == 1:
                return _NOTHING if name == "AWS::NoValue" else self._values.get(name, value)
            case {"Fn::FindInMap": path}:
                mapping, first, second = (self.of(key) for key in path)
                return self._mappings[mapping][first][second]
            case {"Fn::Split": [separator, text]} if isinstance(split := self.of(text), str):
                return split.split(separator)
        members = {name: self.of(member) for name, member in value.items()}
        return {name: member for name, member in members.items() if member is not _NOTHING}
