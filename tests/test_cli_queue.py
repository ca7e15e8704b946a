"""`relay queue`: what waits is shown and changed."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from relay.cli import door, exits
from relay.model import Outcome, State, Verdict
from relay.spool.base import Recorded
from tests.commands import Relay
from tests.served import DEFERRED, MAIL, NOW, SENT

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


async def test_the_queue_as_a_table(relay: Relay) -> None:
    """An entry in one line; below it who waits, since when, and why; 80 columns."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    await relay.served.attempt(entry, "a@example.net", DEFERRED)
    printed = await relay("queue")
    lines = printed.out.splitlines()
    assert "queue id        state      age      size  from" == lines[0]
    assert lines[1].startswith(f"{entry.queue_id}  active  ")
    assert lines[1].endswith(f"{len(MAIL)} B  <app@example.com>")
    assert [
        "    to <a@example.net>, 1 attempt by ses, next 2026-11-20 18:02:01",
        "        450 mailbox busy",
        "    to <b@example.net>",
    ] == lines[2:]
    assert max(map(len, lines)) <= 80


async def test_the_queue_as_json_is_one_object_per_line(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, page by page; --limit holds for JSON too."""
    monkeypatch.setattr(door, "PAGE", 2)
    ids = [(await relay.served.store("a@example.net")).queue_id for _ in range(5)]
    assert ids == [entry["queue_id"] for entry in await relay.json("queue", "list")]
    assert ids[:3] == [entry["queue_id"] for entry in await relay.json("queue", "list", "--limit", "3")]
    printed = await relay("queue", "--limit", "3")
    assert "the first 3 entries; for more: --limit N, or --json for all" == printed.out.splitlines()[-1]


async def test_an_empty_queue_says_so(relay: Relay) -> None:
    """A filter that matches nothing is told from an empty queue."""
    assert "nothing in the queue\n" == (await relay("queue")).out
    assert "nothing in the queue matches\n" == (await relay("queue", "--to", "x")).out


async def test_finished_and_corrupt_entries_can_be_listed(relay: Relay) -> None:
    """`--state` reaches what is not in the queue."""
    done, broken = await relay.served.store("a@example.net"), await relay.served.store("b@example.net")
    await relay.served.attempt(done, "a@example.net", SENT)
    await relay.served.spool.set_aside(broken.queue_id, "its body is missing", NOW)
    assert "    to <a@example.net>, relayed, 1 attempt by ses" in (await relay("queue", "--state", "finished")).out
    assert "its body is missing" in (await relay("queue", "--state", "corrupt")).out
    assert "1 set aside as corrupt" in (await relay("status")).out
    printed = await relay("queue", "show", broken.queue_id)
    assert exits.DATA == printed.code
    assert "set aside as corrupt" in printed.err


async def test_raw_headers_and_timeline(relay: Relay) -> None:
    """--raw is the stored message byte for byte when it goes to a file or a pipe."""
    entry = await relay.served.store("a@example.net")
    assert MAIL.decode() == (await relay("queue", "show", entry.queue_id, "--raw")).out
    assert MAIL.decode().partition("\r\n\r\n")[0] + "\r\n" == (await relay("queue", "show", entry.queue_id, "--headers")).out
    assert "no attempt yet\n" == (await relay("queue", "show", entry.queue_id, "--timeline")).out
    await relay.served.attempt(entry, "a@example.net", SENT)
    printed = await relay("queue", "show", entry.queue_id, "--timeline")
    assert printed.out.splitlines()[0].endswith("mx.example.net[192.0.2.1]:25, to <a@example.net>")
    assert ["remote-1"] == [step["remote_id"] for step in await relay.json("queue", "show", entry.queue_id, "--timeline")]
    printed = await relay("queue", "show", entry.queue_id, "--raw")
    assert exits.NO_INPUT == printed.code
    assert "is gone" in printed.err


async def test_retry_says_how_many(relay: Relay) -> None:
    """All that waits, or what is named."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    await relay.served.attempt(entry, "a@example.net", DEFERRED)
    assert "1 recipient due now\n" == (await relay("queue", "retry", entry.queue_id, "--to", "a@*")).out
    assert exits.NO_INPUT == (await relay("queue", "retry", "FFFF")).code
    assert exits.USAGE == (await relay("queue", "retry", "--id", "")).code
    assert 0 == (await relay("queue", "retry")).code


async def test_delete_asks(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints the count; anything but yes leaves the queue alone; without a terminal it wants --yes."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    printed = await relay("queue", "delete", "--to", "*@example.net")
    assert exits.USAGE == printed.code
    assert "--yes" in printed.err
    asked: list[str] = []

    def answers(answer: str) -> Callable[[str], str]:
        def reply(question: str) -> str:
            asked.append(question)
            return answer

        return reply

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answers(""))
    assert "relay: nothing was done\n" == (await relay("queue", "delete", "--all")).err
    monkeypatch.setattr("builtins.input", answers("y"))
    assert "1 recipient deleted\n" == (await relay("queue", "delete", "--to", "a@*")).out
    assert [
        "delete 2 recipients? Nobody is told, no bounce is sent. [y/N] ",
        "delete 1 recipient? Nobody is told, no bounce is sent. [y/N] ",
    ] == asked
    assert "1 recipient deleted\n" == (await relay("queue", "delete", entry.queue_id, "--yes")).out
    assert 0 == (await relay.served.spool.counts()).entries


async def test_a_deletion_is_part_of_the_story(relay: Relay) -> None:
    """The log and the timeline say who took the recipient out."""
    entry = await relay.served.store("a@example.net")
    await relay("queue", "delete", entry.queue_id, "--yes")
    lines = (await relay("log", entry.queue_id)).out.splitlines()
    assert ["  to <a@example.net>: deleted", "    2026-11-20 17:57:01  deleted   by the admin"] == lines[2:4]
    printed = await relay("queue", "show", entry.queue_id, "--timeline")
    assert "2026-11-20 17:57:01  deleted   by the admin, to <a@example.net>\n" == printed.out


async def test_what_is_under_way_is_not_deleted(relay: Relay) -> None:
    """A leased recipient stays, and the answer says so."""
    await relay.served.store("a@example.net")
    await relay.served.spool.claim(NOW, 10, 60)
    printed = await relay("queue", "delete", "--all", "--yes")
    assert "0 recipients deleted; 1 under way just now\n" == printed.out


UNKNOWN = Recorded(Outcome(Verdict.UNKNOWN, "4.4.2", "no answer", "mx[192.0.2.1]:25"), State.HELD)


async def test_a_release_that_may_deliver_twice_asks(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts those that may have been delivered already, and only those that are meant; without a terminal it wants --yes."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    await relay("queue", "hold", "--to", "b@*")
    await relay.served.attempt(entry, "a@example.net", UNKNOWN)
    assert "1 recipient released\n" == (await relay("queue", "release", "--to", "B@*")).out
    printed = await relay("queue", "release", entry.queue_id)
    assert (exits.USAGE, "") == (printed.code, printed.out)
    assert [
        "relay: 1 recipient may have been delivered already, and may then get the mail twice: relay queue list --state hold",
        "Answer at a terminal, or say --yes",
    ] == printed.err.splitlines()
    asked: list[str] = []

    def no(question: str) -> str:
        asked.append(question)
        return "n"

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", no)
    assert "relay: nothing was done\n" == (await relay("queue", "release", "--all")).err
    assert ["release all the same? [y/N] "] == asked
    assert "1 recipient released\n" == (await relay("queue", "release", entry.queue_id, "--yes")).out
    assert "0 recipients released\n" == (await relay("queue", "release", "--all")).out


async def test_a_retry_tells_what_is_held(relay: Relay) -> None:
    """It is left alone; the command that sends it on is told, and where nothing was named the one that shows it."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    await relay("queue", "hold", "--to", "a@*")
    said = f"1 recipient due now; 1 is held: relay queue release {entry.queue_id}\n"
    assert said == (await relay("queue", "retry", entry.queue_id)).out
    assert "0 recipients due now; 1 is held: relay queue release --to 'a@*'\n" == (await relay("queue", "retry", "--to", "a@*")).out
    assert "1 recipient due now; 1 is held: relay queue list --state hold\n" == (await relay("queue", "retry")).out
    assert "1 recipient due now\n" == (await relay("queue", "retry", "--state", "active")).out


async def test_a_message_for_many(relay: Relay) -> None:
    """A list shows the first, or those that the filter means; one entry by itself shows all."""
    entry = await relay.served.store(*(f"a{number}@example.net" for number in range(30)))
    lines = (await relay("queue")).out.splitlines()
    assert (["    to <a9@example.net>", f"    and 20 more: relay queue show {entry.queue_id}"], 13) == (lines[-2:], len(lines))
    lines = (await relay("queue", "--to", "A2?@example.net")).out.splitlines()
    assert (["    to <a29@example.net>", f"    and 20 more: relay queue show {entry.queue_id}"], 13) == (lines[-2:], len(lines))
    lines = (await relay("log", "a17@example.net")).out.splitlines()
    assert [
        "  to <a17@example.net>: waits for its first attempt",
        f"  and 29 more: relay queue show {entry.queue_id}",
    ] == lines[2:]
    assert 13 == len((await relay("log", entry.queue_id)).out.splitlines())
    assert 32 == len((await relay("queue", "show", entry.queue_id)).out.splitlines())
    [found] = await relay.json("log", "a17@example.net")
    assert 30 == len(found["recipients"])


async def test_no_answer_is_no(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-D at the question deletes nothing, and is no bug."""

    def nobody(question: str) -> str:
        raise EOFError

    await relay.served.store("a@example.net")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", nobody)
    printed = await relay("queue", "delete", "--all")
    assert (exits.USAGE, "relay: no answer; nothing was done\n") == (printed.code, printed.err)
    assert 1 == (await relay.served.spool.counts()).entries


async def test_hold_and_release(relay: Relay) -> None:
    """What is named is held and released again; to name nothing is not to mean everything."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    assert (exits.OK, "1 recipient held\n") == ((held := await relay("queue", "hold", "--to", "a@*")).code, held.out)
    listed = await relay.json("queue", "--state", "hold")
    assert [entry.queue_id] == [one["queue_id"] for one in listed]
    assert exits.USAGE == (await relay("queue", "hold")).code == (await relay("queue", "release")).code
    assert "1 recipient released\n" == (await relay("queue", "release", entry.queue_id)).out
    assert [] == await relay.json("queue", "--state", "hold")
