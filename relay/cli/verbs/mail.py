"""A message from a file, and the envelope it would have: what `relay convert` and `relay explain` ask about.

The message is read as the listener would have stored it: every line ends with CRLF. Raises Stop: 66 where there is no such
file, 65 where it is no mail, 64 where the envelope cannot be told.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relay import address, config, edits, fidelity, header
from relay.cli import door, exits
from relay.cli.exits import Stop
from relay.cli.verbs import common
from relay.config.providers import PROVIDERS
from relay.errors import ConfigError
from relay.model import Client, Entry, Envelope, Facts, Job, Recipient, RecipientState, State
from relay.spool import ids

LARGEST = 200_000_000  # octets of a file that are looked at
_LINE_END = re.compile(rb"\r\n?|\n")
_PIECE = 256 * 1024


@dataclass(frozen=True)
class FileMessage:
    """A message that was never stored."""

    data: bytes
    header: bytes
    facts: Facts

    async def read(self) -> bytes:
        """All of it."""
        return self.data

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it, in pieces."""
        for start in range(0, len(self.data), _PIECE):
            yield self.data[start : start + _PIECE]


def configuration(options: common.Options) -> config.Config | None:
    """The configuration that is meant, without its secrets; None where there is none."""
    if directory := common.development(options):
        return config.dev(directory)
    path = door.config_file(getattr(options, "config", None), os.environ)
    return None if path is None else config.load(path, environ=os.environ, inside_service=False, for_sending=False)


def configuration_or_type(options: common.Options, name: str) -> config.Config:
    """A configuration that has a provider `name`: the one that is meant, or one made for the type of that name. The system's
    own configuration may be out of an ordinary user's reach; then only types can be asked for."""
    named = getattr(options, "config", None) or "RELAY_CONFIG" in os.environ
    try:
        found = configuration(options)
    except ConfigError as error:
        if named or error.exit_code != exits.PERMISSION:
            raise
        found = None
    if found and name in found.providers:
        return found
    if name in PROVIDERS:
        bare = config.bare(name)
        return replace(bare, listen=found.listen) if found else bare
    known = list(dict.fromkeys([*(found.providers if found else ()), *PROVIDERS]))
    near = difflib.get_close_matches(name, known, 1)
    mend = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
    raise Stop(exits.USAGE, f'no provider is named "{name}", and no type of provider; {mend}')


def listener(settings: config.Config, name: str | None) -> config.ListenConfig:
    """The listener of this name, or the first."""
    found = next((listener for listener in settings.listen if name in (None, listener.name)), None)
    if found is None:
        raise Stop(exits.USAGE, f'no listener is named "{name}"; configured: {", ".join(one.name for one in settings.listen) or "none"}')
    return found


def read(name: str) -> FileMessage:
    """The message in a file; `-` is standard input."""
    what = "standard input" if name == "-" else name
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            raw = file.read(LARGEST + 1)
    except PermissionError as error:
        raise Stop(exits.PERMISSION, f"{what}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise Stop(exits.NO_INPUT, f"{what}: {getattr(error, 'strerror', None) or error}") from error
    if not raw.strip():
        raise Stop(exits.DATA, f"{what} is empty")
    if len(raw) > LARGEST:
        raise Stop(exits.DATA, f"{what} has more than {LARGEST:,} octets: no provider takes such a mail")
    found = message(raw)
    if not any(len(name) > 1 and name != "from " for name, _ in header.fields(found.header)):
        raise Stop(exits.DATA, f"{what} is no mail: it does not begin with a header field")
    return found


def message(raw: bytes) -> FileMessage:
    """The message in these octets, whatever their line ends."""
    data = _LINE_END.sub(b"\r\n", raw)
    data += b"" if data.endswith(b"\r\n") else b"\r\n"
    longest = max(map(len, data.split(b"\r\n")))
    return FileMessage(data, header.cut(data)[0], Facts(len(data), not data.isascii(), longest))


def of_fields(fields: Sequence[str]) -> FileMessage:
    """A message of these header fields alone, written `Name: value`."""
    for field in fields:
        name, colon, _ = field.partition(":")
        if not colon or not re.fullmatch(r"[!-9;-~]+", name.rstrip()) or re.search(r"[\r\n]", field):
            raise Stop(exits.USAGE, f"--header wants a field such as 'Subject: hello', not {field!r}")
    return message(("\r\n".join(fields) + "\r\n\r\n").encode())


def envelope(found: FileMessage, sender: str | None, recipients: Sequence[str]) -> Envelope:
    """The envelope as given; what is left out is taken from the header, and standard error says so."""
    if sender is None:
        boxes = fidelity.mailboxes_in(found.header, "from")
        sender = boxes[0].address if boxes else ""
        why = "by the From field" if boxes else "the null path, for there is no From address"
        print(f"relay: no --from: the reverse-path is <{sender}>, {why}", file=sys.stderr)
    if not recipients:
        recipients = [box.address for name in ("to", "cc") for box in fidelity.mailboxes_in(found.header, name)]
        if not recipients:
            raise Stop(exits.USAGE, "say who gets it: --to B. The message names nobody in To or Cc")
        print(f"relay: no --to: for {', '.join(recipients)}, by To and Cc", file=sys.stderr)
    path = _parsed("--from", sender, null=True)
    to = dict.fromkeys(_parsed("--to", recipient, null=False) for recipient in recipients)
    return Envelope(path, tuple(map(Recipient, to)))


def _parsed(option: str, given: str, *, null: bool) -> str:
    given = given.strip()
    bare = given[1:-1] if given.startswith("<") and given.endswith(">") else given
    try:
        found, rest = address.parse_path(f"<{bare}>".encode(), smtputf8=True, null=null)
    except address.AddressError as error:
        several = "; give each address by itself: --to A --to B" if "," in given and not null else ""
        raise Stop(exits.USAGE, f"{option} {given!r}: {error}{several}") from error
    if rest:
        raise Stop(exits.USAGE, f"{option} {given!r}: not one address")
    return found


def entry(found: FileMessage, mail: Envelope, *, hostname: str, client: Client) -> Entry:
    """The entry that the message would become now, with the edits that would be made."""
    arrived = time.time()
    queue_id = ids.text(ids.at(arrived))
    changes = edits.decide(
        found.header,
        queue_id=queue_id,
        hostname=hostname,
        client=client,
        envelope=mail,
        arrived=arrived,
        ended=header.cut(found.data)[1] > len(found.header),
    )
    return Entry(
        queue_id,
        arrived,
        client,
        mail,
        found.facts,
        found.header,
        header.text(header.first(found.header, "message-id")),
        changes,
        tuple(RecipientState(recipient, State.QUEUED) for recipient in mail.recipients),
    )


def job(found: FileMessage, made: Entry, recipients: Sequence[Recipient]) -> Job:
    """What a transport would be handed for these recipients."""
    return Job(made.queue_id, made.envelope, tuple(recipients), made.edits, found, made.arrived, listener=made.client.listener)
