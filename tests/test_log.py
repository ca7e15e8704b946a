"""The log: lines as Postfix writes them, readable by pflogsumm; the same facts as JSON; nothing unclean, nothing secret."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest

from relay import log
from relay.model import Client, Outcome, Verdict

ID, ID2 = "687E7641C64007", "687E7641C64008"
CLIENT = Client("local", "127.0.0.1", 4711, "localhost", "web1", "ESMTP")
SENT = Outcome(
    Verdict.OK, "2.0.0", "200 MessageId=010f0190-abc", "email.eu-west-1.amazonaws.com[203.0.113.7]:443", remote_id="010f0190-abc"
)
UNKNOWN = Outcome(Verdict.UNKNOWN, "4.4.2", "no answer after the message was sent", "mail.example.net[192.0.2.1]:25")
BOUNCED = Outcome(Verdict.PERM_RCPT, "5.1.1", "422 406 InactiveRecipient: inactive", "api.postmarkapp.com[203.0.113.8]:443")
OWN = Outcome(Verdict.PERM_MSG, "5.6.3", "no provider of the route can carry it", "relay", own=True)
NOON = 1_795_176_000.0
PID = f"[{os.getpid()}]"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clock times in lines do not depend on where the tests run."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; everything is put back afterwards."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield io.StringIO()
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
    for name in (log.LOGGER, *log.NOISY):
        logging.getLogger(name).setLevel(logging.NOTSET)


def events(stream: IO[str], **options: Any) -> log.Events:
    log.setup(stream=stream, environ={}, hostname="mx.example.com", **options)
    return log.Events()


def texts(stream: io.StringIO) -> list[str]:
    """The lines without time, host and pid."""
    shape = re.compile(rf"[A-Z][a-z]{{2}} [ 1-3]\d \d\d:\d\d:\d\d mx (relay/[\w.-]+){re.escape(PID)}: (.*)")
    found = [shape.fullmatch(line) for line in stream.getvalue().splitlines()]
    return [f"{match[1]}: {match[2]}" if match else "?" for match in found]


def attempt(to: log.Events, outcome: Outcome, **options: Any) -> None:
    facts = {"provider": "ses", "route": "default", "delay": 0.84, "delays": (0.02, 0.01, 0.31, 0.5), **options}
    to.attempt(ID, "a@example.net", outcome, **facts)


TO_SES = "to=<a@example.net>, relay=email.eu-west-1.amazonaws.com[203.0.113.7]:443, delay=0.84, delays=0.02/0.01/0.31/0.5"
TO_MX = "to=<a@example.net>, relay=mail.example.net[192.0.2.1]:25, delay=0.84, delays=0.02/0.01/0.31/0.5"
FORMS: dict[str, tuple[Callable[[log.Events], None], str, dict[str, object]]] = {
    "accepted": (
        lambda e: e.accepted(ID, CLIENT),
        f"relay/smtpd: {ID}: client=localhost[127.0.0.1]",
        {"queue_id": ID, "client": "127.0.0.1", "client_name": "localhost", "listener": "local", "helo": "web1"},
    ),
    "accepted with login": (
        lambda e: e.accepted(ID, Client("local", "unix", username="app1")),
        f"relay/smtpd: {ID}: client=unknown[unix], sasl_username=app1",
        {"sasl_username": "app1"},
    ),
    "message_id": (
        lambda e: e.message_id(ID, "<abc@web1>"),
        f"relay/cleanup: {ID}: message-id=<abc@web1>",
        {"queue_id": ID, "message_id": "<abc@web1>"},
    ),
    "queued": (
        lambda e: e.queued(ID, "app@example.com", 10234, 2),
        f"relay/qmgr: {ID}: from=<app@example.com>, size=10234, nrcpt=2 (queue active)",
        {"queue_id": ID, "sender": "app@example.com", "size": 10234, "nrcpt": 2},
    ),
    "attempt sent": (
        lambda e: attempt(e, SENT),
        f"relay/ses: {ID}: {TO_SES}, dsn=2.0.0, status=sent (200 MessageId=010f0190-abc)",
        {
            "queue_id": ID,
            "recipient": "a@example.net",
            "provider": "ses",
            "route": "default",
            "relay": "email.eu-west-1.amazonaws.com[203.0.113.7]:443",
            "status": "sent",
            "dsn": "2.0.0",
            "delay": 0.84,
            "delays": [0.02, 0.01, 0.31, 0.5],
            "reply": "200 MessageId=010f0190-abc",
            "remote_id": "010f0190-abc",
            "maybe_relayed": False,
        },
    ),
    "attempt unknown": (
        lambda e: attempt(e, UNKNOWN, next_attempt=NOON),
        f"relay/ses: {ID}: {TO_MX}, dsn=4.4.2, status=deferred "
        "(no answer after the message was sent: may be delivered twice; next try 12:00:00 via ses)",
        {"level": "warning", "maybe_relayed": True, "next_attempt": "2026-11-20T12:00:00.000Z", "next_provider": "ses"},
    ),
    "attempt unknown and held": (
        lambda e: attempt(e, UNKNOWN, held=True),
        f"relay/ses: {ID}: {TO_MX}, dsn=4.4.2, status=deferred (no answer after the message was sent: may be delivered twice; held)",
        {"held": True},
    ),
    "attempt failing over": (
        lambda e: attempt(e, Outcome(Verdict.RETRY, "4.7.1", "451 wait, please", "x, y"), next_attempt=NOON, next_provider="b", delay=60.4),
        f"relay/ses: {ID}: to=<a@example.net>, relay=x? y, delay=60, delays=0.02/0.01/0.31/0.5, dsn=4.7.1, status=deferred "
        "(451 wait, please; next try 12:00:00 via b)",
        {"next_provider": "b", "relay": "x, y"},
    ),
    "attempt of our own": (
        lambda e: attempt(e, OWN, orig_to="A@example.net", provider=""),
        f"relay/qmgr: {ID}: to=<a@example.net>, orig_to=<A@example.net>, relay=none, delay=0.84, delays=0.02/0.01/0.31/0.5, "
        "dsn=5.6.3, status=bounced (no provider of the route can carry it)",
        {"relay": "relay", "orig_to": "A@example.net"},
    ),
    "maybe_twice": (
        lambda e: e.maybe_twice(ID, [f"r{n}@x" for n in range(12)], "ses", "restart"),
        f"relay/ses: {ID}: may be delivered twice by ses: restart: {', '.join(f'to=<r{n}@x>' for n in range(10))} and 2 more",
        {"level": "warning", "recipients": [f"r{n}@x" for n in range(12)], "maybe_relayed": True},
    ),
    "held": (lambda e: e.held(ID, "a@x", "by admin"), f"relay/qmgr: {ID}: to=<a@x>, status=held (by admin)", {"recipient": "a@x"}),
    "expired": (
        lambda e: e.expired(ID, "app@example.com", ["a@x"]),
        f"relay/qmgr: {ID}: from=<app@example.com>, status=expired, returned to sender",
        {"recipients": ["a@x"], "returned": True},
    ),
    "expired, nobody told": (
        lambda e: e.expired(ID, "", returned=False),
        f"relay/qmgr: {ID}: from=<>, status=expired, not returned",
        {"returned": False},
    ),
    "bounced_to": (
        lambda e: e.bounced_to(ID, ID2, "app@example.com"),
        f"relay/bounce: {ID}: sender non-delivery notification: {ID2}",
        {"bounce_id": ID2, "sender": "app@example.com"},
    ),
    "removed": (lambda e: e.removed(ID), f"relay/qmgr: {ID}: removed", {"queue_id": ID, "level": "info"}),
    "deleted": (lambda e: e.deleted(ID, 2), f"relay/qmgr: {ID}: deleted by the admin, nrcpt=2", {"nrcpt": 2}),
    "corrupt": (lambda e: e.corrupt(ID, "no body"), f"relay/qmgr: {ID}: set aside as corrupt: no body", {"level": "error"}),
    "rejected": (
        lambda e: e.rejected(CLIENT, "RCPT", "550 5.7.1 no", "a@x", ["b@y", "c@z"]),
        "relay/smtpd: NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 550 5.7.1 no; from=<a@x> to=<b@y> proto=ESMTP helo=<web1>",
        {"stage": "RCPT", "reply": "550 5.7.1 no", "sender": "a@x", "recipients": ["b@y", "c@z"], "client": "127.0.0.1"},
    ),
    "rejected early": (
        lambda e: e.rejected(CLIENT, "MAIL", "501 5.5.4 bad", helo="h"),
        "relay/smtpd: NOQUEUE: reject: MAIL from localhost[127.0.0.1]: 501 5.5.4 bad; proto=ESMTP helo=<h>",
        {"sender": None, "helo": "h"},
    ),
    "paused": (
        lambda e: e.paused("ses", "403 SignatureDoesNotMatch", 214, "mend the key, then: relay reload", NOON),
        "relay/qmgr: provider ses paused: 403 SignatureDoesNotMatch; 214 recipients wait; mend the key, then: relay reload",
        {"provider": "ses", "waiting": 214, "until": "2026-11-20T12:00:00.000Z", "level": "warning"},
    ),
    "paused, nothing to mend": (
        lambda e: e.paused("ses", "connection refused", 1, ""),
        "relay/qmgr: provider ses paused: connection refused; 1 recipient waits",
        {"mend": ""},
    ),
    "resumed": (lambda e: e.resumed("ses", 214), "relay/qmgr: provider ses resumed; 214 recipients wait", {"waiting": 214}),
    "throttled": (
        lambda e: e.throttled("ses", "429 slow down", 30.0),
        "relay/qmgr: provider ses throttled for 30 s: 429 slow down",
        {"seconds": 30.0},
    ),
    "identity_paused": (
        lambda e: e.identity_paused("postmark", "domain=example.com", "422 400 no signature", 3, "add a signature"),
        "relay/qmgr: provider postmark paused for domain=example.com: 422 400 no signature; 3 recipients wait; add a signature",
        {"identity": "domain=example.com"},
    ),
    "identity_paused, nothing to mend": (
        lambda e: e.identity_paused("postmark", "stream=x", "422", 0, ""),
        "relay/qmgr: provider postmark paused for stream=x: 422; 0 recipients wait",
        {"mend": ""},
    ),
    "spool_trouble": (lambda e: e.spool_trouble("disk full"), "relay/qmgr: warning: spool: disk full", {"level": "error"}),
    "spool_recovered": (lambda e: e.spool_recovered(), "relay/qmgr: spool: takes mail again", {"level": "warning"}),
    "starting": (lambda e: e.starting("relay 1"), "relay/master: starting: relay 1", {"text": "relay 1"}),
    "ready": (lambda e: e.ready("local"), "relay/master: ready: local", {"text": "local"}),
    "stopping": (lambda e: e.stopping("SIGTERM"), "relay/master: stopping: SIGTERM", {"text": "SIGTERM"}),
    "stopped": (lambda e: e.stopped("drained"), "relay/master: stopped: drained", {"text": "drained"}),
    "warning": (lambda e: e.warning("odd", "smtpd"), "relay/smtpd: warning: odd", {"text": "odd", "level": "warning"}),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_text_line(stream: io.StringIO, name: str) -> None:
    """Each event is one line in Postfix's shape."""
    call, text, _ = FORMS[name]
    call(events(stream))
    assert [text] == texts(stream)


@pytest.mark.parametrize("name", FORMS)
def test_a_json_line(stream: io.StringIO, name: str) -> None:
    """Each event is one object with time, level, event and its facts."""
    call, _, facts = FORMS[name]
    call(events(stream, form="json"))
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    event = re.split("[ ,]", name)[0]
    assert {"level": found["level"], **facts, "event": event} == {key: found[key] for key in ("level", *facts, "event")}
    assert ["time", "level"] == list(found)[:2]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])


def test_every_event_is_in_the_table() -> None:
    """No event is without its line here."""
    methods = {name for name in vars(log.Events) if not name.startswith("_")}
    assert methods - {"bug"} == {re.split("[ ,]", name)[0] for name in FORMS}


@pytest.mark.parametrize("name", FORMS)
def test_a_line_below_the_level_is_not_written(stream: io.StringIO, name: str) -> None:
    """level: error leaves only errors."""
    call, _, facts = FORMS[name]
    call(events(stream, level="error"))
    assert (facts.get("level") == "error") == bool(stream.getvalue())


def test_a_bug_tells_its_traceback_line_by_line(stream: io.StringIO) -> None:
    """Each line of a traceback has the shape of a log line."""
    error = ValueError("one\ntwo")
    events(stream).bug("delivery", error)
    lines = texts(stream)
    assert "relay/master: panic: delivery: ValueError: one?two" == lines[0]
    assert "relay/master: ValueError: one" in lines
    stream.truncate(0)
    stream.seek(0)
    events(stream, form="json").bug("delivery", error)
    assert ["ValueError: one", "two"] == json.loads(stream.getvalue())["traceback"]


HOSTILE = "x\r\nNov 20 10:00:00 mx relay/qmgr[1]: \x1b[2J\x00\u2028\u202e>, relay=evil<"


def test_nobody_forges_a_line(stream: io.StringIO) -> None:
    """Control characters, line ends of any kind and brackets in what others say cannot begin a line or leave their place."""
    to = events(stream)
    to.queued(ID, HOSTILE, 1, 1)
    to.accepted(ID, Client("local", HOSTILE, name=HOSTILE, helo=HOSTILE, username=HOSTILE))
    to.message_id(ID, HOSTILE)
    to.rejected(CLIENT, HOSTILE, HOSTILE, HOSTILE, [HOSTILE], HOSTILE)
    attempt(to, Outcome(Verdict.RETRY, "4.0.0", HOSTILE, HOSTILE))
    to.paused("ses", HOSTILE, 1, HOSTILE)
    lines = texts(stream)
    assert 6 == len(lines)
    assert all(line.isprintable() for line in lines)
    assert "from=<x??Nov 20 10:00:00 mx relay/qmgr[1]: ?[2J????, relay=evil?>, size=1" in lines[0]


def test_a_long_text_is_capped(stream: io.StringIO) -> None:
    """A provider that answers a book fills neither the text nor the JSON log."""
    endless = Outcome(Verdict.RETRY, "4.0.0", "z" * 100_000, "x")
    attempt(events(stream), endless)
    assert len(stream.getvalue()) < 1500
    stream.truncate(0)
    stream.seek(0)
    to = events(stream, form="json")
    attempt(to, endless)
    to.expired(ID, "", [f"recipient{n}@example.com" for n in range(1000)])
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert ("z" * 997 + "...", 101, "and 900 more") == (first["reply"], len(second["recipients"]), second["recipients"][-1])


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_blotted_out(stream: io.StringIO, form: str) -> None:
    """A provider that echoes the token does not bring it into the log; a word too short to be a secret stays."""
    to = events(stream, form=form, secrets=['canary"secret-0000', "relay"])
    attempt(to, Outcome(Verdict.PAUSE, "4.7.8", 'bad token canary"secret-0000', "relay.example.net"))
    assert "canary" not in stream.getvalue()
    assert "bad token [secret]" in stream.getvalue()
    assert "relay.example.net" in stream.getvalue()


def test_libraries_are_heard_from_warnings_on(stream: io.StringIO) -> None:
    """httpx logs whole URLs at INFO: not here. Its warnings come in our form, exceptions in one phrase."""
    events(stream)
    for name in log.NOISY:
        logging.getLogger(name).info("GET https://x/?token=%s", "secret")
    assert "" == stream.getvalue()
    logging.getLogger("asyncio").error("odd: %s", "a\nb", exc_info=ValueError("why"))
    logging.getLogger("relay.other").info("by hand")
    assert [
        "relay/master: warning: asyncio: odd: a?b (ValueError: why)",
        "relay/master: relay.other: by hand",
    ] == texts(stream)
    stream.truncate(0)
    stream.seek(0)
    events(stream, form="json")
    logging.getLogger("uvicorn").warning("hm")
    found = json.loads(stream.getvalue())
    assert ("library", "uvicorn", "hm") == (found["event"], found["logger"], found["text"])


def test_a_library_that_logs_wrongly_is_still_heard() -> None:
    """Arguments that do not fit their format leave the format."""
    record = logging.LogRecord("aiosmtplib", logging.WARNING, "", 0, "%d", ("not a number",), None)
    assert log.TextFormatter(host="mx", journal=False).format(record).endswith(f" mx relay/master{PID}: warning: aiosmtplib: %d")


def test_under_the_journal_there_is_no_time_and_no_host(tmp_path: Any) -> None:
    """The journal knows them; it gets the priority instead. Only when the variable really means this stream."""
    with (tmp_path / "log").open("w+") as file:
        status = os.fstat(file.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert log.under_journal(file, environ)
        assert not log.under_journal(file, {"JOURNAL_STREAM": "1:2"})
        assert not log.under_journal(io.StringIO(), environ)
        record = logging.LogRecord("relay", logging.WARNING, "", 0, "a\nb", None, None)
        record.program = "qmgr"
        line = log.TextFormatter(host="mx", journal=True).format(record)
        assert f"<4>relay/qmgr{PID}: a\n<4>relay/qmgr{PID}: b" == line


def test_a_second_setup_replaces_the_first(stream: io.StringIO) -> None:
    """One handler, whatever is called how often."""
    events(io.StringIO())
    events(stream).removed(ID)
    assert 1 == len(stream.getvalue().splitlines())


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    """A closed pipe behind standard error is no reason to raise."""
    stream = io.StringIO()
    to = events(stream)
    stream.close()
    to.removed(ID)
    log.setup(stream=io.StringIO(), environ={})


@pytest.fixture
def pipe(stream: io.StringIO) -> Iterator[tuple[io.BufferedReader, IO[str]]]:
    """A real pipe: the end that reads, without waiting, and the end that a log writes to."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(reading, "rb") as reader, open(writing, "w") as writer:
        yield reader, writer


def numbered(to: log.Events, first: int, count: int, text: str = "") -> None:
    for number in range(first, first + count):
        to.warning(f"line {number} {text}")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_that_nobody_reads_stops_nothing(pipe: tuple[io.BufferedReader, IO[str]], form: str) -> None:
    """What a full pipe cannot take is dropped; when somebody reads on, one line says how many, and nothing is torn."""
    reader, writer = pipe
    to = events(writer, form=form)
    numbered(to, 0, 3000, "é" * 50)
    kept = reader.read().decode().splitlines()
    assert 0 < len(kept) < 3000
    numbered(to, 3000, 2)
    missing, *after = reader.read().decode().splitlines()
    assert f"{3000 - len(kept)} log lines are missing here: nobody read the log" in missing
    assert "warning" in missing
    assert [f"line {number}" for number in (*range(len(kept)), 3000, 3001)] == [
        found[0] for line in (*kept, *after) if (found := re.search(r"line \d+", line))
    ]


@pytest.mark.timeout(20)
def test_a_long_line_that_a_pipe_takes_only_in_part_spoils_no_other(pipe: tuple[io.BufferedReader, IO[str]]) -> None:
    """More than PIPE_BUF octets go in pieces; a line cut off is counted, and the next one begins at a line's begin."""
    reader, writer = pipe
    to = events(writer, form="json")
    many = [f"recipient{number}@{'example' * 10}.net" for number in range(100)]
    to.expired(ID, "", many)
    assert many == json.loads(reader.read())["recipients"]
    for _ in range(100):
        to.expired(ID, "", many)
    first = reader.read().splitlines()
    assert first[-1] != first[0]
    to.removed(ID)
    end, missing, last = reader.read().decode().splitlines()
    assert ("", f"{101 - len(first)} log lines are missing here: nobody read the log") == (end, json.loads(missing)["text"])
    assert "removed" == json.loads(last)["event"]


@pytest.mark.timeout(20)
def test_a_traceback_goes_through_a_pipe_line_by_line(pipe: tuple[io.BufferedReader, IO[str]]) -> None:
    """A text of many lines that is longer than PIPE_BUF arrives whole."""
    reader, writer = pipe
    error = ValueError("\n".join(["x" * 200] * 50))
    events(writer).bug("delivery", error)
    lines = reader.read().decode().splitlines()
    assert 50 < len(lines)
    assert all(" relay/master[" in line for line in lines)


class Unspeakable:
    """A library's argument that cannot be written."""

    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.timeout(20)
def test_a_pipe_without_a_reader_and_a_socket(pipe: tuple[io.BufferedReader, IO[str]]) -> None:
    """A reader that went away is no reason to raise; a socket, as the journal's, is written to like a pipe."""
    reader, writer = pipe
    to = events(writer)
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "%s", (Unspeakable(),), None)
    logging.getLogger().handlers[-1].handle(record)
    assert None is reader.read()
    reader.close()
    to.removed(ID)
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("w") as file:
        to = events(file)
        numbered(to, 0, 5000, "x" * 100)
        assert f"relay/master{PID}: warning: line 0 xxx" in theirs.recv(10_000).decode()


def test_events_work_without_setup(caplog: pytest.LogCaptureFixture) -> None:
    """Tests of other rooms may look at the records."""
    caplog.set_level(logging.INFO, logger=log.LOGGER)
    log.Events().removed(ID)
    (record,) = caplog.records
    assert {"queue_id": ID, "event": "removed"} == vars(record)["fields"]


DELAYS = {
    0.0: "0",
    -1.0: "0",
    0.004: "0",
    0.006: "0.01",
    0.5: "0.5",
    0.84: "0.84",
    1.0: "1",
    1.26: "1.3",
    9.94: "9.9",
    60.4: "60",
    1e6: "1000000",
}


@pytest.mark.parametrize("value", DELAYS)
def test_delays_have_two_digits(value: float) -> None:
    """As Postfix prints them."""
    assert DELAYS[value] == log.seconds(value)


@pytest.mark.skipif(shutil.which("pflogsumm") is None, reason="pflogsumm is not installed")
def test_pflogsumm_counts_our_lines(stream: io.StringIO) -> None:
    """Stock pflogsumm, told only our name, counts what was received, delivered, deferred, bounced and rejected."""
    to = events(stream)
    for queue_id in (ID, ID2):
        to.accepted(queue_id, CLIENT)
        to.message_id(queue_id, "<abc@web1>")
        to.queued(queue_id, "app@example.com", 10234, 2)
    attempt(to, SENT)
    to.attempt(ID, "b@example.org", UNKNOWN, provider="ses", route="default", delay=1, next_attempt=NOON)
    to.attempt(ID, "b@example.org", SENT, provider="ses", route="default", delay=61)
    to.removed(ID)
    to.attempt(ID2, "c@example.org", BOUNCED, provider="postmark", route="default", delay=0.9)
    to.bounced_to(ID2, "687E7641C64009", "app@example.com")
    to.removed(ID2)
    to.rejected(CLIENT, "RCPT", "553 5.1.3 bad recipient syntax", "app@example.com", ["b@y"])
    to.paused("ses", "403 no", 1, "mend it")
    to.maybe_twice(ID, ["b@example.org"], "ses", "restart")
    to.expired(ID, "app@example.com")
    to.warning("disk is slow")
    to.ready("local")
    answer = subprocess.run(
        ["pflogsumm", "--syslog_name=relay"], input=stream.getvalue(), capture_output=True, text=True, check=True, timeout=60
    ).stdout
    totals = {
        name: int(number)
        for number, name in re.findall(r"^ +(\d+) +(received|delivered|deferred|bounced|rejected)\b", answer, re.MULTILINE)
    }
    assert {"received": 2, "delivered": 2, "deferred": 1, "bounced": 1, "rejected": 1} == totals
    assert "InactiveRecipient" in answer
    assert "api.postmarkapp.com[203.0.113.8]:443" in answer
    assert "disk is slow" in answer
