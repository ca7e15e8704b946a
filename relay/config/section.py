"""What every section of the configuration is made of: known keys, each with a default and one sentence.

The sentences are the reference: relay.yaml.example and docs/config.md carry the same ones. Defaults are written as an
admin would write them.
"""

from __future__ import annotations

from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A map of known keys. Frozen, and valid by itself; what concerns two keys is judged in relay/config/checks.py."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def setting(default: Any, *, description: str, alias: str | None = None, examples: list[Any] | None = None) -> Any:
    """A key that may be left out. Its default is written as in the file and read like a value from it; None, "" and ()
    have no written form."""
    return Field(default, description=description, alias=alias, examples=examples, validate_default=default not in (None, "", ()))


def keys_of(section: type[Section]) -> dict[str, FieldInfo]:
    """Key as written in the file -> its field."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def section_below(section: type[Section], key: str) -> type[Section] | None:
    """The section that stands below a key, also where a word or nothing may stand in its place; None where there is none."""
    field = keys_of(section).get(key)
    found = field.annotation if field else None
    kinds = get_args(found) if get_origin(found) in (Union, UnionType) else (found,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def example_of(field: FieldInfo) -> Any:
    """What a key may look like; None where no example is given."""
    return (field.examples or [None])[0]
