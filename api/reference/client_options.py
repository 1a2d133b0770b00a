"""Writes the Python client's generation options (`clients/python/slm_client/options.py`).

python -m api.reference.client_options
"""

from __future__ import annotations

from api.reference.operation import RequestBody, Schema
from api.reference.schema_writer import component_schemas
from api.schemas.generation import GenerateBody
from common.settings import ROOT

FILE = ROOT / "clients" / "python" / "slm_client" / "options.py"
SET_BY_THE_CLIENT = {"prompt", "async"}  # from the arguments and the name of the method

_TYPES = {"integer": "int", "number": "float", "boolean": "bool", "string": "str"}
_HEAD = '''\
"""The options of a generation. docs/api.md of the server explains each one.

Written by `python -m api.reference.client_options`.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class GenerateOptions(TypedDict, total=False):
    """All options can be omitted. Times are in seconds; `logit_bias` maps token ids to biases."""

'''


def written() -> str:
    """Return the text of the file."""
    schema = component_schemas([RequestBody(GenerateBody, {})], [])[GenerateBody.__name__]
    fields = schema["properties"].items()
    lines = [f"    {name}: {_python(one)}\n" for name, one in fields if name not in SET_BY_THE_CLIENT]
    return _HEAD + "".join(lines)


def _python(schema: Schema) -> str:
    match schema:
        case {"$ref": _}:
            return "dict[str, Any]"
        case {"enum": values}:
            quoted = ", ".join(f'"{value}"' for value in values)
            return f"Literal[{quoted}]"
        case {"anyOf": others}:
            return " | ".join(map(_python, others))
        case {"type": "array", "items": item}:
            return f"list[{_python(item)}]"
        case {"type": "object", "patternProperties": by_pattern}:
            (value,) = by_pattern.values()
            return f"dict[str, {_python(value)}]"
    return _TYPES[schema["type"]]


if __name__ == "__main__":
    FILE.write_text(written())
