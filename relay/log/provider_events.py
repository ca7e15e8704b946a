"""What the log tells of providers: paused, back, throttled, used up."""

from __future__ import annotations

import logging

from relay.log.words import Writer, clean, recipients_wait, rfc3339, seconds


class ProviderEvents(Writer):
    """The standing of providers, and what is learned of them."""

    def paused(self, provider: str, reply: str, waiting: int, mend: str, until: float | None = None) -> None:
        """A provider is not used any more until a probe (next at `until`) succeeds; said once for each pause."""
        text = f"provider {provider} paused: {clean(reply)}; {recipients_wait(waiting)}"
        if mend:
            text += f"; {clean(mend)}"
        fields: dict[str, object] = {"event": "paused", "provider": provider, "reply": reply, "waiting": waiting, "mend": mend}
        if until is not None:
            fields["until"] = rfc3339(until)
        self._write_if(logging.WARNING, "qmgr", text, fields)

    def resumed(self, provider: str, waiting: int) -> None:
        """A paused provider works again."""
        fields = {"event": "resumed", "provider": provider, "waiting": waiting}
        self._write_if(logging.WARNING, "qmgr", f"provider {provider} resumed; {recipients_wait(waiting)}", fields)

    def throttled(self, provider: str, reply: str, seconds_: float) -> None:
        """A provider asked us to slow down; it is left alone for `seconds_`."""
        fields = {"event": "throttled", "provider": provider, "reply": reply, "seconds": round(seconds_, 3)}
        self._write_if(logging.WARNING, "qmgr", f"provider {provider} throttled for {seconds(seconds_)} s: {clean(reply)}", fields)

    def identity_paused(self, provider: str, identity: str, reply: str, waiting: int, mend: str) -> None:
        """A provider is not used for one identity (`domain=example.com`, `stream=outbound`) until a probe succeeds."""
        text = f"provider {provider} paused for {clean(identity)}: {clean(reply)}; {recipients_wait(waiting)}"
        if mend:
            text += f"; {clean(mend)}"
        fields = {"event": "identity_paused", "provider": provider, "identity": identity, "reply": reply, "waiting": waiting, "mend": mend}
        self._write_if(logging.WARNING, "qmgr", text, fields)

    def suspected(self, provider: str, identity: str, queue_id: str, reply: str) -> None:
        """A provider gave a message a finding about itself (or one `identity`): that message waits. The second message pauses it."""
        text = f"{queue_id}: provider {provider}{_for(identity)} suspected: {clean(reply)}; this message waits, one more such pauses it"
        fields = {"queue_id": queue_id, "event": "suspected", "provider": provider, "identity": identity, "reply": reply}
        self._write_if(logging.WARNING, "qmgr", text, fields)

    def paused_by_admin(self, provider: str, why: str, waiting: int) -> None:
        """An admin paused a provider. `why` may be ""."""
        text = f"provider {provider} paused by the admin{f': {clean(why)}' if why else ''}; {recipients_wait(waiting)}"
        fields = {"event": "paused_by_admin", "provider": provider, "text": why, "waiting": waiting}
        self._write_if(logging.WARNING, "qmgr", f"{text}; to end it: relay provider resume {provider}", fields)

    def resumed_by_admin(self, provider: str, waiting: int) -> None:
        """An admin ended a pause."""
        fields = {"event": "resumed_by_admin", "provider": provider, "waiting": waiting}
        self._write_if(logging.WARNING, "qmgr", f"provider {provider} resumed by the admin; {recipients_wait(waiting)}", fields)

    def exhausted(self, provider: str, what: str, until: float | None, waiting: int) -> None:
        """A quota of a provider is used up; said once. `what` is one phrase, `until` the time from which it has room again."""
        fields: dict[str, object] = {"event": "exhausted", "provider": provider, "text": what, "waiting": waiting}
        text = f"provider {provider} exhausted: {clean(what)}"
        if until is not None:
            fields["until"] = rfc3339(until)
            text += f"; until {fields['until']}"
        self._write_if(logging.WARNING, "qmgr", f"{text}; {recipients_wait(waiting)}", fields)

    def replenished(self, provider: str) -> None:
        """A quota that was used up has room again."""
        fields = {"event": "replenished", "provider": provider}
        self._write_if(logging.WARNING, "qmgr", f"provider {provider} replenished: its quota has room again", fields)

    def quota_read(self, provider: str, quota: str) -> None:
        """What an account says of its own limits, where that is new."""
        fields = {"event": "quota_read", "provider": provider, "text": quota}
        self._write_if(logging.INFO, "qmgr", f"provider {provider} quota: {clean(quota)}", fields)

    def quota_unread(self, provider: str, why: str) -> None:
        """An account does not say what its limits are."""
        fields = {"event": "quota_unread", "provider": provider, "text": why}
        self._write_if(logging.WARNING, "qmgr", f"warning: the quota of provider {provider} cannot be read: {clean(why)}", fields)

    def stepped_back(self, route: str, why: str, before: str, after: str) -> None:
        """A ramp went back, because its newcomer refuses or defers too much. `before` and `after` are shares in words."""
        text = f"route {clean(route)} stepped back from {clean(before)} to {clean(after)}: {clean(why)}"
        fields = {"event": "stepped_back", "route": route, "text": why, "before": before, "after": after}
        self._write_if(logging.WARNING, "qmgr", text, fields)

    def shadows_dropped(self, provider: str, count: int) -> None:
        """So many messages were not built for the shadow, because too many were under way, or it is too slow."""
        text = (
            f"warning: {count} message{'' if count == 1 else 's'} not tried with the shadow {provider}: too many at once, or it is too slow"
        )
        self._write_if(logging.WARNING, "qmgr", text, {"event": "shadows_dropped", "provider": provider, "count": count})

    def alerted(self, alert_id: str, to: str, provider: str) -> None:
        """A mail to the postmaster about a provider (or a route's ramp) is stored as `alert_id`."""
        fields = {"queue_id": alert_id, "event": "alerted", "recipient": to, "provider": provider}
        self._write_if(logging.INFO, "bounce", f"{alert_id}: postmaster alert on {clean(provider)}", fields)


def _for(identity: str) -> str:
    return f" for {clean(identity)}" if identity else ""
