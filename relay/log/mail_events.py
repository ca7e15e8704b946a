"""What the log tells of a message's life: accepted, tried, told, removed; and what an admin did to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from relay.log.words import Writer, address, clean, clock, rfc3339, seconds, several
from relay.model import Client, Kind, Outcome

_STATUS_WORD = {Kind.RELAYED: "sent", Kind.DEFERRED: "deferred", Kind.FAILED: "bounced"}


class MailEvents(Writer):
    """A message's life."""

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
            text = f"{queue_id}: from=<{address(sender)}>, size={size}, nrcpt={nrcpt} (queue active)"
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
        redirected: str = "",
    ) -> None:
        """What became of one recipient: sent, deferred or bounced.

        `delay` counts since the message came in; `delays` are before the queue, in the queue, connecting, sending.
        `next_attempt` and `next_provider` (default: the same one) say what follows a deferral. That an outcome without
        an answer may be delivered twice is added here; `outcome.reply` need not say it. `redirected` is the address that really
        got the mail, in place of `recipient`.
        """
        level = logging.WARNING if outcome.maybe_relayed else logging.INFO
        if not self._logger.isEnabledFor(level):
            return
        status = _STATUS_WORD[outcome.kind]
        remote = "none" if outcome.own and outcome.remote == "relay" else clean(outcome.remote).replace(",", "?")
        reply = _said(outcome, held, next_attempt, next_provider or provider)
        original = orig_to or (recipient if redirected else "")
        orig = f"orig_to=<{address(original)}>, " if original else ""
        text = (
            f"{queue_id}: to=<{address(redirected or recipient)}>, {orig}relay={remote}, delay={seconds(delay)}, "
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
        if redirected:
            fields["redirected_to"] = redirected
        if held:
            fields["held"] = True
        elif next_attempt is not None:
            fields["next_attempt"] = rfc3339(next_attempt)
            fields["next_provider"] = next_provider or provider
        self._write(level, provider or "qmgr", text, fields)

    def maybe_twice(self, queue_id: str, recipients: Sequence[str], provider: str, why: str) -> None:
        """These recipients may get the message twice: an attempt ended without an answer, or a restart cut it off."""
        text = f"{queue_id}: may be delivered twice by {provider}: {clean(why)}: {several(recipients)}"
        fields = {"queue_id": queue_id, "event": "maybe_twice", "recipients": [*recipients], "provider": provider, "reply": why}
        self._write_if(logging.WARNING, provider or "qmgr", text, {**fields, "maybe_relayed": True})

    def passed_over(self, queue_id: str, provider: str, why: str) -> None:
        """A provider of the route cannot carry a message, so that the next one is asked."""
        fields = {"queue_id": queue_id, "event": "passed_over", "provider": provider, "reply": why}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: passed over {provider}, which cannot carry it: {clean(why)}", fields)

    def spilled(self, queue_id: str, provider: str, next_provider: str, why: str) -> None:
        """A provider has no room for a message now, and its route lets it go by the next one."""
        fields = {"queue_id": queue_id, "event": "spilled", "provider": provider, "next_provider": next_provider, "reply": why}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: spilled from {provider} to {next_provider}: {clean(why)}", fields)

    def shadowed(self, queue_id: str, provider: str, route: str, refused: Sequence[str], losses: Sequence[str]) -> None:
        """The provider that a route's mail is built for on trial would refuse a message, or lose something of it."""
        found = f"would refuse it: {_list(refused)}" if refused else f"would lose: {_list(losses)}"
        fields = {"queue_id": queue_id, "event": "shadowed", "provider": provider, "route": route}
        lists = {"refused": [*refused], "losses": [*losses]}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: {provider} {found}", {**fields, **lists})

    def shadow_answered(self, queue_id: str, provider: str, outcome_text: str, ok: bool) -> None:
        """The sandbox of a route's shadow answered for a message; of the message itself this says nothing."""
        said = "took it" if ok else "did not take it"
        fields = {"queue_id": queue_id, "event": "shadow_answered", "provider": provider, "reply": outcome_text, "ok": ok}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: the sandbox {provider} {said}: {clean(outcome_text)}", fields)

    def held(self, queue_id: str, recipient: str, why: str) -> None:
        """A recipient waits for an admin."""
        fields = {"queue_id": queue_id, "event": "held", "recipient": recipient, "reply": why}
        self._write_if(logging.WARNING, "qmgr", f"{queue_id}: to=<{address(recipient)}>, status=held ({clean(why)})", fields)

    def expired(self, queue_id: str, sender: str, recipients: Sequence[str] = (), *, returned: bool = True) -> None:
        """Recipients are given up because the time is over; `returned` says whether a bounce goes to the sender."""
        text = f"{queue_id}: from=<{address(sender)}>, status=expired, {'returned to sender' if returned else 'not returned'}"
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
            text = f"warning: {queue_id}: undeliverable bounce discarded: {several(recipients)}: {clean(why)}"
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

    def rerouted(self, queue_id: str, count: int, via: Sequence[str]) -> None:
        """An admin sent recipients by other providers."""
        fields = {"queue_id": queue_id, "event": "rerouted", "nrcpt": count, "via": [*via]}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: rerouted by the admin to {', '.join(via)}, nrcpt={count}", fields)

    def bounced_by_admin(self, queue_id: str, count: int, why: str) -> None:
        """An admin gave recipients up; their sender is told."""
        fields = {"queue_id": queue_id, "event": "bounced_by_admin", "nrcpt": count, "text": why}
        self._write_if(logging.INFO, "qmgr", f"{queue_id}: bounced by the admin, nrcpt={count}: {clean(why)}", fields)

    def corrupt(self, queue_id: str, why: str) -> None:
        """An entry cannot be read; it is set aside and kept."""
        fields = {"queue_id": queue_id, "event": "corrupt", "reply": why}
        self._write_if(logging.ERROR, "qmgr", f"{queue_id}: set aside as corrupt: {clean(why)}", fields)


def _said(outcome: Outcome, held: bool, next_attempt: float | None, next_provider: str) -> str:
    """What the remote said, and what follows for a recipient that is not final."""
    reply = clean(outcome.reply)
    if outcome.maybe_relayed and "delivered twice" not in reply:
        reply += ": may be delivered twice"
    if held:
        return f"{reply}; held"
    return reply if next_attempt is None else f"{reply}; next try {clock(next_attempt)} via {next_provider}"


def _list(texts: Sequence[str]) -> str:
    return clean("; ".join(texts))
