"""Amazon SES's own model of its API, as botocore has it, held against a request: what `faults` finds, Amazon would refuse.

Beside botocore's ParamValidator, which looks at names, types and what is required, this looks at the model's lengths, patterns and
enumerations; and at what only the texts of the model and the guide say (2026-11): exactly one form of content, at most 50
recipients, the names and lengths of header fields, the alphabet of tags, base64 that is whole, addresses in ASCII.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any

from botocore.session import Session  # type: ignore[import-untyped] # it has no types
from botocore.validate import ParamValidator  # type: ignore[import-untyped] # it has no types

SHAPE = Session().get_service_model("sesv2").operation_model("SendEmail").input_shape
_DISALLOWED = frozenset(
    ("bcc", "cc", "content-disposition", "content-type", "date", "from", "message-id", "mime-version", "reply-to", "return-path", "subject")
) | {"to"}
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def faults(body: bytes) -> list[str]:
    """What Amazon's model has against the JSON of a SendEmail request."""
    found = json.loads(body)
    opened: list[str] = []
    params = _opened(SHAPE, found, opened)
    report = ParamValidator().validate(params, SHAPE)
    told = [report.generate_report()] if report.has_errors() else []
    return [*opened, *told, *_walk(SHAPE, params, "request"), *_rules(params)]


def _opened(shape: Any, value: Any, wrong: list[str]) -> Any:
    """The value with octets where JSON has base64."""
    if shape.type_name == "structure" and isinstance(value, dict):
        return {name: _opened(shape.members[name], one, wrong) if name in shape.members else one for name, one in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [_opened(shape.member, one, wrong) for one in value]
    if shape.type_name == "blob":
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            wrong.append(f"{shape.name}: {error}")
            return b""
    return value


def _walk(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, one in value.items():
            if name in shape.members:  # the others ParamValidator names
                yield from _walk(shape.members[name], one, f"{path}.{name}")
    elif shape.type_name == "list":
        for number, one in enumerate(value):
            yield from _walk(shape.member, one, f"{path}[{number}]")
        yield from _length(shape, value, path)
    elif shape.type_name == "string":
        yield from _length(shape, value, path)
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, value):
            yield f"{path}: {value[:40]!r} is not {pattern}"
        if shape.enum and value not in shape.enum:
            yield f"{path}: {value!r} is none of {shape.enum}"


def _length(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", len(value)):
        yield f"{path}: length {len(value)}"


def _rules(params: dict[str, Any]) -> Iterator[str]:
    content = params["Content"]
    if len(content) != 1:
        yield f"Content has {sorted(content)}"
    destination = params.get("Destination", {})
    people = [one for name in ("ToAddresses", "CcAddresses", "BccAddresses") for one in destination.get(name, [])]
    if not 1 <= len(people) <= 50:
        yield f"{len(people)} recipients"
    texts = [*people, *params.get("ReplyToAddresses", []), params.get("FromEmailAddress", "")]
    yield from (f"{text!r} is not ASCII" for text in texts if not text.isascii() or not text.isprintable())
    if "Raw" not in content and not params.get("FromEmailAddress"):
        yield "no FromEmailAddress"
    for tag in params.get("EmailTags", []):
        if not (_TAG.fullmatch(tag["Name"]) and _TAG.fullmatch(tag["Value"])):
            yield f"tag {tag}"
    names = [params.get("ConfigurationSetName"), params.get("TenantName"), *params.get("ListManagementOptions", {}).values()]
    yield from (f"name {name!r}" for name in names if name is not None and not _NAME.fullmatch(name))
    for form in content.values():
        yield from _form(form)


def _form(form: dict[str, Any]) -> Iterator[str]:
    for field in form.get("Headers", []):
        if field["Name"].lower() in _DISALLOWED or len(field["Name"]) + len(field["Value"]) > 996:
            yield f"field {field['Name']}"
    for file in form.get("Attachments", []):
        if file.get("ContentTransferEncoding") != "BASE64":
            yield f"{file['FileName']} would be taken for 7 bits"
    bodies = [form["Subject"], *form["Body"].values()] if "Body" in form else []
    yield from (f"charset {text.get('Charset')}" for text in bodies if text.get("Charset") != "UTF-8")
    chosen = {"TemplateName", "TemplateArn", "TemplateContent"} & set(form)
    if "TemplateData" in form and (len(chosen) != 1 or not isinstance(json.loads(form["TemplateData"]), dict)):
        yield f"template {sorted(chosen)}"
