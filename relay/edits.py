"""The edits: every change made to a message on its way out, and nothing else.

Decided once from the header block when the message is accepted, stored with it, applied by every transport alike:
- a `Received` field is put on top (RFC 5321 §4.4);
- `Date` and `Message-ID` are added where missing (RFC 5322 §3.6, RFC 6409 §8);
- `Bcc`, `Resent-Bcc`, `Return-Path` and `Delivered-To` (which some servers take for a mail loop) go, and so do the control headers of
  every dialect;
- a leading mbox `From ` line goes, and so do leading lines of white space;
- an empty line is put between the header block and a body that begins without one.
Re-encoding of 8-bit text and long lines for a next hop that needs it is decided by the transport (relay/mime.py).
Pure: time and names are arguments. Never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate

from relay import header
from relay.model import Client, Edit, EditKind, Envelope

CONTROL_PREFIXES = ("x-ses-", "x-mt-", "x-pm-", "x-relay-")
REMOVED = frozenset({"bcc", "resent-bcc", "return-path", "delivered-to", "from ", " "})
_NOT_HOST_NAME = re.compile(r"[^0-9A-Za-z._:\[\]-]")  # nothing else may stand in a Received field (RFC 5321 §4.4)


def is_control(name: str) -> bool:
    """Whether the field `name` (lower case) is a control header, which no recipient may see."""
    return name.startswith(CONTROL_PREFIXES)


def decide(
    block: bytes, *, queue_id: str, hostname: str, client: Client, envelope: Envelope, arrived: float, ended: bool = True
) -> tuple[Edit, ...]:
    """The edits for a message with this header block, accepted at `arrived` (Unix seconds) by this host.

    `ended` False: no empty line follows the block; it gets one, or the start of the body could pass for a header field.
    """
    names = {name for name, _ in header.fields(block)}
    trace = received(queue_id=queue_id, hostname=hostname, client=client, envelope=envelope, arrived=arrived)
    hidden = [Edit(EditKind.REMOVE, name) for name in sorted(names) if name in REMOVED or is_control(name)]
    missing = ""
    if "date" not in names:
        missing += f"Date: {formatdate(arrived, localtime=True)}\r\n"
    if "message-id" not in names:
        missing += f"Message-ID: <{queue_id}@{hostname}>\r\n"
    if "" in names:  # below a line that is no field nobody would look for ours
        trace, missing = trace + missing, ""
    if not ended:
        missing += "\r\n"
    added = [Edit(EditKind.APPEND, missing)] if missing else []
    return (Edit(EditKind.PREPEND, trace), *hidden, *added)


def received(*, queue_id: str, hostname: str, client: Client, envelope: Envelope, arrived: float) -> str:
    """Our trace field (RFC 5321 §4.4). It names the recipient only when there is just one, so that no Bcc shows. The name
    that the client logged in with stays here."""
    helo = _NOT_HOST_NAME.sub("?", client.helo)[:255] or "unknown"
    peer = f"[{client.address}]" if ":" not in client.address else f"[IPv6:{client.address}]"
    source = f"from {helo} ({client.name} {peer})" if client.address != "unix" else f"from {helo} (unix socket)"
    if client.tls:
        version, _, cipher = client.tls.partition(" ")
        source += f"\r\n\t(using {version} with cipher {cipher})"
    lines = f"Received: {source}\r\n\tby {hostname} (relay) with {client.protocol} id {queue_id}"
    only = envelope.recipients[0].address
    if len(envelope.recipients) == 1 and only.isascii():
        lines += f"\r\n\tfor <{only}>"
    return f"{lines};\r\n\t{formatdate(arrived, localtime=True)}\r\n"


def apply(block: bytes, edits: Iterable[Edit]) -> bytes:
    """The header block as it leaves; every field that no edit names stays byte for byte, in its place."""
    above, below, gone = b"", b"", set[str]()
    for edit in edits:
        if edit.kind is EditKind.PREPEND:
            above += edit.text.encode()
        elif edit.kind is EditKind.APPEND:
            below += edit.text.encode()
        else:
            gone.add(edit.text)
    if gone:
        block = b"".join(field for name, field in header.fields(block) if name not in gone)
    return above + block + below


def strip(block: bytes, edits: Iterable[Edit]) -> bytes:
    """The header block without the fields that leave with nobody, and otherwise as it came: what may be taken apart as MIME.

    Below a line that is no field such fields would pass for text, and be re-encoded or handed over as text.
    """
    return apply(block, (edit for edit in edits if edit.kind is EditKind.REMOVE))
