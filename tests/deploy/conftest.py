"""What tests of deploy files may ask for: the public schemas."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from deploy.parts import tool

Validate = Callable[[str, Any], list[str]]


@pytest.fixture(scope="session")
def validate() -> Validate:
    """Lend a check of a value against a public schema, by its name; gives what is wrong."""
    schemas = tool("deploy_schemas")

    def check(name: str, value: Any) -> list[str]:
        path = schemas.obtain(name, folder=schemas.given_folder())
        schema = json.loads(path.read_text(encoding="utf-8"))
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft7Validator)
        return [f"{error.json_path}: {error.message}" for error in kind(schema).iter_errors(value)]

    return check
