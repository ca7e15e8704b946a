"""The journal's protocol, read back as journald reads it; and when the log goes there."""

from __future__ import annotations

import array
import fcntl
import io
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay import log
from relay.log import journald
from relay.log.handler import Handler
from tests.logs import CLIENT, FORMS, HOSTILE, ID, SENT, attempt, texts, undone

Fields = list[tuple[str, str]]


class Reader:
    """The journal's end of its socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)

    def entry(self) -> Fields:
        """The next entry's fields, in order; from a file where the datagram is empty."""
        data, ancillary, _, _ = self.socket.recvmsg(1_000_000, socket.CMSG_SPACE(4))
        for level, kind, rights in ancillary:
            assert (socket.SOL_SOCKET, socket.SCM_RIGHTS, b"") == (level, kind, data)
            with open(array.array("i", rights)[0], "rb") as file:
                seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
                assert seals == fcntl.fcntl(file, fcntl.F_GET_SEALS)
                file.seek(0)
                data = file.read()
        return parsed(data)

    def entries(self) -> list[Fields]:
        """All that wait."""
        found = []
        while True:
            try:
                found.append(self.entry())
            except BlockingIOError:
                return found


def parsed(data: bytes) -> Fields:
    """NAME=value lines, or NAME, a length of 64 bit, little-endian, and so much of a value."""
    fields, at = [], 0
    while at < len(data):
        end = data.index(b"\n", at)
        name, equals, value = data[at:end].partition(b"=")
        at = end + 1
        if not equals:
            size = int.from_bytes(data[at : at + 8], "little")
            value = data[at + 8 : at + 8 + size]
            at += 8 + size + 1
            assert data[at - 1 : at] == b"\n"
        assert re.fullmatch(b"[A-Z][A-Z0-9_]*", name)
        fields.append((name.decode(), value.decode()))
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Reader]:
    """A journal; everything is put back afterwards."""
    with undone():
        reader = Reader(tmp_path / "journal")
        with reader.socket:
            yield reader


def events(reader: Reader, **options: Any) -> log.Events:
    log.setup(**{"stream": io.StringIO(), "environ": {}, "form": "journald", "journal": reader.path, **options})
    return log.Events()


def test_an_entry_has_what_syslog_knows_and_the_facts(journal: Reader) -> None:
    """So that `journalctl -o short` reads like syslog, and RELAY_QUEUE_ID finds a message."""
    attempt(events(journal), SENT)
    fields = dict(journal.entry())
    assert {
        "MESSAGE": f"{ID}: to=<a@example.net>, relay={SENT.remote}, delay=0.84, delays=0.02/0.01/0.31/0.5, dsn=2.0.0, "
        f"status=sent ({SENT.reply})",
        "PRIORITY": "6",
        "SYSLOG_FACILITY": "2",
        "SYSLOG_IDENTIFIER": "relay/ses",
        "SYSLOG_PID": str(os.getpid()),
        "RELAY_QUEUE_ID": ID,
        "RELAY_EVENT": "attempt",
        "RELAY_RECIPIENT": "a@example.net",
        "RELAY_PROVIDER": "ses",
        "RELAY_ROUTE": "default",
        "RELAY_RELAY": SENT.remote,
        "RELAY_STATUS": "sent",
        "RELAY_DSN": "2.0.0",
        "RELAY_DELAY": "0.84",
        "RELAY_DELAYS": "0.02/0.01/0.31/0.5",
        "RELAY_REPLY": SENT.reply,
        "RELAY_REMOTE_ID": SENT.remote_id,
        "RELAY_MAYBE_RELAYED": "false",
    } == fields


@pytest.mark.parametrize("name", FORMS)
def test_every_event_is_an_entry(journal: Reader, name: str) -> None:
    """With the text of its line, its level, and its name."""
    call, text, facts = FORMS[name]
    call(events(journal))
    (fields,) = map(dict, journal.entries())
    lines = fields["MESSAGE"].split("\n")
    assert text.splitlines() == [f"{fields['SYSLOG_IDENTIFIER']}: {line}" for line in lines]
    assert name.startswith(fields["RELAY_EVENT"])
    assert facts.get("level") in {None, {"6": "info", "4": "warning", "3": "error"}[fields["PRIORITY"]]}


def test_each_recipient_is_a_field(journal: Reader) -> None:
    """So that each is found; of very many the first hundred, and how many more."""
    to = events(journal)
    to.expired(ID, "", ["a@x", "b@y"])
    to.rejected(CLIENT, "MAIL", "501 5.5.4 bad")
    to.expired(ID, "", [f"r{number}@x" for number in range(1000)])
    expired, rejected, many = journal.entries()
    assert [("RELAY_SENDER", ""), ("RELAY_RECIPIENTS", "a@x"), ("RELAY_RECIPIENTS", "b@y"), ("RELAY_RETURNED", "true")] == expired[-4:]
    assert "RELAY_SENDER" not in dict(rejected)
    assert ["r99@x", "and 900 more"] == [value for name, value in many if name == "RELAY_RECIPIENTS"][-2:]


def test_texts_of_several_lines_go_with_their_length(journal: Reader) -> None:
    """A traceback is one entry."""
    to = events(journal)
    to.bug("delivery", ValueError("one\ntwo"))
    to.reload_refused(["a\nb", "c"])
    bug, refused = map(dict, journal.entries())
    assert "panic: delivery: ValueError: one?two\nValueError: one\ntwo" == bug["MESSAGE"]
    assert ("3", "ValueError: one\ntwo") == (bug["PRIORITY"], bug["RELAY_TRACEBACK"])
    assert "a?b\nc" == refused["RELAY_PROBLEMS"]


def test_nobody_forges_a_field(journal: Reader) -> None:
    """A line end in what others say begins no field, and what cannot be written is not written."""
    to = events(journal)
    to.rejected(CLIENT, HOSTILE, HOSTILE + "\nMESSAGE=evil\ud800", HOSTILE, [HOSTILE], HOSTILE)
    to.accepted(ID, CLIENT)
    rejected, accepted = journal.entries()
    assert [1, 1] == [[name for name, _ in fields].count("MESSAGE") for fields in (rejected, accepted)]
    assert all(value.isprintable() for _, value in rejected)


def test_secrets_are_blotted_out(journal: Reader) -> None:
    """In every field, long or short."""
    to = events(journal, secrets=["canary-secret-0000"])
    to.warning("canary-secret-0000")
    to.reload_refused(["bad: canary-secret-0000\nx"])
    for fields in journal.entries():
        assert "canary" not in str(fields)
        assert 2 == str(fields).count("[secret]")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes no long datagram, whatever this one's limits are."""
    monkeypatch.setattr(journald, "BUFFER", 10_000)


@pytest.mark.usefixtures("small")
def test_an_entry_too_long_for_a_datagram_goes_as_a_file(journal: Reader) -> None:
    """As a sealed memfd, which journald accepts at any size."""
    to = events(journal)
    to.bug("delivery", ValueError("\n".join(["x" * 900] * 950)))
    to.removed(ID)
    bug, removed = map(dict, journal.entries())
    assert 951 == bug["MESSAGE"].count("\n") + 1
    assert f"{ID}: removed" == removed["MESSAGE"]


@pytest.mark.usefixtures("small")
def test_a_file_that_cannot_be_made_is_a_lost_entry(journal: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of files, say: counted and told."""

    def refuse(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    to = events(journal)
    to.bug("delivery", ValueError("\n".join(["x" * 900] * 950)))
    to.removed(ID)
    missing, removed = map(dict, journal.entries())
    assert "warning: 1 log lines are missing here: nobody read the log" == missing["MESSAGE"]
    assert "removed" == removed["RELAY_EVENT"]


@pytest.mark.timeout(20)
def test_a_journal_that_does_not_read_stops_nothing(journal: Reader) -> None:
    """What does not fit is dropped and counted, and told when it reads on."""
    to = events(journal)
    for number in range(3000):
        to.warning(f"line {number}")
    kept = journal.entries()
    assert 0 < len(kept) < 3000
    to.removed(ID)
    missing, removed = map(dict, journal.entries())
    assert ("4", "relay/master") == (missing["PRIORITY"], missing["SYSLOG_IDENTIFIER"])
    assert f"warning: {3000 - len(kept)} log lines are missing here: nobody read the log" == missing["MESSAGE"]
    assert "removed" == removed["RELAY_EVENT"]


def test_a_journal_that_starts_anew_is_found_again(journal: Reader, tmp_path: Path) -> None:
    """Another socket of the same name gets the lines, and the count of those in between."""
    to = events(journal)
    to.warning("before")
    journal.socket.close()
    to.warning("between")
    Path(journal.path).unlink()
    to.warning("between")
    journal = Reader(tmp_path / "journal")
    with journal.socket:
        to.warning("after")
        assert ["warning: 2 log lines are missing here: nobody read the log", "warning: after"] == [
            dict(fields)["MESSAGE"] for fields in journal.entries()
        ]


def test_auto_is_the_journal_where_standard_error_is_the_journal(journal: Reader, tmp_path: Path) -> None:
    """Both $JOURNAL_STREAM and the socket must be there; without the socket lines carry their priority."""
    with (tmp_path / "log").open("w+") as file:
        status = os.fstat(file.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        for ours in (environ, {}):
            events(journal, stream=file, environ=ours, form="auto", hostname="mx").removed(ID)
        events(journal, stream=file, environ=environ, form="auto", journal=str(tmp_path / "none")).removed(ID)
        events(journal, stream=file, environ=environ, form="text").removed(ID)
        file.seek(0)
        elsewhere, with_priority, as_text = file.read().splitlines()
    assert [f"{ID}: removed"] == [dict(fields)["MESSAGE"] for fields in journal.entries()]
    assert f" mx relay/qmgr[{os.getpid()}]: {ID}: removed" in elsewhere
    assert [f"<6>relay/qmgr[{os.getpid()}]: {ID}: removed"] * 2 == [with_priority, as_text]


def test_asked_for_a_journal_that_is_not_there(journal: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, and a warning that says so; a file of that name is no journal."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    path, stream = tmp_path / "file", io.StringIO()
    path.touch()
    events(journal, stream=stream, hostname="mx", journal=str(path)).removed(ID)
    said = f"warning: log.format is journald, but there is no journal at {path}: the log goes to standard error as text"
    assert [f"relay/master: {said}", f"relay/qmgr: {ID}: removed"] == texts(stream)
    assert [] == journal.entries()


def test_a_reload_changes_the_form_and_loses_nothing(journal: Reader) -> None:
    """From the journal to text and back: each line is in one place, once, and the socket is given back."""
    stream = io.StringIO()
    to = events(journal, stream=stream)
    to.removed(ID)
    [handler] = [handler for handler in logging.getLogger().handlers if isinstance(handler, Handler)]
    assert isinstance(handler.sink, journald.Journal)
    events(journal, stream=stream, form="json")
    to.accepted(ID, CLIENT)
    events(journal, stream=stream)
    to.queued(ID, "", 1, 1)
    assert ["removed", "queued"] == [dict(fields)["RELAY_EVENT"] for fields in journal.entries()]
    assert 1 == len(stream.getvalue().splitlines())
    assert [handler] == [each for each in logging.getLogger().handlers if isinstance(each, Handler)]
