"""`relay queue`: what waits is shown and changed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from relay.cli import door, exits, progress
from relay.errors import SpoolError
from relay.model import State
from relay.spool.base import Changed
from tests.commands import Relay
from tests.served import DEFERRED, MAIL, NOW, SENT, UNKNOWN, Provider

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
    assert "0 recipients deleted; 1 under way just now, or changed meanwhile\n" == printed.out


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


async def test_a_reroute_asks(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question names the providers in their order; --yes does not ask; what may have been delivered is counted, with the option."""
    relay.served.providers = [Provider("ses"), Provider("postmark")]
    entry = await relay.served.store("a@example.net", "b@example.net")
    await relay.served.attempt(entry, "a@example.net", replace(UNKNOWN, state=State.QUEUED))
    printed = await relay("queue", "reroute", "--to", "*@example.net", "--via", "postmark,ses")
    assert exits.USAGE == printed.code
    assert [
        "relay: reroute 2 recipients to postmark and, where that cannot, ses, whatever their routes say?",
        "Answer at a terminal, or say --yes",
    ] == printed.err.splitlines()
    printed = await relay("queue", "reroute", entry.queue_id, "--via", "postmark, ses", "--yes")
    assert "1 recipient rerouted; 1 may have been delivered already: --even-if-maybe-sent\n" == printed.out
    assert ["    fixed to postmark, ses, whatever the route says"] == [
        line for line in (await relay("queue", "show", entry.queue_id)).out.splitlines() if "fixed" in line
    ]
    asked: list[str] = []

    def no(question: str) -> str:
        asked.append(question)
        return "n"

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", no)
    assert "relay: nothing was done\n" == (await relay("queue", "reroute", "--all", "--via", "ses", "--even-if-maybe-sent")).err
    assert "nothing was done" in (await relay("queue", "reroute", "--all", "--by-routes")).err
    assert [
        "reroute 2 recipients to ses, whatever their routes say? Who may have been delivered already may get the mail twice. [y/N] ",
        "reroute 2 recipients by their routes again? [y/N] ",
    ] == asked
    printed = await relay("queue", "reroute", "--all", "--via", "ses", "--even-if-maybe-sent", "--yes")
    assert "2 recipients rerouted\n" == printed.out
    assert "  fixed to ses, whatever the routes say" in (await relay("queue", "show", entry.queue_id)).out.splitlines()
    assert "2 recipients rerouted\n" == (await relay("queue", "reroute", "--all", "--by-routes", "--yes")).out


async def test_a_reroute_releases_nothing_and_says_so(relay: Relay) -> None:
    """What is held has its new way, and stays held."""
    relay.served.providers = [Provider("ses")]
    held = await relay.served.store("a@example.net")
    await relay.served.store("b@example.net")
    await relay("queue", "hold", held.queue_id)
    printed = await relay("queue", "reroute", "--to", "*@example.net", "--via", "ses", "--yes")
    assert "2 recipients rerouted; 1 is held: relay queue release --to '*@example.net'\n" == printed.out
    found = await relay.served.spool.entry(held.queue_id)
    assert found is not None
    assert (State.HELD, ("ses",)) == (found.recipients[0].state, found.recipients[0].via)


async def test_a_reroute_to_a_provider_that_is_not_there(relay: Relay) -> None:
    """64 with a guess, before anybody is asked, and nothing is changed."""
    relay.served.providers = [Provider("ses"), Provider("postmark")]
    entry = await relay.served.store("a@example.net")
    printed = await relay("queue", "reroute", "--all", "--via", "postmrak")
    assert (exits.USAGE, 'relay: no provider is named "postmrak" (did you mean "postmark"?); configured: ses, postmark\n') == (
        printed.code,
        printed.err,
    )
    assert entry == await relay.served.spool.entry(entry.queue_id)


async def test_a_reroute_to_nobody_says_so(relay: Relay) -> None:
    """A sandbox takes mail and delivers none: who is asked knows."""
    relay.served.providers, relay.served.sandboxes = [Provider("ses"), Provider("keep")], {"keep"}
    await relay.served.store("a@example.net")
    printed = await relay("queue", "reroute", "--all", "--via", "ses,keep")
    assert printed.err.splitlines()[0].endswith(", whatever their routes say? What goes to keep is delivered to nobody.")


async def test_a_bounce_asks_and_tells_why(relay: Relay) -> None:
    """The reason is part of the story."""
    entry = await relay.served.store("a@example.net")
    printed = await relay("queue", "bounce", "--all", "--why", "that list was old")
    assert (exits.USAGE, "relay: bounce 1 recipient? They get no mail, and their senders are told so.") == (
        printed.code,
        printed.err.splitlines()[0],
    )
    assert "1 recipient bounced\n" == (await relay("queue", "bounce", entry.queue_id, "--why", "that list was old", "--yes")).out
    assert "given up by an admin: that list was old (dsn 5.7.0)" in (await relay("log", entry.queue_id)).out


async def test_what_is_under_way_is_neither_held_nor_tried_twice(relay: Relay) -> None:
    """It is left, and counted."""
    await relay.served.store("a@example.net")
    await relay.served.spool.claim(NOW, 10, 60)
    assert "0 recipients held; 1 under way just now, or changed meanwhile\n" == (await relay("queue", "hold", "--all")).out
    assert "0 recipients due now; 1 under way just now, or changed meanwhile\n" == (await relay("queue", "retry")).out


async def test_several_ids_are_one_answer(relay: Relay) -> None:
    """Each is a call of its own; the numbers are added."""
    ids = [(await relay.served.store("a@example.net", "b@example.net")).queue_id for _ in range(3)]
    assert "4 recipients held\n" == (await relay("queue", "hold", *ids[:2])).out


async def test_ctrl_c_stops_between_chunks(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """130, and how far it came."""
    ids = [(await relay.served.store("a@example.net")).queue_id for _ in range(3)]
    gate = asyncio.Event()

    async def each(*_: object) -> AsyncIterator[Sequence[Changed]]:
        yield [Changed(ids[0], 1)]
        await gate.wait()
        yield [Changed(ids[1], 1)]
        raise AssertionError("nobody is there who wants more")

    @contextlib.contextmanager
    def shown(what: str) -> Iterator[Callable[[int, int], None]]:
        def tell(done: int, of: int) -> None:
            if done:
                raise KeyboardInterrupt

        yield tell

    monkeypatch.setattr(relay.served.spool, "each", each)
    monkeypatch.setattr(progress, "shown", shown)
    printed = await relay("queue", "hold", "--all")
    assert (exits.INTERRUPTED, "relay: stopped: at least 1 of 3 recipients held; to go on, say it again\n") == (printed.code, printed.err)
    acting = relay.served.admin._api._acting
    async with asyncio.timeout(10):
        while not all(work._stopping for work in acting._under_way.values()):
            await asyncio.to_thread(lambda: None)
        gate.set()
        await acting.ended()
    assert 2 == len(relay.served.journal.found("put_on_hold"))


@pytest.mark.parametrize(("error", "why"), [(SpoolError("disk trouble"), "disk trouble"), (None, "the daemon went away in the middle")])
async def test_a_change_that_ends_in_the_middle(relay: Relay, monkeypatch: pytest.MonkeyPatch, error: Exception | None, why: str) -> None:
    """75, why, and how far it came; so also where the daemon stops."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    stopping: list[asyncio.Task[None]] = []

    async def each(*_: object, **__: object) -> AsyncIterator[Sequence[Changed]]:
        yield [Changed(entry.queue_id, 1)]
        if error:
            raise error
        stopping.append(asyncio.create_task(relay.served.admin.stop()))
        [work] = relay.served.admin._api._acting._under_way.values()
        while not work._stopping:  # the task has its turn
            await asyncio.to_thread(lambda: None)
        yield []

    monkeypatch.setattr(relay.served.spool, "each", each)
    printed = await relay("queue", "hold", "--all")
    assert (exits.TRY_LATER, f"relay: {why}; at least 1 of 2 recipients held; to go on, say it again\n") == (printed.code, printed.err)
    await asyncio.gather(*stopping)


def test_a_bar_is_for_a_terminal_and_for_what_takes_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in a pipe, nothing in the first second; then how many of how many, on standard error."""
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.shown("hold") as tell:
        tell(1, 5)
    assert ("", "") == capsys.readouterr()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.shown("hold") as tell:
        tell(1, 5)
        tell(7, 5)
    printed = capsys.readouterr()
    assert ("", True, True) == (printed.out, "hold" in printed.err, "7/7" in printed.err)
    monkeypatch.setattr(progress, "PATIENCE", 1e9)
    with progress.shown("hold") as tell:
        tell(1, 5)
    assert ("", "") == capsys.readouterr()
