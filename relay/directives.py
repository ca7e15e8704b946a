"""Directives: what an app asks of the provider by control headers, whatever dialect it speaks.

A dialect is a vendor's set of control headers; `relay` is our own and wins over the others, and a provider's own dialect
over those of other vendors. A listener says which dialects it obeys; the headers of all of them are removed from what
recipients see (relay/edits.py).
Nothing here raises. A directive that cannot be understood is listed: in `refused` when sending without it would send
the wrong thing, in `ignored` when it would only be counted or tracked differently. A control header that nobody knows is in
`unknown`.
Postmark SMTP headers as in Postmark docs 2026-11 ("Send email with SMTP"), with the hyphenated spellings in use. Amazon
SES headers as in its developer guide 2026-11 ("Specifying a configuration set when you send email", "Send email using
Amazon SES event publishing", "Using subscription management"); X-SES-TENANT as client libraries send it. Mailtrap headers
as in Mailtrap docs 2026-11 ("Email categories", "Custom variables").
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Never

from relay import header

DIALECTS = ("relay", "postmark", "ses", "mailtrap")  # strongest first
LINK_TRACKING = ("None", "HtmlAndText", "HtmlOnly", "TextOnly")

# Field name below the prefix -> directive; "" for what needs no directive. By API a Message-ID is always kept.
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
            "id": "",  # our own stamp, on mail that comes by a second time
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
            "keepid": "",
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
    "mailtrap": ("x-mt-", {"category": "tag", "custom-variables": "variables"}),
}
_METADATA = "metadata-"
_MAX_DEPTH = 100  # of JSON that an app gives
_TOLD = 10  # keys of metadata that a phrase names
_MAX_NAME = 255  # characters; no provider has a longer one
_WITH_METADATA = frozenset({"relay", "postmark"})  # a field for each key
CATEGORIES = ("category", "tag", "campaign")
"""Message tags of Amazon SES that are what others call the one tag of a message (lower case)."""
_YES = frozenset({"true", "1", "yes", "on"})
_NO = frozenset({"false", "0", "no", "off"})
_MAILTRAP_STREAMS = {
    **dict.fromkeys(("transactional", "outbound"), "transactional"),
    **dict.fromkeys(("bulk", "broadcast", "broadcasts"), "bulk"),
}
# As Amazon SES reads it (`list; topic=name`), and as some client libraries write it (`contactListName=list; topicName=name`).
_LIST = re.compile(r"(?:contactListName\s*=\s*)?([\w-]{1,64})\s*(?:;\s*topic(?:Name)?\s*=\s*([\w-]{1,64})\s*)?;?", re.I | re.A)


@dataclass(frozen=True, slots=True)
class Directives:
    """What was asked for; "" or None where nothing was. `metadata` has no two keys that differ only by case.

    `spoken` says in which dialect a directive was given; `unknown` are names of fields, in lower case.
    """

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
    unknown: tuple[str, ...] = ()
    spoken: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def besides_tag(self) -> Mapping[str, str]:
        """The metadata without the category that is the tag, for a provider that has a field of its own for that."""
        twice = (key for key, value in self.metadata.items() if value == self.tag and key.lower() in CATEGORIES)
        left_out = next(twice, None)
        return {key: value for key, value in self.metadata.items() if key != left_out}


class Stream(NamedTuple):
    """The stream that a mail takes at a provider; `name` is "" for the one of the configuration. `loss` is a phrase, fit for a
    cosmetic Loss, where another was asked for and nothing says which that is here."""

    name: str = ""
    loss: str = ""


def obeyed(controls: Mapping[str, Collection[str]], listener: str) -> Collection[str]:
    """The dialects that count for mail of this listener: one not named obeys none, and mail of no listener ("") all."""
    return controls.get(listener, ()) if listener else DIALECTS


def read(block: bytes, dialects: Collection[str], *, own: str = "") -> Directives:
    """The directives of a header block in the given dialects; of two for one thing the stronger dialect's, else the first.
    `own` is the dialect of the provider that asks."""
    reader = _Reader()
    fields = [(name, whole) for name, whole in header.fields(block) if name.startswith("x-")]
    for dialect in sorted(DIALECTS, key=lambda dialect: (dialect != "relay", dialect != own)):
        if dialect in dialects:
            reader.gather(fields, dialect)
    return reader.understood()


def stream(asked: Directives, streams: Mapping[str, str], own: str) -> Stream:
    """The own stream of a provider whose dialect is `own` for a mail: with Amazon SES a configuration set, with Mailtrap
    `transactional` or `bulk`.

    What is asked for in the provider's own words, or in ours, goes as it is. `streams` says what the others' streams and
    configuration sets are here (any case), and ours where it names them. Mailtrap's are known by Postmark's names too.
    """
    known = {name.strip().lower(): mapped for name, mapped in {**(_MAILTRAP_STREAMS if own == "mailtrap" else {}), **streams}.items()}
    native = "configuration_set" if own == "ses" else "stream"
    wanted = {"stream": asked.stream, "configuration_set": asked.configuration_set}
    order = sorted(
        (directive for directive, name in wanted.items() if name),
        key=lambda directive: (asked.spoken.get(directive) != "relay", asked.spoken.get(directive) != own, directive != native),
    )
    for directive in order:
        spoken, name = asked.spoken.get(directive), wanted[directive]
        if spoken != own and (mapped := known.get(name.lower())):
            return Stream(mapped)
        if directive == native and spoken in (own, "relay") and own != "mailtrap":
            return Stream(name)
    return Stream(loss=f"{_NAMED[order[0]]} {wanted[order[0]][:40]!r} is not one of this provider: see streams") if order else Stream()


_NAMED = {
    "tag": "the tag",
    "metadata": "metadata",
    "stream": "the stream",
    "track_opens": "open tracking",
    "track_links": "link tracking",
    "configuration_set": "the configuration set",
    "identity_arn": "the identity",
    "tenant": "the tenant",
}


def left_out(asked: Directives, *taken: str) -> tuple[str, ...]:
    """A phrase, fit for a cosmetic Loss, for each directive that was given and is not among the field names `taken`, and for each
    control header that nobody knows. Without a template it would be another mail; of a contact list see `unlisted`."""

    def told(directive: str) -> str:
        value = getattr(asked, directive)
        if directive == "metadata":
            more = f" and {len(value) - _TOLD} more" if len(value) > _TOLD else ""
            return ", ".join(repr(key[:40]) for key in [*value][:_TOLD]) + more
        if directive == "track_opens":
            return "" if value is None else str(value).lower()
        return repr(value[:40]) if value else ""

    phrases = ((what, told(directive)) for directive, what in _NAMED.items() if directive not in taken)
    unknown = (f"the control header {name} is left out: relay does not know it" for name in asked.unknown)
    return (*(f"{what} {text} is left out" for what, text in phrases if text), *unknown)


def unlisted(asked: Directives) -> str:
    """A phrase, fit for a hard Loss and a bounce, where a contact list was asked for and the provider has none; else ""."""
    if not asked.list_management:
        return ""
    return (
        f"the contact list {asked.list_management[:40]!r} of Amazon SES is left out, so that who unsubscribed there would get the mail: "
        "send it by Amazon SES, or without X-SES-List-Management-Options"
    )


def contact_list(options: str) -> tuple[str, str] | None:
    """Contact list and topic ("" for none) of `list_management`, as Amazon SES writes it or as client libraries do; None where it
    is neither."""
    match = _LIST.fullmatch(options)
    return (match[1], match[2] or "") if match else None


class _Reader:
    """Gathers the directives dialect by dialect, the strongest first."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, str]] = {}  # directive -> (field name, value)
        self._spoken: dict[str, str] = {}
        self._metadata: dict[str, tuple[str, str]] = {}  # key in lower case -> (key, value)
        self._ignored: list[str] = []
        self._refused: list[str] = []
        self._unknown: dict[str, None] = {}

    def gather(self, fields: Sequence[tuple[str, bytes]], dialect: str) -> None:
        """The directives in one dialect."""
        prefix, names = _NAMES[dialect]
        given: dict[str, list[tuple[str, str]]] = {}  # directive -> its fields
        metadata: list[tuple[str, str, str]] = []  # field name, key, value
        for name, whole in fields:
            if not name.startswith(prefix):
                continue
            value = header.text(header.value(whole))
            below = name.removeprefix(prefix)
            if dialect in _WITH_METADATA and below.startswith(_METADATA) and below != _METADATA:
                spelt = whole.partition(b":")[0].decode("ascii").strip()
                metadata.append((name, spelt[len(prefix + _METADATA) :], value))
            elif below not in names:
                self._unknown[name] = None
            elif value and names[below]:
                given.setdefault(names[below], []).append((name, value))
        # A list, which some write as a field for each of its members.
        tags = given.pop("message_tags", [])
        variables = given.pop("variables", [])
        metadata += [pair for name, value in tags for pair in self._pairs(name, value)]
        metadata += [pair for name, value in variables for pair in self._values(name, value)]
        self._take(dialect, given, metadata, categories=bool(tags))

    def _take(
        self, dialect: str, given: Mapping[str, list[tuple[str, str]]], metadata: list[tuple[str, str, str]], *, categories: bool
    ) -> None:
        """Keep what no stronger dialect has said."""
        before = set(self._metadata)
        for name, key, value in metadata:
            if categories and value and key.lower() in CATEGORIES and "tag" not in given:
                self._keep("tag", dialect, name, value)
            kept = self._metadata.setdefault(key.lower(), (key, value))
            if kept[1] != value and key.lower() not in before:
                self._ignored.append(f"{name}: of {key[:40]!r} only the first value is taken")
        for directive, fields in given.items():
            self._keep(directive, dialect, *fields[0])
        if self._spoken.get("tag") == dialect:
            self._number(given.get("tag", [])[1:])

    def _keep(self, directive: str, dialect: str, name: str, value: str) -> None:
        if directive not in self._found:
            self._found[directive] = (name, value)
            self._spoken[directive] = dialect

    def _number(self, more: list[tuple[str, str]]) -> None:
        """A message has one tag: further ones become metadata."""
        for number, (name, value) in enumerate(more, 2):
            if self._metadata.setdefault(f"tag{number}", (f"tag{number}", value))[1] == value:
                self._ignored.append(f"{name}: of several the first is the tag; {value[:40]!r} becomes metadata tag{number}")
            else:
                self._ignored.append(f"{name}: of several the first is the tag; {value[:40]!r} is left out")

    def _pairs(self, name: str, value: str) -> list[tuple[str, str, str]]:
        """Message tags of Amazon SES: `name=value, name=value`."""
        found = []
        for pair in value.split(","):
            key, equals, text = (piece.strip() for piece in pair.partition("="))
            if key and equals:
                found.append((name, key, text))
            else:
                self._ignored.append(f"{name}: {pair.strip()[:40]!r} is not name=value")
        return found

    def _values(self, name: str, value: str) -> list[tuple[str, str, str]]:
        """Custom variables of Mailtrap: one JSON object. Numbers keep their spelling; of a list Mailtrap takes the first value."""
        try:
            parsed = loaded(value, numbers=str)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            self._ignored.append(f"{name} is not a JSON object")
            return []
        found = []
        for key, given in parsed.items():
            one = given[0] if isinstance(given, list) and given else given
            plain = str(one).lower() if isinstance(one, bool) else one
            cleaned = _clean(key)
            if not isinstance(plain, str) or not cleaned:
                self._ignored.append(f"{name}: {cleaned[:40]!r} is no text, number or truth value")
                continue
            if one is not given and len(given) > 1:
                self._ignored.append(f"{name}: of the list {cleaned[:40]!r} only the first value is taken")
            found.append((name, cleaned, _clean(plain)))
        return found

    def _text(self, directive: str) -> str:
        return self._found.get(directive, ("", ""))[1]

    def _switch(self, directive: str) -> bool | None:
        name, value = self._found.get(directive, ("", ""))
        if value and value.lower() not in _YES | _NO:
            self._ignored.append(f"{name}: {value[:40]!r} is neither true nor false")
            return None
        return value.lower() in _YES if value else None

    def _links(self) -> str:
        name, value = self._found.get("track_links", ("", ""))
        choices = {
            **{choice.lower(): choice for choice in LINK_TRACKING},
            **dict.fromkeys(_YES, "HtmlAndText"),
            **dict.fromkeys(_NO, "None"),
        }
        if value and value.lower() not in choices:
            self._ignored.append(f"{name}: {value[:40]!r} is none of {', '.join(LINK_TRACKING)}")
        return choices.get(value.lower(), "")

    def _model(self) -> Mapping[str, object] | None:
        name, value = self._found.get("template_model", ("", ""))
        try:
            parsed = loaded(value) if value else {}
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            bad = self._refused if self._text("template") else self._ignored  # nobody misses it where there is nothing to fill
            bad.append(f"{name} is not a JSON object")
            return None
        return parsed if value else None

    def _name(self, directive: str) -> str:
        """What becomes an identity, which stands in state and log."""
        name, value = self._found.get(directive, ("", ""))
        if len(value) > _MAX_NAME:
            self._refused.append(f"{name}: a name of {len(value):,} characters; relay takes {_MAX_NAME}")
        return value[:_MAX_NAME]

    def understood(self) -> Directives:
        """What was gathered, as typed values."""
        return Directives(
            tag=self._text("tag"),
            metadata=dict(self._metadata.values()),
            stream=self._name("stream"),
            track_opens=self._switch("track_opens"),
            track_links=self._links(),
            template=self._name("template"),
            template_model=self._model(),
            inline_css=self._switch("inline_css"),
            configuration_set=self._name("configuration_set"),
            identity_arn=self._text("identity_arn"),
            list_management=self._text("list_management"),
            tenant=self._name("tenant"),
            refused=tuple(self._refused),
            ignored=tuple(self._ignored),
            unknown=tuple(self._unknown),
            spoken=self._spoken,
        )


def loaded(text: str | bytes, *, numbers: Callable[[str], object] | None = None) -> object:
    """JSON that can be written again: no infinity (`1e999` is read as one), and not nested so deeply that writing it would fail;
    `numbers` makes a value of a number's spelling. Raises ValueError for anything else."""
    try:
        value: object = json.loads(text, parse_constant=_no_constant, parse_int=numbers, parse_float=numbers or _finite)
    except RecursionError:
        raise ValueError("too deep") from None
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [below for one in level for below in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())]
        if not level:
            return value
    raise ValueError("too deep")


def _finite(number: str) -> float:
    found = float(number)
    if not math.isfinite(found):
        raise ValueError(f"{number[:40]} is more than JSON's readers take")
    return found


def _clean(text: str) -> str:
    """A text out of JSON, which may hold line ends and lone surrogates, as a header value would be read."""
    return header.text(text.encode("utf-8", "replace"))


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")
