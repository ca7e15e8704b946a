"""The log: one method for each thing worth telling, one line each, in the shape that Postfix made known.

Text lines read like Postfix's, so that grok patterns and `pflogsumm --syslog_name=relay` understand them; JSON lines
carry the same facts as fields (docs/logs.md lists every event). Rooms call `Events`; nobody else in the package formats
a log line. `Events()` works without `setup()`: its lines then go where the logger `relay` sends them.

Whatever a client or a provider said is stripped of control characters and capped before it is written, and configured
secrets are blotted out of every line. Logging never raises into the caller and never waits: a line that cannot be
written is dropped. Where the log is a pipe or a socket whose reader has stopped reading, lines are dropped until it reads
on, and then one line says how many; files and terminals are simply written to.
"""

from __future__ import annotations

import json
import logging
import os
import select
import stat
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from relay import sockets
from relay.model import Client, Kind, Outcome

LOGGER = "relay"
NOISY = ("httpx", "httpcore", "mail.log", "uvicorn", "uvicorn.access", "uvicorn.error", "asyncio", "aiosmtplib")
LONGEST = 1000  # characters kept of one text that came from outside
MOST = 100  # items kept of one list
SHORTEST_SECRET = 6  # a shorter "secret" would blot out ordinary words

_STATUS_WORD = {Kind.RELAYED: "sent", Kind.DEFERRED: "deferred", Kind.FAILED: "bounced"}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PRIORITY = {logging.DEBUG: "<7>", logging.INFO: "<6>", logging.WARNING: "<4>", logging.ERROR: "<3>"}  # sd-daemon(3)


def clean(text: str) -> str:
    """One printable line of bounded length: what is not printable becomes `?`."""
    if len(text) > LONGEST:
        text = text[: LONGEST - 3] + "..."
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


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
        to = ", ".join(f"to=<{_address(recipient)}>" for recipient in recipients[:10])
        more = f" and {len(recipients) - 10} more" if len(recipients) > 10 else ""
        text = f"{queue_id}: may be delivered twice by {provider}: {clean(why)}: {to}{more}"
        fields = {"queue_id": queue_id, "event": "maybe_twice", "recipients": [*recipients], "provider": provider, "reply": why}
        self._write_if(logging.WARNING, provider or "qmgr", text, {**fields, "maybe_relayed": True})

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

    def removed(self, queue_id: str) -> None:
        """An entry is finished."""
        if self._logger.isEnabledFor(logging.INFO):
            self._write(logging.INFO, "qmgr", f"{queue_id}: removed", {"queue_id": queue_id, "event": "removed"})

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


def _recipients_wait(count: int) -> str:
    return f"{count} recipient waits" if count == 1 else f"{count} recipients wait"


class TextFormatter(logging.Formatter):
    """`Nov 20 17:57:01 host relay/smtpd[812]: …`; under the journal, which knows time and host, `<6>relay/smtpd[812]: …`."""

    def __init__(self, *, host: str, journal: bool) -> None:
        super().__init__()
        self._host = host
        self._journal = journal
        self._pid = os.getpid()
        self._stamp = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """The whole line, or lines, without the last line end."""
        program = getattr(record, "program", None)
        if program is None:  # a library's record
            text = clean(_library_text(record))
            text = f"warning: {record.name}: {text}" if record.levelno >= logging.WARNING else f"{record.name}: {text}"
        else:
            text = record.msg
        head = f"{self._before(record)}relay/{program or 'master'}[{self._pid}]: "
        if "\n" in text:
            text = text.replace("\n", f"\n{head}")
        return head + text

    def _before(self, record: logging.LogRecord) -> str:
        if self._journal:
            return _PRIORITY.get(record.levelno, "<5>")
        second = int(record.created)
        if self._stamp[0] != second:
            parts = time.localtime(second)
            self._stamp = (second, f"{time.strftime('%b', parts)} {parts.tm_mday:2d} {time.strftime('%H:%M:%S', parts)} {self._host} ")
        return self._stamp[1]


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, then the facts of the event."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(ensure_ascii=True, separators=(", ", ": "), default=str).encode
        self._stamp = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """The object; it holds no line end and no raw control character (JSON escapes them)."""
        second = int(record.created)
        if self._stamp[0] != second:
            self._stamp = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        fields: dict[str, object] | None = getattr(record, "fields", None)
        if fields is None:
            fields = {"event": "library", "logger": record.name, "text": _library_text(record)}
        stamp = f"{self._stamp[1]}.{int(record.msecs):03d}Z"
        whole = {"time": stamp, "level": record.levelname.lower(), **fields}
        line = self._encode(whole)
        if len(line) > 4 * LONGEST:  # seldom: looking at the line once is cheaper than at every field
            line = self._encode({key: _capped(value) for key, value in whole.items()})
        return line


def _capped(value: object) -> object:
    if isinstance(value, str) and len(value) > LONGEST:
        return value[: LONGEST - 3] + "..."
    if isinstance(value, list) and len(value) > MOST:
        return [*value[:MOST], f"and {len(value) - MOST} more"]
    return value


def _library_text(record: logging.LogRecord) -> str:
    """What a library logged, with the exception in one phrase: its traceback is not for the admin."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit the library's own format
        text = str(record.msg)
    if record.exc_info and record.exc_info[1] is not None:
        text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
    return text


class _Pipe:
    """Writes lines to a pipe or a socket, each only when that needs no waiting.

    A pipe that poll(2) calls writable takes PIPE_BUF octets at once (pipe(7)); a socket takes more than that.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._torn = False  # the last line written lacks its end

    def write(self, text: str) -> int:
        """How many lines of `text` could not be written."""
        data, sent = b"\n" * self._torn + text.encode("utf-8", "backslashreplace") + b"\n", 0
        while sent < len(data):
            piece = _piece(data, sent)
            written = self._put(piece)
            sent += written
            if written < len(piece):
                return min(text.count("\n") + 1, data.count(b"\n", sent))
        return 0

    def _put(self, piece: bytes) -> int:
        """How many octets were written."""
        if not self._poll.poll(0):
            return 0
        try:
            written = os.write(self._fd, piece)
        except OSError:  # nobody will ever read it, or somebody else filled it just now
            return 0
        self._torn = not piece[:written].endswith(b"\n")
        return written


def _piece(data: bytes, start: int) -> bytes:
    """What of `data` is written next, from `start` on: as many whole lines as a pipe takes at once, or a part of a longer line."""
    most = start + select.PIPE_BUF
    end = len(data) if len(data) <= most else data.rfind(b"\n", start, most) + 1 or most
    return data[start:end]


def _pipe(stream: IO[str]) -> _Pipe | None:
    """The pipe or socket that `stream` writes to, if it does."""
    try:
        fd = stream.fileno()
        mode = os.fstat(fd).st_mode
    except (OSError, ValueError):  # not a file (io.UnsupportedOperation is both), or closed
        return None
    return _Pipe(fd) if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


class _Handler(logging.StreamHandler[IO[str]]):
    """Writes lines to the stream, secrets blotted out."""

    def __init__(self, stream: IO[str], secrets: Iterable[str]) -> None:
        super().__init__(stream)
        self._pipe = _pipe(stream)
        self._dropped = 0  # lines, since the log last said so
        plain = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        escaped = {json.dumps(secret)[1:-1] for secret in plain}
        self._secrets = tuple(sorted(plain | escaped, key=len, reverse=True))

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        for secret in self._secrets:
            if secret in line:
                line = line.replace(secret, "[secret]")
        return line

    def emit(self, record: logging.LogRecord) -> None:
        if self._pipe is None:
            super().emit(record)
            return
        try:
            text = self.format(record)
            if self._dropped and not self._pipe.write(self.format(_missing(self._dropped))):
                self._dropped = 0
            self._dropped += text.count("\n") + 1 if self._dropped else self._pipe.write(text)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written must not stop the mail, and there is nowhere left to say so."""


def _missing(count: int) -> logging.LogRecord:
    """The warning that so many lines are missing here."""
    text = f"{count} log lines are missing here: nobody read the log"
    record = logging.LogRecord(LOGGER, logging.WARNING, "", 0, f"warning: {text}", None, None)
    record.program = "master"
    record.fields = {"event": "warning", "text": text}
    return record


def under_journal(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether `stream` is connected to the journal: $JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # not a file (io.UnsupportedOperation is both), or closed
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def setup(
    *, stream: IO[str], environ: Mapping[str, str], level: str = "info", form: str = "auto", hostname: str = "", secrets: Iterable[str] = ()
) -> None:
    """Send our lines, and the libraries' warnings, to `stream`. A second call replaces the first.

    `level` is debug, info, warning or error; `form` is auto, text or json (auto: text, without time and host under the
    journal). `secrets` are blotted out of every line.
    """
    handler = _Handler(stream, secrets)
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        host = (hostname or sockets.hostname()).partition(".")[0]
        handler.setFormatter(TextFormatter(host=host, journal=under_journal(stream, environ)))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger(LOGGER).setLevel(_LEVELS[level])
    for name in NOISY:  # some of them log whole requests, with their query, at INFO
        logging.getLogger(name).setLevel(logging.WARNING)
