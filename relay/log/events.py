"""What the rooms tell the log: one method for each thing worth telling, in Postfix's words.

Each method makes one record (relay/log/words.py); docs/log.schema.json has the fields of all of them.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

from relay.log.mail_events import MailEvents
from relay.log.provider_events import ProviderEvents
from relay.log.words import address, clean
from relay.model import Client


class Events(MailEvents, ProviderEvents):
    """What the rooms tell the log. One method per event; each writes one line and returns nothing.

    Times are Unix seconds, delays are seconds. Texts from clients and providers may be passed as they came.
    """

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
            text += f" from=<{address(sender)}>"
        text += "".join(f" to=<{address(recipient)}>" for recipient in recipients[:1])
        text += f" proto={client.protocol} helo=<{address(helo or client.helo)}>"
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
