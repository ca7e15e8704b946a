"""The configuration's JSON Schema (2020-12), for editors that complete keys and underline mistakes.

It follows the models, so that it cannot tell of a key that is not there. It is narrower than nothing that `load` takes;
what concerns two keys, files or the host is left to `load`.
"""

from __future__ import annotations

from typing import Any

from relay.config.kinds import REFERENCE
from relay.config.model import Root
from relay.config.providers import PROVIDERS
from relay.config.section import Section, keys_of

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TITLE = "relay.yaml, the configuration of relay"
_DEFS = "#/$defs/"
_PROVIDER = "Provider"
_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


def schema() -> dict[str, Any]:
    """The schema of the whole file, as plain data."""
    found = Root.model_json_schema(by_alias=True, ref_template=_DEFS + "{model}")
    properties, definitions = found["properties"], found["$defs"]
    properties["providers"] = _providers(properties["providers"]["description"])
    definitions[_PROVIDER] = _provider()
    for name, value in properties.items():
        if "$ref" in value or name in {"listen", "routes"}:  # a section with nothing below it is an empty one
            described = {"description": keys_of(Root)[name].description}
            properties[name] = {"anyOf": [_without_description(value), {"type": "null"}], **described}
    return {"$schema": _DIALECT, **_without_noise(found), "title": _TITLE}


def _without_noise(found: Any) -> Any:
    """Without titles, which repeat the keys, and defaults that cannot be written."""
    if isinstance(found, list):
        return [_without_noise(item) for item in found]
    if not isinstance(found, dict):
        return found
    shown = {name: _without_noise(value) for name, value in found.items()}
    if isinstance(shown.get("title"), str):
        del shown["title"]
    if shown.get("default", 0) in (None, "", [], {}):
        del shown["default"]
    return shown


def _providers(description: str) -> dict[str, Any]:
    """Providers by name: the type is the name's where no `type` says otherwise."""
    return {
        "type": "object",
        "description": description,
        "minProperties": 1,
        "propertyNames": {"pattern": _NAME},
        "properties": {name: _by_name(model) for name, model in PROVIDERS.items()},
        "additionalProperties": {"allOf": [{"type": "object", "required": ["type"]}, {"$ref": _DEFS + _PROVIDER}]},
    }


def _by_name(model: type[Section]) -> dict[str, Any]:
    own = {"$ref": _DEFS + model.__name__}
    found = {"if": {"type": "object", "required": ["type"]}, "then": {"$ref": _DEFS + _PROVIDER}, "else": own}
    if any(field.is_required() for field in keys_of(model).values()):
        return found
    return {"anyOf": [{"type": "null"}, found]}


def _provider() -> dict[str, Any]:
    """A provider with a `type` of its own."""
    types = {"anyOf": [{"enum": list(PROVIDERS)}, {"type": "string", "pattern": REFERENCE}]}
    return {
        "type": "object",
        "properties": {"type": types},
        "allOf": [
            {"if": {"required": ["type"], "properties": {"type": {"const": name}}}, "then": {"$ref": _DEFS + model.__name__}}
            for name, model in PROVIDERS.items()
        ],
    }


def _without_description(value: dict[str, Any]) -> dict[str, Any]:
    return {name: inner for name, inner in value.items() if name not in {"description", "default"}}
