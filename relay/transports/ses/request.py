"""Messages as requests of Amazon SES's API v2 (SendEmail), in raw mode: what leaves is the stored message with its edits.

The header stays what the app wrote, and `Destination` is the envelope: all recipients stand in ToAddresses, because in raw
mode SES takes no header from it and its events list the recipients flat. FromEmailAddress and ReplyToAddresses are never
given: they would replace header fields. Nor is FeedbackForwardingEmailAddress: SES refuses one that is not verified, and an
envelope's reverse-path often is not. Changed beyond the edits are only parts with 8-bit text or lines over 998 octets (never
signed ones), header lines over 998 octets, which are folded, and a field that SES wants once goes once.

Everything that SES is known to refuse is found before sending, and then CannotCarry names each reason, so that another
provider of the route may carry the message. Pure.
Amazon SES API v2 reference and developer guide 2026-11: SendEmail, RawMessage, Destination, "Amazon SES header fields",
"Unsupported attachment types", "Service quotas"; botocore 1.44 for lengths and alphabets.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from relay import address, directives, edits, fidelity, header, mime, reencoding
from relay.errors import CannotCarry
from relay.fidelity import Loss
from relay.model import Edit, Facts
from relay.transports import singles

PATH = "/v2/email/outbound-emails"
MAX_RECIPIENTS = 50
MAX_MESSAGE = 40 * 1024 * 1024  # octets after base64; the API counts in units of 1024, as its errors on size show
MAX_TAG = 256  # characters of a message tag's name, and of its value
QUEUE_ID = "relay-id"  # the message tag of our queue id

BLOCKED_ENDINGS = frozenset(
    # In lines, so that they can be compared with the provider's own list.
    (  # noqa: SIM905
        "ade adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk mad maf mag mam "
        "maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi msp mst ops pcd pif plg prf prg "
        "reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs vps vsmacros vss vst vsw vxd ws wsc wsf wsh xnk"
    ).split()
)
_PIECE = 48 * 1024  # octets of the message in one piece of base64; divisible by 3
_OPENING = b'{"Content":{"Raw":{"Data":"'
_CLOSING = b'"}},'
# What surely is an address to SES. Another one has a request of its own, because a refusal concerns the whole request.
_MAILBOX = re.compile(r"[a-z0-9.!#$%&'*+\-/=?^_`{|}~]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.I)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a configuration set, contact list, topic and tenant
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_-]")
# As SES reads it (`list; topic=name`), and as some client libraries write it (`contactListName=list; topicName=name`).
_LIST = re.compile(r"(?:contactListName\s*=\s*)?([\w-]{1,64})\s*(?:;\s*topic(?:Name)?\s*=\s*([\w-]{1,64})\s*)?;?", re.I | re.A)
_REFUSAL = "Amazon SES takes no recipient address of this form"


@dataclass(frozen=True, slots=True)
class SesSettings:
    """A configured Amazon SES account. Without `access_key_id` the keys are found as the AWS tools find them (`profile`,
    environment, container, instance). `controls` says which dialects each listener obeys: one not named obeys none, and
    mail from no listener all."""

    provider: str
    region: str
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    profile: str = ""
    base_url: str = ""
    configuration_set: str = ""
    identity_arn: str = ""
    timeout: float = 60.0
    concurrency: int = 20
    controls: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The base URL: `base_url`, or the region's public endpoint."""
        suffix = ".cn" if self.region.startswith("cn-") else ""
        return self.base_url or f"https://email.{self.region}.amazonaws.com{suffix}"


@dataclass(frozen=True, slots=True)
class Payload:
    """One request. `parts` are its JSON, in order; those of the message are shared by all requests of a message. `digest` is
    the SHA-256 of the whole in hex. One with a `refusal`, which says why SES takes no such recipient, is never sent."""

    recipients: tuple[str, ...]
    parts: tuple[bytes, ...] = field(repr=False)
    digest: str
    senders: tuple[str, ...]  # addresses in From and Sender
    configuration_set: str = ""
    contact_list: str = ""
    tenant: str = ""
    losses: tuple[Loss, ...] = ()
    refusal: str = ""

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of the senders, that of From first."""
        return tuple(dict.fromkeys(sender.rpartition("@")[2].lower() for sender in self.senders))

    @property
    def identities(self) -> tuple[str, ...]:
        """What the request uses of the account that may be misconfigured."""
        named = {"configuration_set": self.configuration_set, "contact_list": self.contact_list, "tenant": self.tenant}
        return (*(f"domain={domain}" for domain in self.domains), *(f"{kind}={name}" for kind, name in named.items() if name))

    def body(self) -> bytes:
        """The request's JSON as one piece."""
        return b"".join(self.parts)


def payload(
    message: bytes,
    *,
    block: bytes,
    facts: Facts,
    queue_id: str,
    recipients: Sequence[str],
    changes: Sequence[Edit],
    settings: SesSettings,
    listener: str = "",
    apart: bool = False,
) -> tuple[Payload, ...]:
    """The requests that carry a stored message, whose header block is `block`, to `recipients`, each of whom is in exactly one;
    with `apart` each has one of his own. Raises CannotCarry.
    """
    asked = directives.read(block, settings.controls.get(listener, ()) if listener else directives.DIALECTS, own="ses")
    draft = _Draft(asked, settings, queue_id)
    head, body = draft.message(message, block, facts, changes)
    options = draft.options()
    forms = {recipient: _sendable(recipient) for recipient in recipients}
    if not any(forms.values()):
        draft.reasons.append(_REFUSAL)
    if draft.reasons:
        raise CannotCarry(draft.reasons, status="5.3.4" if draft.too_big else "5.6.3")
    together = not (apart or "ListManagementOptions" in options)  # an unsubscribe link is one contact's own
    return tuple(draft.requests(head, body, options, _grouped(forms, together=together), forms))


def _sendable(recipient: str) -> str:
    """The address with its domain as A-labels, or "" where SES has no form for it."""
    local, domain = address.split(recipient)
    try:
        return f"{local}@{address.domain_ascii(domain)}" if local.isascii() else ""
    except address.AddressError:
        return ""


def _grouped(forms: Mapping[str, str], *, together: bool) -> Iterator[tuple[str, ...]]:
    """The recipients of each request."""
    plain = [recipient for recipient, form in forms.items() if together and _MAILBOX.fullmatch(form)]
    for start in range(0, len(plain), MAX_RECIPIENTS):
        yield tuple(plain[start : start + MAX_RECIPIENTS])
    taken = set(plain)
    yield from ((recipient,) for recipient in forms if recipient not in taken)


class _Draft:
    """Builds a message's requests and gathers every reason against it."""

    def __init__(self, asked: directives.Directives, settings: SesSettings, queue_id: str) -> None:
        self.reasons = list(asked.refused)
        self.too_big = False
        self._losses = [Loss("cosmetic", what) for what in asked.ignored]
        self._asked = asked
        self._settings = settings
        self._queue_id = queue_id
        self._senders: list[str] = []
        if asked.template:
            self.reasons.append("a template is asked for, and by Amazon SES the message goes as it is")

    def message(self, message: bytes, block: bytes, facts: Facts, changes: Sequence[Edit]) -> tuple[bytes, memoryview]:
        """Header block and rest as they leave."""
        head, body = self._seven_bit(message, block, facts, changes) or (block, memoryview(message)[len(block) :])
        once = singles.reduced(reencoding.folded(edits.apply(head, changes)))
        self.reasons += once.reasons
        self._losses += [Loss("cosmetic", what) for what in once.losses]
        self._read_addresses(once.block)
        self._look_at_files(message)
        size = (len(once.block) + len(body) + 2) // 3 * 4
        if size > MAX_MESSAGE:
            self.too_big = True
            self.reasons.append(f"the message has {size:,} octets after base64; Amazon SES takes {MAX_MESSAGE:,}")
        return once.block, body

    def options(self) -> dict[str, object]:
        """The members of the request beside the message and its recipients."""
        asked, settings = self._asked, self._settings
        found: dict[str, object] = {"EmailTags": self._tags()}
        if name := asked.configuration_set or settings.configuration_set:
            found["ConfigurationSetName"] = self._checked("configuration set", name)
        if arn := asked.identity_arn or settings.identity_arn:
            if not arn.startswith("arn:"):
                self.reasons.append(f"{arn[:40]!r} is not the ARN of an identity")
            found["FromEmailAddressIdentityArn"] = arn
        if asked.tenant:
            found["TenantName"] = self._checked("tenant", asked.tenant)
        if asked.list_management:
            found["ListManagementOptions"] = self._list()
        tracking = {"OpenTrackingEnabled": asked.track_opens, "ClickTrackingEnabled": asked.track_links and asked.track_links != "None"}
        if chosen := {name: "ENABLED" if on else "DISABLED" for name, on in tracking.items() if on is not None and on != ""}:
            found["ConfigurationOverrides"] = {"Tracking": chosen}
        return found

    def requests(
        self, head: bytes, body: memoryview, options: Mapping[str, object], groups: Iterator[tuple[str, ...]], forms: Mapping[str, str]
    ) -> Iterator[Payload]:
        """A request for each group of recipients; the message is encoded and hashed once for all."""
        shared = (_OPENING, *_base64(head, body), _CLOSING)
        hashed = sha256()
        for part in shared:
            hashed.update(part)
        chosen = options.get("ListManagementOptions")
        for group in groups:
            members = {"Destination": {"ToAddresses": [forms[recipient] for recipient in group]}, **options}
            last = json.dumps(members, separators=(",", ":")).encode()[1:]
            whole = hashed.copy()
            whole.update(last)
            yield Payload(
                group,
                (*shared, last),
                whole.hexdigest(),
                tuple(self._senders),
                configuration_set=str(options.get("ConfigurationSetName", "")),
                contact_list=str(chosen["ContactListName"]) if isinstance(chosen, dict) else "",
                tenant=str(options.get("TenantName", "")),
                losses=tuple(self._losses),
                refusal="" if all(forms[recipient] for recipient in group) else _REFUSAL,
            )

    def _seven_bit(self, message: bytes, block: bytes, facts: Facts, changes: Sequence[Edit]) -> tuple[bytes, memoryview] | None:
        """Header block and rest with 7-bit text and lines of at most 998 octets as far as they may be touched; SES breaks 8-bit
        text when it tracks, and takes no lines over 1,000 octets. None where the message goes as it is."""
        long = facts.longest_line > header.MAX_LINE
        for eight_bit in (True, False):
            if not (long or (eight_bit and facts.eight_bit)):
                break
            try:
                return reencoding.seven_bit(message, block, changes, eight_bit=eight_bit)
            except mime.MimeError as error:
                if not eight_bit:
                    self.reasons.append(f"Amazon SES takes no lines over {header.MAX_LINE} octets, and {error}")
        return None

    def _read_addresses(self, head: bytes) -> None:
        """Who sends, and what SES would stumble over: it reads the address fields, and has no SMTPUTF8."""
        for name in ("from", "sender"):
            for box in fidelity.mailboxes_in(head, name):
                if not address.valid(box.address):
                    self.reasons.append(f"the {name.title()} address is not one that Amazon SES takes")
                self._senders.append(box.address)
            if name == "from" and not self._senders:
                self.reasons.append("there is no From address")
        for name in ("to", "cc", "reply-to"):
            if not all(box.address.isascii() for box in fidelity.mailboxes_in(head, name)):
                self.reasons.append(f"the {name.title()} field has an address that is not ASCII")

    def _look_at_files(self, message: bytes) -> None:
        """Refuse the types of file that SES refuses; in a message beyond what we take apart it looks itself."""
        with contextlib.suppress(mime.MimeError):
            for name in dict.fromkeys(part.filename for part in mime.parse(message).walk()):
                ending = name.rstrip(". ").rpartition(".")[2].lower()
                if "." in name and ending in BLOCKED_ENDINGS:
                    self.reasons.append(f"Amazon SES takes no attachment of type .{ending} ({name})")

    def _tags(self) -> list[dict[str, str]]:
        """The app's own tags first: the queue id joins them and never takes one's place."""
        asked = self._asked
        categories = {value for key, value in asked.metadata.items() if key.lower() in directives.CATEGORIES}
        pairs = [("category", asked.tag)] if asked.tag and asked.tag not in categories else []
        found: dict[str, tuple[str, str]] = {}
        for key, value in (*pairs, *asked.metadata.items()):
            name, text = (_NOT_IN_TAGS.sub("_", given)[:MAX_TAG] for given in (key, value))
            if not text or name.lower() in found:
                self._losses.append(Loss("cosmetic", f"message tag {key[:40]!r} is left out"))
                continue
            if (name, text) != (key, value):
                self._losses.append(Loss("cosmetic", f"message tag {key[:40]!r} is written with letters, digits, _ and - only"))
            found[name.lower()] = (name, text)
        found.setdefault(QUEUE_ID, (QUEUE_ID, self._queue_id))
        return [{"Name": name, "Value": text} for name, text in found.values()]

    def _list(self) -> dict[str, str]:
        match = _LIST.fullmatch(self._asked.list_management)
        if match is None:  # without it the mail would also go to who has unsubscribed
            self.reasons.append(f"list management {self._asked.list_management[:40]!r} is not `list; topic=name`")
            return {"ContactListName": ""}
        return {"ContactListName": match[1], **({"TopicName": match[2]} if match[2] else {})}

    def _checked(self, what: str, name: str) -> str:
        if not _NAME.fullmatch(name):
            self.reasons.append(f"{name[:40]!r} is not the name of a {what}")
        return name


def _base64(head: bytes, body: memoryview) -> Iterator[bytes]:
    """Head and body as one text in base64, in pieces, so that the message is never copied as a whole."""
    cut = -len(head) % 3
    yield binascii.b2a_base64(b"".join((head, body[:cut])), newline=False)
    for start in range(cut, len(body), _PIECE):
        yield binascii.b2a_base64(body[start : start + _PIECE], newline=False)
