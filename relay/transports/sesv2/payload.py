"""One request of SendEmail, and how many are made of a message. Pure; raises nothing.

The message stands first in the JSON and the recipients last, so that all requests of a message share its octets and the
work of hashing them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from relay.fidelity import Loss
from relay.transports import refused
from relay.transports.bodies import Body, joined

PATH = "/v2/email/outbound-emails"
MAX_RECIPIENTS = 50
REFUSAL = refused.refusal("ses")


@dataclass(frozen=True, slots=True)
class Payload:
    """One request. `digest` is the SHA-256 of its JSON in hex. `senders` are the addresses in From and Sender; `uses` names what
    of the account may be misconfigured beside their domains ({"configuration_set": "news"}), the most telling first. `why` says
    what kept a message from being taken apart that goes as it is instead. One with a `refusal`, which says why SES takes no such
    recipient, is never sent."""

    recipients: tuple[str, ...]
    content: Body = field(repr=False)
    digest: str
    senders: tuple[str, ...]
    uses: Mapping[str, str] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()
    refusal: str = ""
    why: str = ""

    @property
    def kind(self) -> str:
        """SendEmail takes one message in a request."""
        return ""

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of the senders, that of From first."""
        return tuple(dict.fromkeys(sender.rpartition("@")[2].lower() for sender in self.senders))

    @property
    def identities(self) -> tuple[str, ...]:
        """What the request uses of the account that may be misconfigured."""
        return (*(f"domain={domain}" for domain in self.domains), *(f"{kind}={name}" for kind, name in self.uses.items()))

    def body(self) -> Body:
        """The request's JSON."""
        return self.content


@dataclass(frozen=True, slots=True)
class About:
    """What the requests of a message have in common beside their octets."""

    senders: tuple[str, ...]
    uses: Mapping[str, str]
    losses: tuple[Loss, ...]
    why: str = ""


def payloads(front: Body, ends: Iterable[tuple[tuple[str, ...], bytes]], about: About, takes: Callable[[str], bool]) -> tuple[Payload, ...]:
    """A request for each group of recipients: `front` is its JSON as far as a comma, which they share, and the octets beside a group
    are the rest."""
    shared = sha256()
    for piece in front.pieces():
        shared.update(piece)
    found = []
    for group, end in ends:
        whole = shared.copy()
        whole.update(end)
        refusal = "" if all(map(takes, group)) else REFUSAL
        found.append(Payload(group, joined(front, end), whole.hexdigest(), about.senders, about.uses, about.losses, refusal, about.why))
    return tuple(found)


def grouped(recipients: Sequence[str], *, together: Callable[[str], bool]) -> Iterator[tuple[str, ...]]:
    """The recipients of each request, where the envelope alone says whom it reaches."""
    plain = [recipient for recipient in recipients if together(recipient)]
    for start in range(0, len(plain), MAX_RECIPIENTS):
        yield tuple(plain[start : start + MAX_RECIPIENTS])
    taken = set(plain)
    yield from ((recipient,) for recipient in recipients if recipient not in taken)


def members(value: Mapping[str, object]) -> bytes:
    """The members of an object in JSON, as ASCII, with its closing brace and without the opening one."""
    return json.dumps(value, separators=(",", ":")).encode()[1:]
