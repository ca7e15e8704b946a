"""The control fields that leave with a message by a provider's SMTP door, in the one dialect that the provider reads.

There stand the app's own fields of that dialect, as they came; what the app asked for in other dialects, in this one's words;
and our queue id, which comes back in the provider's events and never takes the place of something of the app's. Our dialect
wins over the provider's own, and that over others (relay/directives.py). What cannot be said is a loss, or, where the mail
would be another without it, a reason not to send it by SMTP at all. Pure; nothing here raises.
Sources, 2026-11: Amazon SES developer guide ("Specifying a configuration set", "Using subscription management") and botocore
1.44 for the alphabet of message tags; Mailtrap docs ("Email categories", "Custom variables"); Postmark "Send email with SMTP"
and support article 1125. Paubox documents no control fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.header import Header

from relay import directives, header
from relay.directives import Directives

QUEUE_ID = "relay-id"
"""The name under which our queue id goes to a provider: message tag, metadata key or custom variable."""

SEALED = "tracking is left out: it would break what is signed or encrypted"

MAX_VARIABLES = 1000  # octets of X-MT-Custom-Variables; a longer one is ignored as a whole
MAX_CATEGORY = 255  # characters, of Mailtrap's
MAX_SES_TAG = 256  # characters of a message tag's name, and of its value
MAX_POSTMARK_TAG = 1000  # characters
MAX_METADATA = 10  # keys that Postmark takes
MAX_METADATA_KEY = 20
MAX_METADATA_VALUE = 80
_MOST = 64 * 1024  # octets of the app's own object that are read
_FOLD = 900  # octets from which on a field of ours is folded

_PREFIXES = {"ses": "x-ses-", "postmark": "x-pm-", "mailtrap": "x-mt-"}
# Spellings in use that Postmark does not read.
_RESPELT = {"x-pm-track-opens": "X-PM-TrackOpens", "x-pm-track-links": "X-PM-TrackLinks"}
_TRACKING = frozenset({"true", "false", *map(str.lower, directives.LINK_TRACKING)})  # what Postmark reads
_METADATA = "x-pm-metadata-"
_TAGS, _VARIABLES = "x-ses-message-tags", "x-mt-custom-variables"
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_-]")
_SET = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY = re.compile(rf"[!-9;-~]{{1,{MAX_METADATA_KEY}}}")  # as it may stand in the name of a field (RFC 5322 §2.2)
_LIBRARIES = re.compile(r"(?:contactListName|topicName)\s*=", re.I)  # how client libraries write list management
_TAKEN = {  # what a dialect has words for; all else that is asked for is left out
    "ses": ("tag", "metadata", "stream", "configuration_set", "identity_arn", "list_management", "tenant"),
    "postmark": ("tag", "metadata", "stream", "configuration_set", "track_opens", "track_links"),
    "mailtrap": ("tag", "metadata", "stream", "configuration_set"),
}


@dataclass(frozen=True, slots=True)
class Stamped:
    """Whole fields, each ended by CRLF, to put on top of a message. `losses` are phrases for what is asked for and left out,
    `reasons` those for which the mail cannot go this way."""

    fields: bytes = b""
    losses: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def configuration_set(self) -> str:
        """The configuration set of Amazon SES that they name, or ""."""
        return header.text(header.first(self.fields, "x-ses-configuration-set"))

    @property
    def tenant(self) -> str:
        """The tenant of Amazon SES that they name, or ""."""
        return header.text(header.first(self.fields, "x-ses-tenant"))

    @property
    def contact_list(self) -> bool:
        """Whether they ask Amazon SES to manage subscriptions by a contact list."""
        return bool(header.first(self.fields, "x-ses-list-management-options"))


def stamp(
    dialect: str,
    block: bytes,
    queue_id: str,
    *,
    obeyed: Collection[str],
    defaults: Sequence[tuple[str, str]] = (),
    streams: Mapping[str, str] | None = None,
    stream: str = "",
    eight_bit: bool = True,
    sealed: bool = False,
) -> Stamped:
    """The control fields for a message that came with header block `block`.

    `obeyed` are the dialects that count; `streams` is as for directives.stream, `stream` the one that the door leads to where a
    field cannot choose. `defaults` stand where the app says nothing else. Fields with lines that no server takes, or with 8-bit
    octets where these may not leave (`eight_bit`), are left out. `sealed`: the message is signed or encrypted, so that tracking, which
    rewrites its texts, would break it.
    """
    prefix = _PREFIXES.get(dialect, "") if dialect in obeyed else ""
    own = [(name, whole) for name, whole in header.fields(block) if prefix and name.startswith(prefix)]
    spoilt = {whole: name for name, whole in own if not (_fits(whole) and (eight_bit or whole.isascii()))}
    if spoilt:
        block = b"".join(whole for _, whole in header.fields(block) if whole not in spoilt)
    stamper = _Stamper(dialect, prefix, directives.read(block, obeyed, own=dialect), queue_id)
    stamper.take([(name, whole) for name, whole in own if whole not in spoilt], spoilt.values())
    translate = {"ses": stamper.to_ses, "postmark": stamper.to_postmark, "mailtrap": stamper.to_mailtrap}.get(dialect)
    if translate:
        stamper.choose_stream(streams or {}, stream)
        translate()
        if sealed and dialect == "postmark":
            stamper.leave_untouched(defaults)
    elif dialect == "paubox":
        stamper.put("X-Relay-Id", queue_id)
    return stamper.stamped(defaults)


class _Stamper:
    """Changes the app's own fields into those that leave."""

    def __init__(self, dialect: str, prefix: str, asked: Directives, queue_id: str) -> None:
        self._dialect = dialect
        self._asked = asked
        self._queue_id = queue_id
        self._fields: list[tuple[str, bytes]] = []
        self._mine: Mapping[str, str] = {}  # the pairs that stand in the app's own fields
        self._reasons = list(asked.refused)
        if asked.template:
            self._reasons.append("a template is asked for, and by SMTP the message goes as it is")
        # What is wrong with the provider's own fields is for the provider: they leave as they came.
        others = [what for what in asked.ignored if not (prefix and what.startswith(prefix))]
        unknown = tuple(name for name in asked.unknown if not (prefix and name.startswith(prefix)))
        taken = _TAKEN.get(dialect, ())
        if "list_management" not in taken and (unlisted := directives.unlisted(asked)):
            self._reasons.append(unlisted)
        self._losses = [*others, *directives.left_out(replace(asked, unknown=unknown), "list_management", *taken)]

    def take(self, own: Sequence[tuple[str, bytes]], spoilt: Iterable[str]) -> None:
        """The app's own fields, and the names of those that cannot leave."""
        self._fields = list(own)
        self._mine = directives.read(b"".join(whole for _, whole in own), (self._dialect,), own=self._dialect).metadata
        self._losses += (f"the control header {name} is left out: no server takes its octets" for name in spoilt)

    def stamped(self, defaults: Sequence[tuple[str, str]]) -> Stamped:
        """All that leaves, the defaults on top: also in place of a field that says nothing, as by the API."""
        set_by_default = {name.lower() for name, _ in defaults}
        self._drop(*(name for name in set_by_default if not any(map(header.text, self._named(name)))))
        given = {name for name, _ in self._fields}
        added = [f"{name}: {value}\r\n".encode() for name, value in defaults if name.lower() not in given]
        fields = b"".join((*added, *(whole for _, whole in self._fields)))
        return Stamped(fields, tuple(dict.fromkeys(self._losses)), tuple(self._reasons))

    # Fields.

    def put(self, name: str, text: str) -> None:
        """The field `name` with `text`, in place of the app's own of this name."""
        whole = f"{name}: {_worded(name, text)}\r\n".encode()
        if not _fits(whole):
            self._losses.append(f"{name} {text[:40]!r} is left out: it is too long for a line")
            return
        self._drop(name.lower())
        self._fields.append((name.lower(), whole))

    def _drop(self, *names: str) -> None:
        gone = frozenset(names)
        self._fields = [(name, whole) for name, whole in self._fields if name not in gone]

    def _named(self, name: str) -> list[bytes]:
        return [header.value(whole) for found, whole in self._fields if found == name]

    def _theirs(self, directive: str) -> bool:
        """Whether the directive was given in other words than the provider's own."""
        return self._asked.spoken.get(directive, self._dialect) != self._dialect

    def _merged(self, name: str, whole: bytes) -> bool:
        """`whole` in place of all fields called `name`; not where it would have a line that is too long."""
        if not _fits(whole):
            return False
        self._drop(name)
        self._fields.append((name, whole))
        return True

    def _cut(self, what: str, text: str, limit: int) -> str:
        if len(text) > limit:
            self._losses.append(f"{what} is cut to {limit} characters")
        return text[:limit]

    # What the dialects have in common.

    def choose_stream(self, streams: Mapping[str, str], door: str) -> None:
        """The stream, or configuration set, by a field; where the door leads to one stream another is a loss."""
        found = directives.stream(self._asked, streams, self._dialect)
        name = {"ses": "X-SES-CONFIGURATION-SET", "postmark": "X-PM-Message-Stream"}.get(self._dialect)
        if found.loss:
            self._losses.append(found.loss)
        elif found.name and door and found.name.lower() != door.lower():
            self._losses.append(f"the stream {found.name[:40]!r} is left out: by SMTP this door leads to {door}")
            self._drop("x-pm-message-stream")
        elif found.name and name and not door and (self._theirs("stream") or self._theirs("configuration_set")):
            if self._dialect == "ses" and not _SET.fullmatch(found.name):
                self._reasons.append(f"{found.name[:40]!r} is not the name of a configuration set")
            elif header.text((self._named(name.lower()) or [b""])[0]) != found.name:
                self.put(name, found.name)

    def _further(self, metadata: Mapping[str, str]) -> list[tuple[str, str]]:
        """The pairs that do not stand in the app's own fields yet."""
        return [(key, value) for key, value in metadata.items() if self._mine.get(key) != value]

    # Amazon SES.

    def to_ses(self) -> None:
        """Message tags in one field, the queue id as one more; list management as Amazon SES reads it."""
        chosen = directives.contact_list(self._asked.list_management)
        if chosen and _LIBRARIES.search(self._asked.list_management):
            self.put("X-SES-LIST-MANAGEMENT-OPTIONS", "; topic=".join(filter(None, chosen)))
        further = self._ses_tags()
        values = b",".join(self._named(_TAGS)).decode("utf-8", "surrogateescape")
        own = [tag for tag in (piece.strip() for piece in values.split(",")) if tag and _key_of(tag) not in further]
        tags = [*own, *further.values()]
        if QUEUE_ID not in map(_key_of, tags):
            tags.append(f"{QUEUE_ID}={self._queue_id}")
        elif not further:
            return
        if not self._merged(_TAGS, _field("X-SES-MESSAGE-TAGS", tags, ", ")):
            self._losses += [f"message tag {tag.partition('=')[0]!r} is left out" for tag in further.values()]

    def _ses_tags(self) -> dict[str, str]:
        """Name in lower case -> `name=value` of what is not among the app's own, in the alphabet of Amazon SES."""
        asked = self._asked
        categories = {value for key, value in asked.metadata.items() if key.lower() in directives.CATEGORIES}
        tag = [("category", asked.tag)] if asked.tag and self._theirs("tag") and asked.tag not in categories else []
        found: dict[str, str] = {}
        for key, value in (*tag, *self._further(asked.metadata)):
            name, text = (_NOT_IN_TAGS.sub("_", given) for given in (key, value))
            if not text or name[:MAX_SES_TAG].lower() in found:
                self._losses.append(f"message tag {key[:40]!r} is left out")
                continue
            if (name, text) != (key, value):
                self._losses.append(f"message tag {key[:40]!r} is written with letters, digits, _ and - only")
            name, text = (self._cut(f"message tag {key[:40]!r}", one, MAX_SES_TAG) for one in (name, text))
            found[name.lower()] = f"{name}={text}"
        return found

    # Mailtrap.

    def to_mailtrap(self) -> None:
        """The category, and one JSON object of variables, the queue id as one more of them."""
        if self._asked.tag and self._theirs("tag"):
            self.put("X-MT-Category", self._cut("the category", self._asked.tag, MAX_CATEGORY))
        further = dict(self._further(self._asked.besides_tag))
        try:
            own = self._own_variables()
        except ValueError:  # left to Mailtrap
            self._losses += [f"variable {key[:40]!r} is left out: X-MT-Custom-Variables is not one JSON object" for key in further]
            return
        replaced = {key.lower() for key in further}
        wanted = {**{key: value for key, value in own.items() if key.lower() not in replaced}, **further}
        variables = self._variables_within(wanted)
        if QUEUE_ID not in variables and _length({**variables, QUEUE_ID: self._queue_id}) <= MAX_VARIABLES:
            variables[QUEUE_ID] = self._queue_id
        if variables != own and not self._merged(_VARIABLES, _field("X-MT-Custom-Variables", _pieces(variables), ",")):
            self._losses += [f"variable {key[:40]!r} is left out" for key in further]

    def _own_variables(self) -> dict[str, object]:
        """The app's own object. Raises ValueError where there is another thing, or JSON could not say it again."""
        found = [value for value in self._named(_VARIABLES) if value]
        if len(found) > 1 or (found and len(found[0]) > _MOST):
            raise ValueError("not one object, or a very large one")
        variables = directives.loaded(found[0]) if found else {}
        if not isinstance(variables, dict):
            raise ValueError("no object")
        return variables

    def _variables_within(self, wanted: Mapping[str, object]) -> dict[str, object]:
        """As many of the variables as there is room for, in order."""
        kept: dict[str, object] = {}
        used = 0
        for key, value in wanted.items():
            more = _length({key: value}) if not kept else _length({key: value}) - len("{}") + len(", ")
            if used + more <= MAX_VARIABLES:
                kept[key] = value
                used += more
            else:
                self._losses.append(f"variable {key[:40]!r} is left out: X-MT-Custom-Variables takes {MAX_VARIABLES:,} octets")
        return kept

    # Postmark.

    def to_postmark(self) -> None:
        """A field for each thing and for each key of metadata; the Message-ID is kept unless the app says otherwise."""
        asked = self._asked
        given = {name for name, _ in self._fields}
        self._fields = [
            (_RESPELT[name].lower(), _RESPELT[name].encode() + whole[whole.index(b":") :]) if name in _RESPELT else (name, whole)
            for name, whole in self._fields
            if _RESPELT.get(name, "").lower() not in given
        ]
        if asked.tag and (self._theirs("tag") or len(asked.tag) > MAX_POSTMARK_TAG):
            self.put("X-PM-Tag", self._cut("the tag", asked.tag, MAX_POSTMARK_TAG))
        opens = "" if asked.track_opens is None else str(asked.track_opens).lower()
        for directive, name, chosen in (("track_opens", "X-PM-TrackOpens", opens), ("track_links", "X-PM-TrackLinks", asked.track_links)):
            odd = any(header.text(value).lower() not in _TRACKING for value in self._named(name.lower()))
            if chosen and (odd or self._theirs(directive)):  # `yes`, say, which is understood by the API, and not in Postmark's page
                self.put(name, chosen)
        keys = self._postmark_metadata()
        if "x-pm-keepid" not in given:
            self.put("X-PM-KeepID", "true")
        if len(keys) < MAX_METADATA and QUEUE_ID not in keys:
            self.put(f"X-PM-Metadata-{QUEUE_ID}", self._queue_id)

    def leave_untouched(self, defaults: Sequence[tuple[str, str]]) -> None:
        """No tracking, whatever the app, the configuration or the server's own setting say."""
        off = {"X-PM-TrackOpens": "false", "X-PM-TrackLinks": "None"}
        configured = any(value not in ("", off[name]) for name, value in defaults if name in off)
        if configured or self._asked.track_opens or self._asked.track_links not in ("", "None"):
            self._losses.append(SEALED)
        for name, value in off.items():
            self.put(name, value)

    def _postmark_metadata(self) -> set[str]:
        """Bring the metadata within Postmark's limits, the app's own first: what is beyond them it would drop together with the
        mail. Returns the keys in lower case."""
        further = dict(self._further(self._asked.besides_tag))
        self._drop(*(f"{_METADATA}{key.lower()}" for key in further))
        own = {name: whole for name, whole in reversed(self._fields) if name.startswith(_METADATA) and name != _METADATA}
        keys: set[str] = set()
        spelt = {name: whole.partition(b":")[0].decode("ascii").strip() for name, whole in reversed(own.items())}
        self._drop(*[name for name, written in spelt.items() if not self._takes_key(written[len(_METADATA) :], keys)])
        for name, written in spelt.items():
            text = header.text(header.value(own[name]))
            if name.removeprefix(_METADATA) in keys and len(text) > MAX_METADATA_VALUE:
                self._put_metadata(written, text)
        for key, value in further.items():
            if self._takes_key(key, keys):
                self._put_metadata(f"X-PM-Metadata-{key}", value)
        return keys

    def _takes_key(self, key: str, keys: set[str]) -> bool:
        """Whether there is room for the key; it is among the `keys` then."""
        taken = len(keys) < MAX_METADATA and _KEY.fullmatch(key) is not None
        if taken:
            keys.add(key.lower())
        else:
            self._losses.append(f"metadata {key[:40]!r} is left out: Postmark takes {MAX_METADATA} keys of {MAX_METADATA_KEY} characters")
        return taken

    def _put_metadata(self, name: str, value: str) -> None:
        self.put(name, self._cut(f"the value of metadata {name[len(_METADATA) :]!r}", value, MAX_METADATA_VALUE))


def _key_of(tag: str) -> str:
    return tag.partition("=")[0].strip().lower()


def _worded(name: str, text: str) -> str:
    """The text as it may stand in the field `name`: in encoded words where it is not ASCII (RFC 2047), as client libraries write
    such fields; folded where it is long."""
    if text.isascii() and len(text) <= _FOLD:
        return text
    charset, length = ("us-ascii", _FOLD) if text.isascii() else ("utf-8", None)
    return Header(text, charset, header_name=name, maxlinelen=length).encode(linesep="\r\n")


def _pieces(variables: Mapping[str, object]) -> list[str]:
    """A JSON object, cut after each comma."""
    return json.dumps(variables, separators=("\n", ":"), allow_nan=False).split("\n")  # JSON text holds no line end


def _length(variables: Mapping[str, object]) -> int:
    """Octets of the object in a field: folding puts a space behind each comma."""
    return len(", ".join(_pieces(variables)))


def _field(name: str, pieces: Sequence[str], joint: str) -> bytes:
    """A field of pieces on one line, or, where that is long, with one on each line."""
    line = f"{name}: {joint.join(pieces)}\r\n".encode("utf-8", "surrogateescape")
    if len(line) <= _FOLD:
        return line
    folded = f"{joint.rstrip()}\r\n ".join(pieces)
    return f"{name}: {folded}\r\n".encode("utf-8", "surrogateescape")


def _fits(whole: bytes) -> bool:
    return all(len(line) <= header.MAX_LINE for line in whole.split(b"\r\n"))
