"""One client's connection: obeys its Conversation, gives the verdicts it asks for, and keeps its deadlines."""

from __future__ import annotations

import asyncio
import math

from relay.errors import SpoolError, SpoolFull
from relay.listener.channel import Channel
from relay.listener.handler import ClientSession, Handler, MessageEnvelope
from relay.listener.intake import BUG, FULL, TROUBLE, Intake
from relay.listener.settings import Authenticator, ListenerSettings, refusal
from relay.listener.shared import Shared
from relay.listener.tls import Tls
from relay.model import Facts
from relay.smtp_protocol import (
    Chunk,
    Close,
    Conversation,
    Credentials,
    Data,
    Dropped,
    End,
    Event,
    Mail,
    Policy,
    Refused,
    StartTls,
)

_STOPPING = "421 4.3.2 shutting down; try again later"
_TIMEOUT = "421 4.4.2 time-out; closing the connection"
_GUESSING = "421 4.7.0 too many failed logins; try again later"
_WRONG = "535 5.7.8 wrong name or password"
_TOLD = (_GUESSING, _WRONG)  # the log has a line about the login
_NO_LOGIN = "454 4.7.0 logins cannot be checked now; try again later"
_STORING = "END-OF-MESSAGE"
_Asking = StartTls | Credentials | Mail | Data | End


class Connection(Channel):
    """One client of the listener with `settings`, to its end; whole messages go to `handler`."""

    def __init__(self, shared: Shared, handler: Handler, settings: ListenerSettings) -> None:
        super().__init__(shared, settings)
        self._handler = handler
        self._core = Conversation(shared.hostname, shared.limits, settings.max_size)
        self._next_tls: Tls | None = None  # begins once the reply to STARTTLS is written
        self._ahead = False  # the client sent more although it waits for a verdict
        self._intake: Intake | None = None
        self._login: asyncio.Task[None] | None = None  # while it is checked

    # What all connections are told.

    def expire(self) -> None:
        """The deadline has passed: say so, or, when that was said already, do not wait any longer."""
        if self._closing:
            self.cut()
        elif overdue := self._overdue():
            self._close(overdue)
        else:
            self._obey(self._core.give_up(_TIMEOUT, f"time-out after {self._core.stage}" if self._core.in_transaction else ""))

    def wind_up(self) -> None:
        """Say 421 and close, unless a message is on its way in."""
        if not (self._closing or self._core.receiving or self._core.asks == _STORING):
            self._obey(self._core.give_up(_STOPPING, ""))

    def cut(self) -> None:
        """Close at once. Who waits for a commit hears nothing, because nobody knows yet what to say."""
        if not (self._closing or self._core.asks == _STORING):
            self._write(f"{_STOPPING}\r\n".encode())
        self._closing = True
        self._transport.abort()

    # What the channel asks for.

    def _greet(self, *, early: bool) -> None:
        settings, shared = self._settings, self._shared
        if settings.tls != "off" or settings.users:
            policy = Policy(settings.tls, logins=settings.users is not None, local=self._session.local)
            self._core = Conversation(shared.hostname, shared.limits, settings.max_size, policy)
        self._obey(self._core.start(early=early))

    def _take(self, data: bytes) -> None:
        receiving = self._core.receiving
        self._ahead = bool(self._core.asks)
        events = self._core.receive(data)
        self._put_off(len(data), receiving=receiving, progress=bool(events))
        self._obey(events)

    def _fail(self) -> None:
        self._obey(self._core.give_up(BUG, ""))

    def _know(self) -> ClientSession:
        self._session.host_name, self._session.extended_smtp = self._core.helo, self._core.esmtp
        return self._session

    def _forget(self) -> None:
        if self._intake:
            self._shared.spawn(self._intake.abort())
            self._intake = None
        if self._login:  # nobody will hear the answer; without this who only asks and leaves could keep others waiting for long
            self._login.cancel()
            self._login = None
            self._count_failed_login()

    @property
    def _owes(self) -> bool:
        return bool(self._core.asks)

    @property
    def _busy(self) -> bool:
        return self._ahead or (self._intake is not None and self._intake.draining)

    @property
    def _interrupted(self) -> bool:
        return self._core.receiving

    # What the conversation wants.

    def _obey(self, events: list[Event]) -> None:
        replies: list[bytes] = []
        close: Close | None = None
        while events:
            follow: list[Event] = []
            for event in events:
                if isinstance(event, bytes):
                    replies.append(event)
                elif isinstance(event, _Asking):
                    verdict = self._verdict(event)
                    follow = [] if verdict is None else self._core.answer(verdict)
                elif isinstance(event, Close):
                    close = event
                else:
                    self._note(event)
            events = follow
        if replies:
            self._write(b"".join(replies))
        if self._next_tls:
            self._start_tls(self._next_tls)
            self._next_tls = None
        if close:
            self._close(close.why, agreed=self._core.stage == "QUIT")
        elif self._shared.stopping:
            self.wind_up()

    def _note(self, event: Chunk | Dropped | Refused) -> None:
        if isinstance(event, Dropped):
            self._forget()
        elif isinstance(event, Refused):
            client = self._know().client
            if event.reply not in _TOLD:
                self._shared.events.rejected(client, event.stage, event.reply, event.reverse_path, event.recipients, client.helo)
            self._shared.metrics.rejected(self._session.listener, event.reply[:9])
        elif self._intake and not self._intake.write(event.data, self._flow):
            self._core.drop(FULL)
            self._forget()

    def _verdict(self, event: _Asking) -> str | None:
        """ "" for yes, a refusal, or None when it comes later."""
        try:
            if isinstance(event, StartTls):
                self._next_tls = self._new_tls()
                return ""
            if isinstance(event, Credentials):
                return self._may_log_in(event)
            if isinstance(event, Mail):
                return self._may_begin(event)
            if isinstance(event, Data):
                self._intake = Intake(self._shared, event.envelope)
                self._set_deadline(self._shared.limits.command_timeout)
                return ""
            return self._complete(event.facts)
        except SpoolFull:
            return FULL
        except SpoolError:
            return TROUBLE
        except Exception as error:
            self._shared.events.bug(f"{self._core.stage} could not be handled", error, "smtpd")
            self._forget()
            return BUG

    def _may_log_in(self, asked: Credentials) -> str | None:
        users = self._settings.users
        assert users is not None, "or AUTH would not have been offered"
        if not self._session.local and self._shared.failed_logins.too_many(self._session.address, self._loop.time()):
            why = "too many failures from this address"
            self._shared.events.login_failed(self._know().client, asked.mechanism, users.identity(asked.username), why)
            return _GUESSING
        self.deadline = math.inf
        self._login = self._shared.spawn(self._log_in(users, asked))
        return None

    async def _log_in(self, users: Authenticator, asked: Credentials) -> None:
        """Give the verdict on a login; a wrong one is answered the later the more there have been."""
        try:
            identity = await users.verify(asked.username, asked.password)
        except Exception as error:
            self._login = None
            self._shared.events.bug("a login could not be checked", error, "smtpd")
            self._answer(_NO_LOGIN)
            return
        self._login = None
        if identity is not None:
            self._session.logged_in(identity)
            self._answer("")
            return
        self._shared.events.login_failed(self._know().client, asked.mechanism, users.identity(asked.username))
        self._count_failed_login()
        delay = self._shared.limits.login_delay * (self._core.failed_logins + 1)
        self._loop.call_later(delay, self._answer, _WRONG)

    def _count_failed_login(self) -> None:
        if not self._session.local:
            self._shared.failed_logins.add(self._session.address, self._loop.time())

    def _may_begin(self, mail: Mail) -> str:
        if self._shared.stopping:
            return _STOPPING
        if why := refusal(self._settings, self._session.ip, self._session.username, mail.reverse_path):
            return why
        health = self._shared.spool.health()
        if health.full or self._shared.in_flight + mail.size > self._shared.limits.bytes_in_flight:
            return FULL
        return "" if health.ok else TROUBLE

    def _complete(self, facts: Facts) -> str | None:
        intake = self._intake
        if intake is None:  # its last octets were too many for all clients together
            return FULL
        if refusal := intake.check():
            self._forget()
            return refusal
        self._intake = None  # from here on it is not ours to forget
        self.deadline = math.inf
        self._know()
        self._shared.spawn(self._commit(MessageEnvelope(intake.envelope, intake, facts)))
        return None

    async def _commit(self, envelope: MessageEnvelope) -> None:
        try:
            reply = await self._handler.handle_DATA(self, self._session, envelope)
        except Exception as error:
            self._shared.events.bug("the handler of a message failed", error, "smtpd")
            reply = BUG
        if self._closing:
            if reply.startswith("2"):
                self._warn(f"{envelope.intake.queue_id}: stored, but the connection ended before the reply: the client may send it again")
            return
        self._answer(reply)

    def _answer(self, reply: str) -> None:
        """Give the verdict that was due."""
        if self._closing:
            return
        self._set_deadline(self._shared.limits.command_timeout)
        self._ahead = False
        self._obey(self._core.answer(reply))
        if self._half_closed and not (self._core.asks or self._closing):
            self._hang_up()
        self._flow()

    def _put_off(self, nbytes: int, *, receiving: bool, progress: bool) -> None:
        """A whole command earns a new deadline; octets of a message only put it off a little (smtpd_min_data_rate)."""
        limits = self._shared.limits
        if receiving:
            self.deadline = min(self._loop.time() + limits.command_timeout, self.deadline + nbytes / limits.min_data_rate)
        elif progress:
            self._set_deadline(limits.command_timeout)
