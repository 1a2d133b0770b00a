"""Checks the JSON schemas of fixed prompts, and answers against them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from training.errors import RecipeError


def check_schema(prompt: str, schema: Mapping[str, Any]) -> None:
    """Raise `RecipeError` if the schema is not valid, or refers to something outside of itself."""
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
        _validate(schema, None)
    except SchemaError as err:
        raise RecipeError("prompts", f"the json_schema of {prompt[:60]!r} is not valid: {err.message}") from err
    except Unresolvable as err:
        raise RecipeError("prompts", f"the json_schema of {prompt[:60]!r} refers to what it does not have") from err
    except ValidationError:
        return


def satisfies(schema: Mapping[str, Any], answer: str) -> bool:
    """Return whether an answer is JSON that satisfies the schema."""
    try:
        _validate(schema, json.loads(answer))
    except (ValueError, RecursionError, ValidationError, Unresolvable):
        return False
    return True


def _validate(schema: Mapping[str, Any], value: object) -> None:
    """Validate a value; nothing is fetched that the schema refers to."""
    kind = validator_for(schema, default=Draft202012Validator)
    kind(schema, registry=Registry()).validate(value)
