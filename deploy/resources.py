"""Reads the templates in this folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chalice.package import TemplateDeepMerger, YAMLTemplateSerializer

FOLDER: Final = Path(__file__).parent

Template = dict[str, Any]


def read_template(path: Path) -> Template:
    """Read a CloudFormation template; `!Sub x` becomes `{"Fn::Sub": "x"}`."""
    return dict(YAMLTemplateSerializer().load_template(path.read_text("utf-8"), path.name))


def overlaid(template: Template, name: str) -> Template:
    """Merge a file of templates, a stage's or `options`, over a template, as Chalice merges."""
    overlay = FOLDER / f"{name}.yaml"
    return dict(TemplateDeepMerger().merge(read_template(overlay), template)) if overlay.exists() else template


def stages() -> list[str]:
    """Return the stages that can be deployed."""
    return list(read_template(FOLDER / "resources.yaml")["Mappings"]["Stages"])


def stage_template(stage: str) -> Template:
    """Return the resources of a stage, without what Chalice adds."""
    return overlaid(read_template(FOLDER / "resources.yaml"), stage)


def of_type(template: Template, kind: str) -> dict[str, Any]:
    """Return the properties of all resources of a type, by their logical ids."""
    resources = template["Resources"].items()
    return {name: resource["Properties"] for name, resource in resources if resource.get("Type") == kind}


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """Replace `!Sub`, `!Ref` and `!GetAtt` by their text, and a condition by what holds if it is met.

    Args:
        values: what variables and attributes mean, as in `{"Stage": "dev", "ClientTable.Arn": "arn:…"}`.

    Raises:
        KeyError: one of them is not there.
    """
    match value:
        case list():
            return [filled(member, values) for member in value]
        case {"Fn::If": [_, chosen, _]}:
            return filled(chosen, values)
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([^}]+)\}", lambda name: values[name[1]], text)
        case {"Ref": name} | {"Fn::GetAtt": name}:
            return values[name if isinstance(name, str) else ".".join(name)]
        case dict():
            return {name: filled(member, values) for name, member in value.items()}
    return value
