"""What the rooms tell the log: one method for each thing worth telling, in Postfix's words.

Each method makes one record: `msg` is the text that follows `relay/smtpd[812]: `, `program` the word after `relay/`, and
`fields` the same facts by name (docs/log.schema.json has them all). Whatever a client or a provider said is stripped of
control characters and capped in the text; in the fields it stays as it came, for every form writes them safely.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping, Sequence

from relay.model import Client, Kind, Outcome

LOGGER = "relay"
LONGEST = 1000  # characters kept of one text that came from outside

_STATUS_WORD = {Kind.RELAYED: "sent", Kind.DEFERRED: "deferred", Kind.FAILED: "bounced"}


def clean(text: str) -> str:
    """One printable line of bounded length: what is not printable becomes `?`."""
    text = cut(text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def cut(text: str) -> str:
    """At most `LONGEST` characters; between two words where it can, so that no part of an address is left behind."""
    if len(text) <= LONGEST:
        return text
    end = max(text.rfind(" ", LONGEST - 100, LONGEST - 3), 0) or LONGEST - 3
    return text[:end] + "..."


def _address(text: str) -> str:
    """An address as it stands between `<` and `>`; a quoted local part cannot close the bracket."""
    text = clean(text)
    if ">" in text or "<" in text:
        text = text.replace("<", "?").replace(">", "?")
    return text


_HUNDREDTHS = tuple(f"{number / 100:g}" for number in range(100))  # formatting floats is the dearest part of a line
_TENTHS = tuple(f"{number / 10:g}" for number in range(100))


def seconds(value: float) -> str:
    """Seconds as Postfix prints a delay: two significant digits, at most two decimals."""
    if value < 0.995:
        return _HUNDREDTHS[max(0, int(value * 100 + 0.5))]
    return _TENTHS[int(value * 10 + 0.5)] if value < 9.95 else str(int(value + 0.5))


def _clock(when: float) -> str:
    parts = time.localtime(when)
    return f"{parts.tm_hour:02d}:{parts.tm_min:02d}:{parts.tm_sec:02d}"


def _rfc3339(when: float) -> str:
    parts = time.gmtime(when)
    day = f"{parts.tm_year}-{parts.tm_mon:02d}-{parts.tm_mday:02d}"
    return f"{day}T{parts.tm_hour:02d}:{parts.tm_min:02d}:{parts.tm_sec:02d}.{int(when % 1 * 1000):03d}Z"


class Events:
    """What the rooms tell the log. One method per event; each writes one line and returns nothing.

    Times are Unix seconds, delays are seconds. Texts from clients and providers may be passed as they came.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger(LOGGER)

    def _write(self, level: int, program: str, text: str, fields: dict[str, object]) -> None:
        # Not logger.log(): looking up the calling frame costs more than all the rest of the line.
        record = logging.LogRecord(self._logger.name, level, "", 0, text, None, None)
        record.program = program
        record.fields = fields
        self._logger.handle(record)

    # A message's life.

    def accepted(self, queue_id: str, client: Client) -> None:
        """A message from this client is stored; the client hears 250 next."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        text = f"{queue_id}: client={clean(client.name)}[{clean(client.address)}]"
        fields: dict[str, object] = {
            "queue_id": queue_id,
            "event": "accepted",
            "client": client.address,
            "client_name": client.name,
            "listener": client.listener,
            "helo": client.helo,
        }
        if client.username:
            text += f", sasl_username={clean(client.username)}"
            fields["sasl_username"] = client.username
        self._write(logging.INFO, "smtpd", text, fields)

    def message_id(self, queue_id: str, message_id: str) -> None:
        """The Message-ID of a stored message, with its angle brackets."""
        if self._logger.isEnabledFor(logging.INFO):
            fields: dict[str, object] = {"queue_id": queue_id, "event": "message_id", "message_id": message_id}
            self._write(logging.INFO, "cleanup", f"{queue_id}: message-id={clean(message_id)}", fields)

    def queued(self, queue_id: str, sender: str, size: int, nrcpt: int) -> None:
        """A stored message is in the queue. `size` in octets as stored; `sender` is "" for the null reverse-path."""
        if self._logger.isEnabledFor(logging.INFO):
            text = f"{queue_id}: from=<{_address(sender)}>, size={size}, nrcpt={nrcpt} (queue active)"
            fields: dict[str, object] = {"queue_id": queue_id, "event": "queued", "sender": sender, "size": size, "nrcpt": nrcpt}
            self._write(logging.INFO, "qmgr", text, fields)

    def attempt(
        self,
        queue_id: str,
        recipient: str,
        outcome: Outcome,
        *,
        provider: str,
        route: str,
        delay: float,
        delays: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
        next_attempt: float | None = None,
        next_provider: str = "",
        orig_to: str = "",
        held: bool = False,
    ) -> None:
        """What became of one recipient: sent, deferred or bounced.

        `delay` counts since the message came in; `delays` are before the queue, in the queue, connecting, sending.
        `next_attempt` and `next_provider` (default: the same one) say what follows a deferral. That an outcome without
        an answer may be delivered twice is added here; `outcome.reply` need not say it.
        """
        level = logging.WARNING if outcome.maybe_relayed else logging.INFO
        if not self._logger.isEnabledFor(level):
            return
        status = _STATUS_WORD[outcome.kind]
        remote = "none" if outcome.own and outcome.remote == "relay" else clean(outcome.remote).replace(",", "?")
        reply = _said(outcome, held, next_attempt, next_provider or provider)
        orig = f"orig_to=<{_address(orig_to)}>, " if orig_to else ""
        text = (
            f"{queue_id}: to=<{_address(recipient)}>, {orig}relay={remote}, delay={seconds(delay)}, "
            f"delays={seconds(delays[0])}/{seconds(delays[1])}/{seconds(delays[2])}/{seconds(delays[3])}, "
            f"dsn={outcome.status}, status={status} ({reply})"
        )
        fields: dict[str, object] = {
            "queue_id": queue_id,
            "event": "attempt",
            "recipient": recipient,
            "provider": provider,
            "route": route,
            "relay": outcome.remote,
            "status": status,
            "dsn": outcome.status,
            "delay": round(delay, 3),
            "delays": [round(part, 3) for part in delays],
            "reply": outcome.reply,
            "remote_id": outcome.remote_id,
            "maybe_relayed": outcome.maybe_relayed,
        }
        if orig_to:
            fields["orig_to"] = orig_to
        if held:
            fields["held"] = True
        elif next_attempt is not None:
            fields["next_attempt"] = _rfc3339(next_attempt)
            fields["next_provider"] = next_provider or provider
        self._write(level, provider or "qmgr", text, fields)

    def maybe_twice(self, queue_id: str, recipients: Sequence[str], provider: str, why: str) -> None:
        """These recipients may get the message twice: an attempt ended without an answer, or a restart cut it off."""
        text = f"{queue_id}: may be delivered twice by {provider}: {clean(why)}: {_several(recipients)}"
        fields = {"queue_id": queue_id, "event": "maybe_twice", "recipients": [*recipients], "provider": provider, "reply": why}
        self._write_if(logging.WARNING, provider or "qmgr", text, {**fields, "maybe_relayed": True})

    def passed_over(self, queue_id: str, provider: str, why: str) -> None:
        """A provider of the route cannot carry a message, so that the next one is asked."""
        fields = {"queue_id": queue_id, "event": "passed_over", "provider": provider, "reply": why}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: passed over {provider}, which cannot carry it: {clean(why)}", fields)

    def held(self, queue_id: str, recipient: str, why: str) -> None:
        """A recipient waits for an admin."""
        fields = {"queue_id": queue_id, "event": "held", "recipient": recipient, "reply": why}
        self._write_if(logging.WARNING, "qmgr", f"{queue_id}: to=<{_address(recipient)}>, status=held ({clean(why)})", fields)

    def expired(self, queue_id: str, sender: str, recipients: Sequence[str] = (), *, returned: bool = True) -> None:
        """Recipients are given up because the time is over; `returned` says whether a bounce goes to the sender."""
        text = f"{queue_id}: from=<{_address(sender)}>, status=expired, {'returned to sender' if returned else 'not returned'}"
        fields = {"queue_id": queue_id, "event": "expired", "sender": sender, "recipients": [*recipients], "returned": returned}
        self._write_if(logging.INFO, "qmgr", text, fields)

    def bounced_to(self, queue_id: str, bounce_id: str, sender: str) -> None:
        """A bounce for `queue_id` is stored as `bounce_id` and goes to `sender`."""
        fields = {"queue_id": queue_id, "event": "bounced_to", "bounce_id": bounce_id, "sender": sender}
        self._write_if(logging.INFO, "bounce", f"{queue_id}: sender non-delivery notification: {bounce_id}", fields)

    def delay_told(self, queue_id: str, notice_id: str, sender: str) -> None:
        """A warning that `queue_id` is late is stored as `notice_id` and goes to `sender`."""
        fields = {"queue_id": queue_id, "event": "delay_told", "notice_id": notice_id, "sender": sender}
        self._write_if(logging.INFO, "bounce", f"{queue_id}: sender delay notification: {notice_id}", fields)

    def success_told(self, queue_id: str, notice_id: str, sender: str) -> None:
        """The notification of success that the sender asked for is stored as `notice_id`."""
        fields = {"queue_id": queue_id, "event": "success_told", "notice_id": notice_id, "sender": sender}
        self._write_if(logging.INFO, "bounce", f"{queue_id}: sender delivery status notification: {notice_id}", fields)

    def double_bounce(self, queue_id: str, recipients: Sequence[str], why: str, notice_id: str = "") -> None:
        """A bounce of ours failed for good. `notice_id` is the notice to the postmaster, "" where nobody is told."""
        if notice_id:  # as Postfix words it, who and why being told by the attempt's line
            text = f"{queue_id}: postmaster non-delivery notification: {notice_id}"
        else:
            text = f"warning: {queue_id}: undeliverable bounce discarded: {_several(recipients)}: {clean(why)}"
        fields = {"queue_id": queue_id, "event": "double_bounce", "recipients": [*recipients], "reply": why, "notice_id": notice_id}
        self._write_if(logging.WARNING, "bounce", text, fields)

    def removed(self, queue_id: str) -> None:
        """An entry is finished."""
        if self._logger.isEnabledFor(logging.INFO):
            self._write(logging.INFO, "qmgr", f"{queue_id}: removed", {"queue_id": queue_id, "event": "removed"})

    def put_on_hold(self, queue_id: str, recipients: int) -> None:
        """An admin put recipients on hold."""
        fields = {"queue_id": queue_id, "event": "put_on_hold", "nrcpt": recipients}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: placed on hold by the admin, nrcpt={recipients}", fields)

    def released(self, queue_id: str, recipients: int) -> None:
        """An admin released recipients from hold."""
        fields = {"queue_id": queue_id, "event": "released", "nrcpt": recipients}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: released from hold by the admin, nrcpt={recipients}", fields)

    def deleted(self, queue_id: str, recipients: int) -> None:
        """An admin took recipients out of the queue."""
        fields = {"queue_id": queue_id, "event": "deleted", "nrcpt": recipients}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: deleted by the admin, nrcpt={recipients}", fields)

    def corrupt(self, queue_id: str, why: str) -> None:
        """An entry cannot be read; it is set aside and kept."""
        fields = {"queue_id": queue_id, "event": "corrupt", "reply": why}
        self._write_if(logging.ERROR, "qmgr", f"{queue_id}: set aside as corrupt: {clean(why)}", fields)

    # The listener.

    def rejected(
        self, client: Client, stage: str, reply: str, sender: str | None = None, recipients: Sequence[str] = (), helo: str = ""
    ) -> None:
        """A command or message was refused to the client with `reply` at `stage` (MAIL, RCPT, DATA, …).

        `sender` is None where the client has not given one yet.
        """
        if not self._logger.isEnabledFor(logging.INFO):
            return
        text = f"NOQUEUE: reject: {clean(stage)} from {clean(client.name)}[{clean(client.address)}]: {clean(reply)};"
        if sender is not None:
            text += f" from=<{_address(sender)}>"
        text += "".join(f" to=<{_address(recipient)}>" for recipient in recipients[:1])
        text += f" proto={client.protocol} helo=<{_address(helo or client.helo)}>"
        fields: dict[str, object] = {
            "event": "rejected",
            "stage": stage,
            "reply": reply,
            "client": client.address,
            "client_name": client.name,
            "listener": client.listener,
            "helo": helo or client.helo,
            "sender": sender,
            "recipients": [*recipients],
        }
        self._write(logging.INFO, "smtpd", text, fields)

    def login_failed(self, client: Client, mechanism: str, username: str, why: str = "wrong name or password") -> None:
        """A client could not log in. fail2ban finds the address by the filter in docs/logs.md; the name at the end is the client's."""
        who = f"{clean(client.name)}[{clean(client.address)}]"
        text = f"warning: {who}: SASL {clean(mechanism)} authentication failed: {clean(why)}, sasl_username={clean(username)}"
        fields: dict[str, object] = {
            "event": "login_failed",
            "client": client.address,
            "client_name": client.name,
            "listener": client.listener,
            "mechanism": mechanism,
            "sasl_username": username,
            "text": why,
        }
        self._write_if(logging.WARNING, "smtpd", text, fields)

    # Providers.

    def paused(self, provider: str, reply: str, waiting: int, mend: str, until: float | None = None) -> None:
        """A provider is not used any more until a probe (next at `until`) succeeds; said once for each pause."""
        text = f"provider {provider} paused: {clean(reply)}; {_recipients_wait(waiting)}"
        if mend:
            text += f"; {clean(mend)}"
        fields: dict[str, object] = {"event": "paused", "provider": provider, "reply": reply, "waiting": waiting, "mend": mend}
        if until is not None:
            fields["until"] = _rfc3339(until)
        self._write_if(logging.WARNING, "qmgr", text, fields)

    def resumed(self, provider: str, waiting: int) -> None:
        """A paused provider works again."""
        fields = {"event": "resumed", "provider": provider, "waiting": waiting}
        self._write_if(logging.WARNING, "qmgr", f"provider {provider} resumed; {_recipients_wait(waiting)}", fields)

    def throttled(self, provider: str, reply: str, seconds_: float) -> None:
        """A provider asked us to slow down; it is left alone for `seconds_`."""
        fields = {"event": "throttled", "provider": provider, "reply": reply, "seconds": round(seconds_, 3)}
        self._write_if(logging.WARNING, "qmgr", f"provider {provider} throttled for {seconds(seconds_)} s: {clean(reply)}", fields)

    def identity_paused(self, provider: str, identity: str, reply: str, waiting: int, mend: str) -> None:
        """A provider is not used for one identity (`domain=example.com`, `stream=outbound`) until a probe succeeds."""
        text = f"provider {provider} paused for {clean(identity)}: {clean(reply)}; {_recipients_wait(waiting)}"
        if mend:
            text += f"; {clean(mend)}"
        fields = {"event": "identity_paused", "provider": provider, "identity": identity, "reply": reply, "waiting": waiting, "mend": mend}
        self._write_if(logging.WARNING, "qmgr", text, fields)

    # The daemon.

    def spool_trouble(self, text: str) -> None:
        """The spool refuses mail; clients hear 451 or 452."""
        self._write_if(logging.ERROR, "qmgr", f"warning: spool: {clean(text)}", {"event": "spool_trouble", "text": text})

    def spool_recovered(self) -> None:
        """The spool takes mail again."""
        self._write_if(logging.WARNING, "qmgr", "spool: takes mail again", {"event": "spool_recovered"})

    def starting(self, text: str) -> None:
        """The daemon begins; `text` names version and configuration."""
        self._write_if(logging.INFO, "master", f"starting: {clean(text)}", {"event": "starting", "text": text})

    def ready(self, text: str) -> None:
        """The daemon accepts mail; `text` names the listeners."""
        self._write_if(logging.INFO, "master", f"ready: {clean(text)}", {"event": "ready", "text": text})

    def reloaded(self, text: str) -> None:
        """A changed configuration is in force; `text` says what changed."""
        self._write_if(logging.INFO, "master", f"reloaded: {clean(text)}", {"event": "reloaded", "text": text})

    def reload_refused(self, problems: Sequence[str]) -> None:
        """A changed configuration has mistakes; the old one stays in force."""
        lines = [f"reload refused, the old configuration stays: {len(problems)} mistake{'' if len(problems) == 1 else 's'}"]
        lines += [clean(line) for problem in problems for line in problem.splitlines()]
        self._write_if(logging.ERROR, "master", "\n".join(lines), {"event": "reload_refused", "problems": [*problems]})

    def stopping(self, text: str) -> None:
        """The daemon accepts nothing new and lets attempts end."""
        self._write_if(logging.INFO, "master", f"stopping: {clean(text)}", {"event": "stopping", "text": text})

    def stopped(self, text: str) -> None:
        """The daemon has ended in good order."""
        self._write_if(logging.INFO, "master", f"stopped: {clean(text)}", {"event": "stopped", "text": text})

    def warning(self, text: str, program: str = "master") -> None:
        """Something an admin should look at."""
        self._write_if(logging.WARNING, program, f"warning: {clean(text)}", {"event": "warning", "text": text})

    def bug(self, text: str, error: BaseException, program: str = "master") -> None:
        """An exception that should not have escaped: one line, then its traceback line by line."""
        trace = "".join(traceback.format_exception(error)).splitlines()
        fields = {"event": "bug", "text": text, "error": f"{type(error).__name__}: {error}", "traceback": trace}
        lines = [f"panic: {clean(text)}: {clean(f'{type(error).__name__}: {error}')}", *(clean(line) for line in trace)]
        self._write_if(logging.ERROR, program, "\n".join(lines), fields)

    def _write_if(self, level: int, program: str, text: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._write(level, program, text, dict(fields))


def _said(outcome: Outcome, held: bool, next_attempt: float | None, next_provider: str) -> str:
    """What the remote said, and what follows for a recipient that is not final."""
    reply = clean(outcome.reply)
    if outcome.maybe_relayed and "delivered twice" not in reply:
        reply += ": may be delivered twice"
    if held:
        return f"{reply}; held"
    return reply if next_attempt is None else f"{reply}; next try {_clock(next_attempt)} via {next_provider}"


def _several(recipients: Sequence[str]) -> str:
    """The first ten of them."""
    more = f" and {len(recipients) - 10} more" if len(recipients) > 10 else ""
    return ", ".join(f"to=<{_address(recipient)}>" for recipient in recipients[:10]) + more


def _recipients_wait(count: int) -> str:
    return f"{count} recipient waits" if count == 1 else f"{count} recipients wait"
