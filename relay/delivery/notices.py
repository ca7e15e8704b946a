"""What senders are told: notices built, stored and marked as told in one commit, so that a crash neither loses nor repeats one.

A notice goes to the reverse-path, or to the postmaster where `bounce.to` says so; never for a null reverse-path. It
leaves by the providers of the route of those it is about, or by `bounce.via`. A notice of ours that fails for good is told
to the postmaster, once: a notice to the postmaster that fails ends in the log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from relay import dsn, header, routing
from relay.delivery.settings import DeliverySettings
from relay.errors import SpoolError
from relay.log import Events
from relay.model import Client, Entry, Envelope, Facts, Notify, Recipient, RecipientState
from relay.spool.base import Spool

T = TypeVar("T")


class Insist(Protocol):
    """Ask the spool until it can."""

    async def __call__(self, ask: Callable[[], Awaitable[T]]) -> T: ...


class Notices:
    """Sends notices. `carries_reports` says whether a provider carries multipart/report, None where it is not configured."""

    def __init__(
        self,
        *,
        spool: Spool,
        settings: DeliverySettings,
        carries_reports: Callable[[str], bool | None],
        insist: Insist,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._settings = settings
        self._carries_reports = carries_reports
        self._insist = insist
        self._events = events
        self._clock = clock

    def configure(self, settings: DeliverySettings) -> None:
        """Go by other settings from now on."""
        self._settings = settings

    def wanted(self, entry: Entry, recipient: Recipient, what: Notify) -> bool:
        """Whether somebody is to be told of this: the sender, or the postmaster of a bounce that failed."""
        if entry.bounce:
            return what is Notify.FAILURE and bool(self._to(entry))
        return dsn.wanted(entry, recipient, what)

    def _to(self, entry: Entry) -> str:
        """Who is told of what became of this entry; "" is nobody."""
        postmaster = self._settings.postmaster
        if entry.bounce:
            told = {recipient.address.casefold() for recipient in entry.envelope.recipients}
            return "" if postmaster.casefold() in told else postmaster
        if postmaster and self._settings.bounce_to == "postmaster":
            return postmaster
        return self._settings.rewriting.reverse_path(entry.envelope.reverse_path)

    def _via(self, via: Sequence[str]) -> tuple[str, ...]:
        """The providers of a notice about recipients whose route has these."""
        other = self._settings.bounce_via
        return (other,) if other and self._carries_reports(other) is not None else tuple(via)

    def way(self, entry: Entry, state: RecipientState, routes: Sequence[routing.Route], today: routing.Route | None) -> routing.Route:
        """How a notice leaves: by `bounce.via` or its route as they are configured now; where there is no route of that name any
        more, or an admin has fixed the providers, by those that were stored with it. A route that is gone may have left its guard to
        one of another name: then the guard is that of the route that would take the notice `today`."""
        found = next((route for route in routes if route.name == state.route), None)
        if found:
            via = self._via(found.via)
            return found if via == found.via else routing.only(found, via)
        gone = all(self._carries_reports(name) is None for name in entry.via)
        return routing.Route(state.route, self._via(entry.via) if gone else entry.via, guard=today.guard if today else None)

    async def send(self, entry: Entry, route: routing.Route, reports: Sequence[dsn.Report]) -> None:
        """Store a notice about recipients with this route; that they are told is part of the same commit."""
        addresses = [report.recipient.address for report in reports]
        to = self._to(entry)
        if not to:  # the postmaster has left the configuration since
            await self._insist(lambda: self._spool.told(entry.queue_id, addresses))
            self.log_double_bounce(entry, reports)
            return
        via = self._via(route.via)
        report = not via or any(self._carries_reports(name) for name in via)
        now = self._clock()

        async def store() -> str:
            incoming = self._spool.incoming(now)
            text = dsn.notice(
                entry=entry,
                reports=await self._dated(entry, reports),
                to=to,
                sender=self._settings.bounce_from,
                hostname=self._settings.hostname,
                notice_id=incoming.queue_id,
                now=now,
                retry_until=entry.arrived + self._settings.expire,
                whole=await self._whole(entry, reports),
                report=report,
            )
            incoming.write(text)
            head, _ = header.split(text)
            await incoming.commit(
                arrived=now,
                client=Client("", "unix", name="relay", helo=self._settings.hostname, protocol="LOCAL"),
                envelope=Envelope("", (Recipient(to),)),
                facts=Facts(len(text), not text.isascii(), max(map(len, text.split(b"\r\n")))),
                header=head,
                message_id=f"<{incoming.queue_id}@{self._settings.hostname}>",
                edits=(),
                via=via,
                bounce=True,
                route=route.name,
                answers=entry.queue_id,
                told=addresses,
                warns=all(report.action is dsn.Action.DELAYED for report in reports),
            )
            return incoming.queue_id

        self._log(entry, await self._insist(store), to, reports)

    async def _dated(self, entry: Entry, reports: Sequence[dsn.Report]) -> list[dsn.Report]:
        """The reports with the times of the last attempts; without them where the history cannot be read."""
        times: dict[str, float] = {}
        if not any(state.attempts for state in entry.recipients):
            return [*reports]
        with contextlib.suppress(SpoolError):
            times = {step.recipient: step.time for step in await self._spool.history(entry.queue_id) if step.attempt}
        return [replace(report, attempted=times.get(report.recipient.address)) for report in reports]

    async def _whole(self, entry: Entry, reports: Sequence[dsn.Report]) -> bytes:
        """The stored message where it is to be returned and is still there."""
        if dsn.returns_whole(entry, reports):
            with contextlib.suppress(SpoolError):
                return await (await self._spool.message(entry.queue_id)).read()
        return b""

    def _log(self, entry: Entry, notice_id: str, to: str, reports: Sequence[dsn.Report]) -> None:
        actions = {report.action for report in reports}
        if entry.bounce:
            self.log_double_bounce(entry, reports, notice_id)
        elif dsn.Action.FAILED in actions:
            self._events.bounced_to(entry.queue_id, notice_id, to)
        if dsn.Action.DELAYED in actions:
            self._events.delay_told(entry.queue_id, notice_id, to)
        if dsn.Action.RELAYED in actions:
            self._events.success_told(entry.queue_id, notice_id, to)

    def log_double_bounce(self, entry: Entry, reports: Sequence[dsn.Report], notice_id: str = "") -> None:
        """Say that a bounce of ours failed for good; without `notice_id`, that nobody is told."""
        why = "; ".join(dict.fromkeys(report.outcome.reply for report in reports))
        self._events.double_bounce(entry.queue_id, [report.recipient.address for report in reports], why, notice_id)
