"""The JSON Schema of `keyturn.toml`, drawn from the tables that the loader checks against."""

from __future__ import annotations

from typing import TypeAlias

from keyturn.manifest.keys import manifest_table
from keyturn.manifest.shapes import Choice, Flag, ListOf, MapOf, Number, Shape, Table, Text

__all__ = ["json_schema"]

Schema: TypeAlias = dict[str, object]


def json_schema() -> Schema:
    """
    Return the JSON Schema (draft 2020-12) for editors.

    It knows every key, form and choice; what one part of a manifest demands of
    another (a secret that exists, no cycles) only the loader knows.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "keyturn.toml",
        "description": "Which secrets a project has. It holds no value, ever.",
        **_schema(manifest_table()),
    }


def _schema(shape: Shape) -> Schema:  # noqa: PLR0911 - one return for each form
    match shape:
        case Text():
            return _text(shape)
        case Number() if shape.choices:
            return {"enum": list(shape.choices)}
        case Number():
            return {"type": "integer", "minimum": shape.low, "maximum": shape.high}
        case Flag():
            return {"type": "boolean"}
        case ListOf():
            return {
                "type": "array",
                "items": _schema(shape.item),
                "minItems": shape.low,
                "maxItems": shape.high,
                "uniqueItems": shape.unique,
            }
        case MapOf():
            return {
                "type": "object",
                "propertyNames": _schema(shape.key),
                "additionalProperties": _schema(shape.item),
                "minProperties": shape.low,
                "maxProperties": shape.high,
            }
        case Table():
            return _table(shape)
        case Choice():
            return {"anyOf": [_schema(option) for option in shape.options]}


def _text(shape: Text) -> Schema:
    if shape.choices:
        return {"enum": list(shape.choices)}
    schema: Schema = {"type": "string", "maxLength": shape.max_length}
    if not shape.empty:
        schema["minLength"] = 1
    if shape.pattern is not None:
        # An empty text passes by the shape's own leave, not by its pattern.
        whole = f"^(?:{shape.pattern})$"
        schema["pattern"] = f"^$|{whole}" if shape.empty else whole
    return schema


def _table(table: Table) -> Schema:
    properties: Schema = {}
    for key in table.keys:
        entry = {"description": key.doc, **_schema(key.shape)}
        if key.default is not None:
            entry["default"] = key.default
        properties[key.name] = entry
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "required": [key.name for key in table.keys if key.required],
    }
    if table.one_of:
        schema["oneOf"] = [{"required": [name]} for name in table.one_of]
    if table.together:
        needs: dict[str, list[str]] = {}
        for name, other in table.together:
            needs.setdefault(name, []).append(other)
        schema["dependentRequired"] = needs
    return schema
