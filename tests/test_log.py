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
from collections.abc import Iterator
from typing import IO, Any

import pytest

from relay import log
from relay.log.handler import Handler
from relay.model import Client, Outcome, Verdict
from tests.logs import BOUNCED, CLIENT, FORMS, HOSTILE, ID, ID2, NOON, PID, SENT, UNKNOWN, attempt, event_of, events, texts, undone


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clock times in lines do not depend on where the tests run."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; everything is put back afterwards."""
    with undone():
        yield io.StringIO()


@pytest.mark.parametrize("name", FORMS)
def test_a_text_line(stream: io.StringIO, name: str) -> None:
    """Each event is one line in Postfix's shape."""
    call, text, _ = FORMS[name]
    call(events(stream))
    assert text.splitlines() == texts(stream)


@pytest.mark.parametrize("name", FORMS)
def test_a_json_line(stream: io.StringIO, name: str) -> None:
    """Each event is one object with time, level, event and its facts."""
    call, _, facts = FORMS[name]
    call(events(stream, form="json"))
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    event = event_of(name)
    assert {"level": found["level"], **facts, "event": event} == {key: found[key] for key in ("level", *facts, "event")}
    assert ["time", "level"] == list(found)[:2]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])


def test_every_event_is_in_the_table() -> None:
    """No event is without its line here."""
    methods = {name for name in dir(log.Events) if not name.startswith("_")}
    assert methods - {"bug"} == {event_of(name) for name in FORMS}


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


def test_a_second_setup_changes_level_form_secrets_and_mask(stream: io.StringIO) -> None:
    """From the next line on, for those who hold an Events already; the handler stays the same one."""
    to = events(stream, level="warning")
    [before] = [handler for handler in logging.getLogger().handlers if isinstance(handler, Handler)]
    to.removed(ID)
    to.warning("fake-secret-0000 for a@example.net")
    events(stream, form="json", secrets=["fake-secret-0000"], mask="local")
    to.removed(ID)
    to.warning("fake-secret-0000 for a@example.net")
    first, second, third = stream.getvalue().splitlines()
    assert first.endswith("warning: fake-secret-0000 for a@example.net")
    assert "removed" == json.loads(second)["event"]
    assert "[secret] for *@example.net" == json.loads(third)["text"]
    assert [before] == [handler for handler in logging.getLogger().handlers if isinstance(handler, Handler)]


def test_a_handler_without_a_sink_keeps_quiet(stream: io.StringIO) -> None:
    """Before the first setup there is nowhere to write to."""
    handler = Handler()
    handler.handle(logging.LogRecord("relay", logging.INFO, "", 0, "x", None, None))
    handler.close()


def test_a_log_that_cannot_be_written_stops_nothing(stream: io.StringIO) -> None:
    """A closed pipe behind standard error is no reason to raise."""
    to = events(stream)
    stream.close()
    to.removed(ID)


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
def test_a_second_setup_still_tells_what_is_missing(pipe: tuple[io.BufferedReader, IO[str]]) -> None:
    """A reload while nobody reads forgets neither the count nor that the last line was torn."""
    reader, writer = pipe
    to, many = events(writer, form="json"), [f"recipient{number}@{'example' * 10}.net" for number in range(100)]
    for _ in range(100):
        to.expired(ID, "", many)
    events(writer)
    to.removed(ID)
    kept = reader.read().splitlines()
    to.removed(ID)
    end, missing, last = reader.read().decode().splitlines()
    assert ("", True) == (end, missing.endswith(f"warning: {102 - len(kept)} log lines are missing here: nobody read the log"))
    assert last.endswith(f"{ID}: removed")


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
    [handler] = [handler for handler in logging.getLogger().handlers if isinstance(handler, Handler)]
    handler.handle(record)
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


def test_fail2ban_finds_the_address_of_a_failed_login(stream: io.StringIO) -> None:
    """The words that its filter for Postfix's SASL failures looks for, whatever the name given holds."""
    client = Client("public", "192.0.2.7", name="unknown")
    to = events(stream)
    to.login_failed(client, "LOGIN", "x[198.51.100.1]: SASL LOGIN authentication failed: ")
    to.login_failed(client, "CRAM-MD5", HOSTILE)
    for line in texts(stream):
        found = re.match(
            r"relay/smtpd: warning: [^[]*\[([\d.]+)\](?::\d+)?: SASL (?:LOGIN|PLAIN|CRAM-MD5) authentication failed: (?!Connection lost)",
            line,
        )
        assert found is not None
        assert "192.0.2.7" == found[1]


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
    for name in ("suspected", "exhausted", "stepped_back", "shadowed", "shadow_answered", "spilled", "rerouted", "alerted"):
        FORMS[name][0](to)
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
