"""Custom resources against the schemas of their definitions, as a strict API server checks them.

The whole control plane checks them too, in the tests of the engine; this takes a moment only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

DEFINITIONS = Path(__file__).resolve().parents[2] / ".tools" / "crds"


class _Loader(yaml.CSafeLoader):
    """Takes a lone `=`, an operator in these files, for text; YAML 1.1 gives it a tag."""


_Loader.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)


@functools.cache
def schemas() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the schemas by (apiVersion, kind); unknown fields are refused by them."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(DEFINITIONS.rglob("*.yaml")):
        for definition in yaml.load_all(path.read_text(), Loader=_Loader):
            if definition is None or definition.get("kind") != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            for version in spec["versions"]:
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[key] = _strict(version["schema"]["openAPIV3Schema"])
    if not found:
        pytest.fail(f"{DEFINITIONS} has no definitions: run `make test-tools` first")
    return found


def problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the schema of a custom resource finds wrong with it."""
    schema = schemas()[document["apiVersion"], document["kind"]]
    # Of the metadata the definition says only that it is an object.
    content = {key: value for key, value in document.items() if key != "metadata"}
    for error in jsonschema.Draft4Validator(schema).iter_errors(content):
        yield f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message}"


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        kept = {key: value for key, value in schema.items() if key not in ("type", "anyOf")}
        return {**kept, "type": ["integer", "string"]}
    strict = {key: _strict(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict
