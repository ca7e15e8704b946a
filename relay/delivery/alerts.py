"""Alerts: mail to the postmaster when a provider is paused, is back, has used up a quota, or a ramp has stepped back.

Promises: an alert is an entry of relay's own, with a null reverse-path: it never causes a bounce, and no alert either. It goes
by the route that takes mail for the postmaster, and waits and fails over as other mail does. For one provider (or route)
there is at most one of a kind in an hour; the next one says how many were left out, and where a provider was paused or came
back in that hour and stayed so, that is told when the hour is over. Nothing of any message is in it: what the provider said
is cut, made printable, and addresses are masked.

How it fails: an alert that cannot be stored is a warning in the log, where the change itself has its line anyway. Nothing raises.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from enum import StrEnum

from relay import dsn, header, routing
from relay.delivery.settings import DeliverySettings
from relay.errors import SpoolError
from relay.log import Events, clean
from relay.log.masks import Mask
from relay.model import Client, Entry, Envelope, Facts, Recipient, RecipientState, State
from relay.spool.base import Spool

SPACING = 3600.0
"""Seconds between two alerts of one kind about one provider or route."""
_MOST_SAID = 400  # characters of what a provider said
_MASK = Mask("local")
_ID = "alert-"  # how the Message-ID of an alert begins, by which it is known after a restart


class Kind(StrEnum):
    """What an alert tells."""

    PAUSED = "is paused"
    RESUMED = "is back"
    PARTLY_PAUSED = "is partly paused"
    PARTLY_RESUMED = "is wholly back"
    EXHAUSTED = "has used up a quota"
    STEPPED_BACK = "stepped back"


_TOPICS: Mapping[Kind, str] = {
    Kind.PAUSED: "whole",
    Kind.RESUMED: "whole",
    Kind.PARTLY_PAUSED: "part",
    Kind.PARTLY_RESUMED: "part",
    Kind.EXHAUSTED: "quota",
    Kind.STEPPED_BACK: "ramp",
}
_LASTING = {"whole", "part"}  # topics whose last alert says how things stand from now on, so that it is worth telling late


@dataclass(frozen=True, slots=True)
class Alert:
    """One change. `about` is `provider ses` or `route bulk`; `part` the identity where it is not the whole provider. `why` is what
    the provider said, `then` what becomes of it and what helps, `commands` what to type."""

    kind: Kind
    about: str
    what: str
    then: str
    commands: tuple[str, ...]
    part: str = ""
    why: str = ""

    @property
    def topic(self) -> tuple[str, str]:
        """Alerts of one topic tell of one thing that changes to and fro."""
        return self.about, _TOPICS[self.kind]


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """`to` is the postmaster, "" where nobody wants alerts; `sender` the From address of notices; `via` the provider that carries all
    notices, "" for those of the route."""

    to: str
    sender: str
    hostname: str
    via: str = ""


def told_by(settings: DeliverySettings) -> AlertSettings:
    """Who is told, and how, by what delivery is told."""
    to = settings.postmaster if settings.alerts else ""
    return AlertSettings(to, settings.bounce_from, settings.hostname, settings.bounce_via)


def paused(provider: str, identity: str, reply: str, mend: str, since: float, waiting: int) -> Alert:
    """A provider, or one `identity` of it (`domain=example.com`), is not used since then (Unix seconds)."""
    helps = f"To mend it: {clean(mend).rstrip('.')}. " if mend else ""
    whose = f" for {clean(identity)}" if identity else ""
    return Alert(
        Kind.PARTLY_PAUSED if identity else Kind.PAUSED,
        f"provider {provider}",
        f"Provider {provider} is not used{whose} since {_date(since)}. {_wait(waiting)}; other mail goes by another provider of its route.",
        f"{helps}One message that waits is tried every few minutes; when it goes, all go. To look, and to try now:",
        ("relay status", f"relay provider test {provider}", "relay queue retry"),
        identity,
        reply,
    )


def resumed(provider: str, identity: str, since: float, waiting: int) -> Alert:
    """What was paused `since` then is used again."""
    whose = f" for {clean(identity)}" if identity else ""
    return Alert(
        Kind.PARTLY_RESUMED if identity else Kind.RESUMED,
        f"provider {provider}",
        f"Provider {provider} is used again{whose}. It was not since {_date(since)}. {_wait(waiting)} and will be sent now.",
        "Nothing is left to do. To look:",
        ("relay status",),
        identity,
    )


def exhausted(provider: str, what: str, until: float | None, waiting: int) -> Alert:
    """A quota (`what`, one phrase) is used up until then, None where nobody knows."""
    room = f"It has room again at {_date(until)}." if until is not None else "When it has room again is not known."
    return Alert(
        Kind.EXHAUSTED,
        f"provider {provider}",
        f"Provider {provider} has used up a quota: {clean(what)}. {room} {_wait(waiting)}.",
        "Raise the limit with the provider and in relay.yaml (limits), then: relay reload. Or let the route spill to another provider "
        "(overflow: spill). What waits can be sent by another one at once:",
        ("relay status", f"relay queue reroute --provider {provider} --via OTHER"),
    )


def stepped_back(route: str, why: str, before: str, after: str) -> Alert:
    """The ramp of a route went back; `before` and `after` are shares in words."""
    return Alert(
        Kind.STEPPED_BACK,
        f"route {route}",
        f"The ramp of route {clean(route)} stepped back from {clean(before)} to {clean(after)}. It waits there, and goes on by itself.",
        "Find out what the new provider does not like before it goes on:",
        (f"relay queue list --route {route}", "relay status"),
        why=why,
    )


def is_alert(entry: Entry) -> bool:
    """Whether an entry is an alert, of this start or an earlier one."""
    return entry.bounce and entry.message_id.startswith(f"<{_ID}")


def letter(alert: Alert, settings: AlertSettings, alert_id: str, now: float, left_out: int = 0) -> bytes:
    """The alert as a message; pure. `left_out` are alerts of its kind that were not sent before it."""
    message = EmailMessage(SMTP)
    message["From"] = f"{dsn.SENDER_NAME} <{settings.sender}>"
    message["To"] = settings.to if settings.to.isascii() else "Postmaster:;"  # the envelope has it
    message["Subject"] = clean(f"Postmaster notice: {alert.about} {alert.kind}")
    message["Date"] = _date(now)
    message["Message-ID"] = f"<{_ID}{alert_id}@{settings.hostname}>"
    message["Auto-Submitted"] = "auto-generated"
    paragraphs = [f"This is the mail relay at {clean(settings.hostname)}.", *_wrapped("", _MASK.text(alert.what))]
    if alert.why:
        paragraphs += ["Why:", *_wrapped("    ", _MASK.text(clean(alert.why[:_MOST_SAID])))]
    paragraphs += [*_wrapped("", _MASK.text(alert.then)), "\n".join(f"    {command}" for command in alert.commands)]
    if left_out:
        were = "1 change of this kind was" if left_out == 1 else f"{left_out} changes of this kind were"
        paragraphs += _wrapped("", f"{were} not told since the last of these notices: there is at most one in an hour.")
    text = "\n\n".join(paragraphs) + "\n"
    message.set_content(text, cte="7bit" if text.isascii() else "quoted-printable")
    return message.as_bytes()


@dataclass(slots=True)
class _Book:
    """What was told of one topic, and what is kept back."""

    told: dict[Kind, float] = field(default_factory=dict)
    last: Alert | None = None
    kept: Alert | None = None  # the last one that was not told
    left_out: int = 0
    timer: asyncio.TimerHandle | None = None


class Alerts:
    """Writes alerts. `clock` gives Unix seconds; `spacing` is in seconds."""

    def __init__(
        self,
        *,
        spool: Spool,
        settings: AlertSettings,
        routes: Sequence[routing.Route],
        events: Events,
        clock: Callable[[], float],
        spacing: float = SPACING,
    ) -> None:
        self._spool = spool
        self._events = events
        self._clock = clock
        self._spacing = spacing
        self._books: dict[tuple[str, str], _Book] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.configure(settings, routes)

    def configure(self, settings: AlertSettings, routes: Sequence[routing.Route]) -> None:
        """Go by these from now on."""
        self._settings = settings
        self._routes = tuple(routes)

    async def changed(self, alert: Alert, cause: Entry | None = None) -> None:
        """Tell the postmaster, unless nobody is to be told, `cause` (the message whose attempt showed it) is an alert itself, or it
        was told within the hour. Returns when the alert is stored; never raises."""
        if not self._settings.to or (cause is not None and is_alert(cause)):
            return
        book = self._books.setdefault(alert.topic, _Book())
        if self._wait(book, alert) > 0:
            book.left_out += 1
            book.kept = alert
            self._later(book)
        else:
            await self._send(book, alert)

    async def close(self) -> None:
        """Tell nothing more."""
        for book in self._books.values():
            if book.timer:
                book.timer.cancel()
        await asyncio.gather(*self._tasks)

    def _wait(self, book: _Book, alert: Alert) -> float:
        """Seconds until one of this kind may be told."""
        since = self._clock() - book.told.get(alert.kind, -self._spacing)
        return self._spacing - since if 0 <= since < self._spacing else 0.0  # nor after a clock that stepped back

    def _later(self, book: _Book) -> None:
        if book.kept and book.kept.topic[1] in _LASTING and book.timer is None:
            book.timer = asyncio.get_running_loop().call_later(self._wait(book, book.kept), self._call, book)

    def _call(self, book: _Book) -> None:
        """The time of what was kept back has come: tell it, unless that is what was told last."""
        book.timer, alert = None, book.kept
        if alert is None or (book.last and (book.last.kind, book.last.part) == (alert.kind, alert.part)):
            return
        if self._wait(book, alert) > 0:
            self._later(book)
            return
        book.left_out -= 1
        task = asyncio.create_task(self._send(book, alert))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, book: _Book, alert: Alert) -> None:
        left_out, book.left_out = book.left_out, 0
        book.told[alert.kind], book.last, book.kept = self._clock(), alert, None
        try:
            await self._store(alert, left_out)
        except SpoolError as error:
            book.left_out += left_out + 1
            del book.told[alert.kind]
            self._events.warning(f"no alert on {alert.about}: {error}", "bounce")
        except Exception as error:  # the change is known to the log: nothing of a message depends on this
            self._events.bug(f"an alert on {alert.about}", error)

    async def _store(self, alert: Alert, left_out: int) -> None:
        now, to = self._clock(), self._settings.to
        incoming = self._spool.incoming(now)
        text = letter(alert, self._settings, incoming.queue_id, now, left_out)
        entry = _entry(incoming.queue_id, text, self._settings, now)
        route = routing.choose(routing.applicable(self._routes, entry), to)
        if route is None:
            await incoming.abort()
            self._events.warning(f"no alert on {alert.about}: no route takes mail for {to}; add a last route without match", "bounce")
            return
        incoming.write(text)
        await incoming.commit(
            arrived=now,
            client=entry.client,
            envelope=entry.envelope,
            facts=entry.facts,
            header=entry.header,
            message_id=entry.message_id,
            edits=(),
            via=(self._settings.via,) if self._settings.via else route.via,
            bounce=True,
            route=route.name,
        )
        self._events.alerted(incoming.queue_id, to, alert.about.partition(" ")[2])


def _entry(alert_id: str, text: bytes, settings: AlertSettings, now: float) -> Entry:
    """The alert as an entry, for its way and for the spool."""
    recipient = Recipient(settings.to)
    return Entry(
        queue_id=alert_id,
        arrived=now,
        client=Client("", "unix", name="relay", helo=settings.hostname, protocol="LOCAL"),
        envelope=Envelope("", (recipient,)),
        facts=Facts(len(text), not text.isascii(), max(map(len, text.split(b"\r\n")))),
        header=header.split(text)[0],
        message_id=f"<{_ID}{alert_id}@{settings.hostname}>",
        edits=(),
        recipients=(RecipientState(recipient, State.QUEUED),),
        bounce=True,
    )


def _wait(waiting: int) -> str:
    return "1 recipient waits for it" if waiting == 1 else f"{waiting} recipients wait for it"


def _date(when: float) -> str:
    return format_datetime(datetime.fromtimestamp(when, UTC))


def _wrapped(indent: str, text: str) -> list[str]:
    """One paragraph of lines of at most 72 characters, where its words allow it."""
    lines = textwrap.wrap(text, 72, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return ["\n".join(lines)]
