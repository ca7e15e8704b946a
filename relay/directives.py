"""Directives: what an app asks of the provider by control headers, whatever dialect it speaks.

A dialect is a vendor's set of control headers; `relay` is our own and wins over the others, and a provider's own dialect
over those of other vendors. A listener says which dialects it obeys; the headers of all of them are removed from what
recipients see (relay/edits.py).
Nothing here raises. A directive that cannot be understood is listed: in `refused` when sending without it would send
the wrong thing, in `ignored` when it would only be counted or tracked differently.
Postmark SMTP headers as in Postmark docs 2026-11 ("Send email with SMTP"), with the hyphenated spellings in use. Amazon
SES headers as in its developer guide 2026-11 ("Specifying a configuration set when you send email", "Send email using
Amazon SES event publishing", "Using subscription management"); X-SES-TENANT as client libraries send it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Never

from relay import header

DIALECTS = ("relay", "postmark", "ses")  # strongest first
LINK_TRACKING = ("None", "HtmlAndText", "HtmlOnly", "TextOnly")

# Field name below the prefix -> directive. X-PM-KeepID is not here: by API a Message-ID is always kept.
_NAMES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "relay": (
        "x-relay-",
        {
            "tag": "tag",
            "stream": "stream",
            "track-opens": "track_opens",
            "track-links": "track_links",
            "template": "template",
            "template-model": "template_model",
            "inline-css": "inline_css",
            "configuration-set": "configuration_set",
        },
    ),
    "postmark": (
        "x-pm-",
        {
            "tag": "tag",
            "message-stream": "stream",
            "trackopens": "track_opens",
            "track-opens": "track_opens",
            "tracklinks": "track_links",
            "track-links": "track_links",
        },
    ),
    "ses": (
        "x-ses-",
        {
            "configuration-set": "configuration_set",
            "message-tags": "message_tags",
            "from-arn": "identity_arn",
            "source-arn": "identity_arn",
            "list-management-options": "list_management",
            "tenant": "tenant",
        },
    ),
}
_METADATA = "metadata-"
CATEGORIES = ("category", "tag", "campaign")
"""Message tags of Amazon SES that are what others call the one tag of a message (lower case)."""
_YES = frozenset({"true", "1", "yes", "on"})
_NO = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True, slots=True)
class Directives:
    """What was asked for; "" or None where nothing was. `metadata` has no two keys that differ only by case."""

    tag: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream: str = ""
    track_opens: bool | None = None
    track_links: str = ""  # one of LINK_TRACKING
    template: str = ""
    template_model: Mapping[str, object] | None = None
    inline_css: bool | None = None
    configuration_set: str = ""
    identity_arn: str = ""
    list_management: str = ""
    tenant: str = ""
    refused: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def read(block: bytes, dialects: Collection[str], *, own: str = "") -> Directives:
    """The directives of a header block in the given dialects; of two for one thing the stronger dialect's, else the first.
    `own` is the dialect of the provider that asks."""
    found: dict[str, tuple[str, str]] = {}  # directive -> (field name, value)
    metadata: dict[str, tuple[str, str]] = {}  # key in lower case -> (key, value)
    ignored: list[str] = []
    for dialect in sorted(DIALECTS, key=lambda dialect: (dialect != "relay", dialect != own)):
        if dialect in dialects:
            _gather(block, *_NAMES[dialect], found, metadata)
            _spread(found, metadata, ignored)
    return _understood(found, dict(metadata.values()), ignored)


def _gather(
    block: bytes, prefix: str, names: Mapping[str, str], found: dict[str, tuple[str, str]], metadata: dict[str, tuple[str, str]]
) -> None:
    for name, whole in header.fields(block):
        if not name.startswith(prefix):
            continue
        value = header.text(header.value(whole))
        below = name.removeprefix(prefix)
        if below.startswith(_METADATA) and below != _METADATA:
            spelt = whole.partition(b":")[0].decode("ascii").strip()
            metadata.setdefault(below.removeprefix(_METADATA), (spelt[len(prefix + _METADATA) :], value))
        elif below in names and value:
            directive = names[below]
            if directive == "message_tags" and directive in found:  # a list, which some write as a field for each of its members
                value = f"{found.pop(directive)[1]},{value}"
            found.setdefault(directive, (name, value))


def _spread(found: dict[str, tuple[str, str]], metadata: dict[str, tuple[str, str]], ignored: list[str]) -> None:
    """Message tags (`name=value, name=value`) as metadata; one that is a category is the tag as well."""
    name, value = found.pop("message_tags", ("", ""))
    for pair in value.split(",") if value else ():
        key, equals, text = (piece.strip() for piece in pair.partition("="))
        if not (key and equals):
            ignored.append(f"{name}: {pair.strip()[:40]!r} is not name=value")
            continue
        metadata.setdefault(key.lower(), (key, text))
        if text and key.lower() in CATEGORIES:
            found.setdefault("tag", (name, text))


def _understood(found: Mapping[str, tuple[str, str]], metadata: Mapping[str, str], ignored: list[str]) -> Directives:
    refused: list[str] = []

    def text(directive: str) -> str:
        return found.get(directive, ("", ""))[1]

    def switch(directive: str) -> bool | None:
        name, value = found.get(directive, ("", ""))
        if value and value.lower() not in _YES | _NO:
            ignored.append(f"{name}: {value[:40]!r} is neither true nor false")
            return None
        return value.lower() in _YES if value else None

    def links() -> str:
        name, value = found.get("track_links", ("", ""))
        choices = {
            **{choice.lower(): choice for choice in LINK_TRACKING},
            **dict.fromkeys(_YES, "HtmlAndText"),
            **dict.fromkeys(_NO, "None"),
        }
        if value and value.lower() not in choices:
            ignored.append(f"{name}: {value[:40]!r} is none of {', '.join(LINK_TRACKING)}")
        return choices.get(value.lower(), "")

    def model() -> Mapping[str, object] | None:
        name, value = found.get("template_model", ("", ""))
        try:
            parsed = json.loads(value, parse_constant=_no_constant) if value else {}
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            refused.append(f"{name} is not a JSON object")
            return None
        return parsed if value else None

    return Directives(
        tag=text("tag"),
        metadata=metadata,
        stream=text("stream"),
        track_opens=switch("track_opens"),
        track_links=links(),
        template=text("template"),
        template_model=model(),
        inline_css=switch("inline_css"),
        configuration_set=text("configuration_set"),
        identity_arn=text("identity_arn"),
        list_management=text("list_management"),
        tenant=text("tenant"),
        refused=tuple(refused),
        ignored=tuple(ignored),
    )


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")
