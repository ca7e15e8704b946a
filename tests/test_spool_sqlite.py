"""The SQLite spool beyond the contract: its directory, its versions, corrupt rows and files, a disk that fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.errors import CorruptEntry, SpoolBusy, SpoolError, SpoolFull
from relay.model import Entry, Facts, RecipientState, State
from relay.spool import database, ids, sqlite
from relay.spool.base import Changed, Filter, Verb
from relay.spool.changes import Changes
from relay.spool.fresh import Fresh
from relay.spool.ids import QueueIds
from relay.spool.incoming import PENDING
from relay.spool.operations import Alter, Operation, Reserve, SetAside, Trial, Wake
from relay.spool.reader import Reader
from relay.spool.sqlite import SqliteSpool
from tests.spools import BODY, CLIENT, HEADER, NOW, RELAYED, Clock, accept, attempt, deferred, envelope, open_sqlite

LARGE_BODY = b"\r\n" + b"x" * 600_000


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    spool = await open_sqlite(tmp_path, Clock())
    yield spool
    await spool.close()


def alter(directory: Path, sql: str, *values: object) -> None:
    """Change the file behind a closed spool's back."""
    with sqlite3.connect(directory / "spool" / "spool.db") as db:
        db.execute(sql, values)
    db.close()


def modes(directory: Path) -> dict[str, int]:
    found = {path: path.stat().st_mode & 0o7777 for path in directory.rglob("*")}
    return {"body" if path.parent.name == "bodies" else path.name: mode for path, mode in found.items()}


# The directory


async def test_everything_is_for_the_owner_alone(tmp_path: Path) -> None:
    """Directories 0700, files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        spool = await open_sqlite(tmp_path, Clock())
        await accept(spool, body=LARGE_BODY)
        expected = dict.fromkeys(("spool", "bodies"), 0o700) | dict.fromkeys(
            ("spool.db", "spool.db-wal", "spool.db-shm", "lock", "ballast", "body"), 0o600
        )
        assert expected == modes(tmp_path)
        await spool.close()
    finally:
        os.umask(before)


async def test_a_directory_open_to_others_is_refused_with_the_mend(tmp_path: Path) -> None:
    """Nothing is changed in it."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o750)
    with pytest.raises(SpoolError, match=r"0750.*chmod 0700"):
        await open_sqlite(tmp_path, Clock())
    assert [] == list((tmp_path / "spool").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away: another owner was NOT tested")
async def test_a_directory_of_another_user_is_refused_with_the_mend(tmp_path: Path) -> None:
    """Naming both users."""
    (tmp_path / "spool").mkdir(mode=0o700)
    os.chown(tmp_path / "spool", 12345, 12345)
    with pytest.raises(SpoolError, match=r"user 12345.*user 0.*chown -R 0"):
        await open_sqlite(tmp_path, Clock())


async def test_what_is_not_a_directory_or_not_a_file_is_refused(tmp_path: Path) -> None:
    """A file in the directory's place, a symbolic link in a file's place."""
    (tmp_path / "spool").write_text("")
    with pytest.raises(SpoolError, match="spool directory"):
        await open_sqlite(tmp_path, Clock())
    (tmp_path / "spool").unlink()
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "spool" / "spool.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError):
        await open_sqlite(tmp_path, Clock())
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "spool" / "spool.db").unlink()
    os.mkfifo(tmp_path / "spool" / "spool.db", 0o600)
    with pytest.raises(SpoolError, match="not a file"):
        await open_sqlite(tmp_path, Clock())


async def test_the_directory_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    """As systemd makes it for DynamicUser; what it leads to is checked."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "spool").symlink_to(tmp_path / "real")
    spool = await open_sqlite(tmp_path, Clock())
    await spool.close()
    assert (tmp_path / "real" / "spool.db").exists()


async def test_two_spools_in_one_process_exclude_each_other(tmp_path: Path, spool: SqliteSpool) -> None:
    """The refused one leaves the first one working."""
    with pytest.raises(SpoolBusy, match=f"pid {os.getpid()}"):
        await open_sqlite(tmp_path, Clock())
    await accept(spool)


# Versions and settings


async def test_commits_are_synced_and_only_the_writer_writes(tmp_path: Path, spool: SqliteSpool) -> None:
    """WAL, synchronous=FULL, incremental auto-vacuum; a reader cannot write."""
    reader = database.connect(tmp_path / "spool", read_only=True)
    assert ("wal", 2) == tuple(reader.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "auto_vacuum"))
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM entry")
    reader.close()
    writing = database.connect(tmp_path / "spool")
    assert 2 == writing.execute("PRAGMA synchronous").fetchone()[0]
    writing.close()


async def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """By the daemon and by the reader, with what to do."""
    spool = await open_sqlite(tmp_path, Clock())
    await spool.close()
    alter(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(SpoolError, match=r"newer relay.*99"):
        await open_sqlite(tmp_path, Clock())
    with pytest.raises(SpoolError, match="newer relay"):
        Reader(tmp_path / "spool")


def test_migrations_run_in_one_transaction(tmp_path: Path) -> None:
    """A step that fails leaves the old version as it was; a second run goes through from there."""
    (tmp_path / "spool.db").touch(0o600)
    db = database.connect(tmp_path)
    first = "CREATE TABLE one (a INTEGER);"
    database.migrate(db, (first,))
    with pytest.raises(sqlite3.OperationalError):
        database.migrate(db, (first, "INSERT INTO one VALUES (1);\nALTER TABLE one ADD b INTEGER;", "nonsense;"))
    assert (1, []) == (database.version(db), db.execute("SELECT * FROM one").fetchall())
    database.migrate(db, (first, "INSERT INTO one VALUES (1);\nALTER TABLE one ADD b INTEGER;"))
    assert (2, [(1, None)]) == (database.version(db), db.execute("SELECT * FROM one").fetchall())
    db.close()


def older(directory: Path, version: int) -> Path:
    """A spool directory as an older release left it."""
    path = directory / "spool" / "spool.db"
    path.parent.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript((Path(__file__).parent / "data" / "spools" / f"version-{version}.sql").read_text())
        assert version == database.version(db)
    path.chmod(0o600)
    return path


async def test_a_file_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    """Everything in it is there; no notice is due that the old relay did not owe; who is deferred in it may be warned of."""
    with contextlib.closing(sqlite3.connect(older(tmp_path, 1))) as db:
        [(queue_id,)] = db.execute("SELECT id FROM entry WHERE finished IS NULL")
        columns = ", ".join(name for _, name, *_ in db.execute("PRAGMA table_info(entry)") if name not in ("id", "bounce"))
        db.execute(f"INSERT INTO entry (id, bounce, {columns}) SELECT id + 1, 1, {columns} FROM entry WHERE finished IS NULL")
        db.execute("INSERT INTO body SELECT entry + 1, data FROM body WHERE entry = ?", (queue_id,))
        columns = ", ".join(name for _, name, *_ in db.execute("PRAGMA table_info(recipient)") if name != "entry")
        condition = f"entry = {queue_id} AND address LIKE 'deferred@%'"
        db.execute(f"INSERT INTO recipient (entry, {columns}) SELECT entry + 1, {columns} FROM recipient WHERE {condition}")
        db.execute("UPDATE recipient SET route = 'default' WHERE address LIKE 'deferred@%'")
        db.commit()
    spool = await open_sqlite(tmp_path, Clock(NOW + 10))
    ((open_one, bounce), (finished,)) = await spool.find(Filter(), 10), await spool.find(Filter(state="finished"), 10)
    routes = {state.recipient.address: state.route for entry in (bounce, open_one) for state in entry.open}
    assert (True, "", "default") == (bounce.bounce, bounce.open[0].route, routes["deferred@example.net"])  # see database._NOTICES
    assert HEADER + BODY == await (await spool.message(open_one.queue_id)).read()
    assert ("6831141B000000", "6831141CF40000", "") == (open_one.queue_id, finished.queue_id, open_one.client.tls)
    found = {state.recipient.address.partition("@")[0]: (state.state, state.told) for state in open_one.recipients}
    assert {
        "relayed": (State.RELAYED, True),
        "deferred": (State.QUEUED, False),
        "failed": (State.FAILED, False),
        "waits": (State.QUEUED, False),
        "never": (State.QUEUED, False),
    } == found
    assert [[open_one.queue_id]] * 2 == [list(await spool.untold()), list(await spool.late(NOW + 1, 10))]
    await spool.told(open_one.queue_id, ["failed@example.net"])
    assert [] == list(await spool.untold())
    await spool.close()
    with contextlib.closing(database.connect(tmp_path / "spool", read_only=True)) as db:
        assert len(database.MIGRATIONS) == database.version(db)
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()


async def test_a_file_of_version_2_is_brought_up_to_date(tmp_path: Path) -> None:
    """Everything in it is there; what was rerouted in it stays so, with all recipients of the entry; the ledger is empty."""
    older(tmp_path, 2)
    spool = await open_sqlite(tmp_path, Clock(NOW + 10))
    first, rerouted = await spool.find(Filter(), 10)
    assert [(), ("other", "third")] == [entry.via for entry in (first, rerouted)]
    assert ([()] * 7, [("other", "third")] * 2) == tuple([state.via for state in entry.recipients] for entry in (first, rerouted))
    assert HEADER + BODY == await (await spool.message(first.queue_id)).read()
    assert ({}, []) == (await spool.kept(), list(await spool.spent()))
    chunks = [chunk async for chunk in spool.each("reroute", Filter(queue_id=first.queue_id), NOW + 10, ("x",))]
    assert [[Changed(first.queue_id, 4, pinned=1)]] == chunks
    await spool.spend([("b", NOW, 1)])
    await spool.close()
    with contextlib.closing(database.connect(tmp_path / "spool", read_only=True)) as db:
        assert len(database.MIGRATIONS) == database.version(db)
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_that_is_not_up_to_date_yet_can_be_read(tmp_path: Path, version: int) -> None:
    """As after an upgrade, before the daemon starts: the reader changes nothing."""
    older(tmp_path, version)
    with Reader(tmp_path / "spool") as reader:
        (first, *_) = reader.find(Filter(), 10, NOW)
        assert {()} == {state.via for state in first.recipients}
        assert ({}, []) == (reader.kept(), list(reader.spent()))


async def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both versions."""
    monkeypatch.setattr(database, "MINIMUM", (99, 0, 0))
    with pytest.raises(SpoolError, match=r"too old.*99\.0\.0"):
        await open_sqlite(tmp_path, Clock())


async def test_a_file_that_is_no_database_is_refused_with_the_mend(tmp_path: Path) -> None:
    """It is not overwritten."""
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "spool" / "spool.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(SpoolError, match="recover"):
        await open_sqlite(tmp_path, Clock())
    assert b"not a database" * 1000 == (tmp_path / "spool" / "spool.db").read_bytes()


# Corrupt entries


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE entry SET client = '{' WHERE id = ?", "cannot be read"),
        ('UPDATE entry SET edits = \'[["turn", "x"]]\' WHERE id = ?', "turn"),
        ("UPDATE entry SET parameters = '[1]' WHERE id = ?", "cannot be read"),
        ("UPDATE recipient SET state = 'lost' WHERE entry = ?", "lost"),
        ("UPDATE recipient SET verdict = 'MAYBE' WHERE entry = ?", "MAYBE"),
        ("UPDATE recipient SET notify = 'SOON' WHERE entry = ?", "SOON"),
        ("DELETE FROM entry WHERE id = ?", "missing"),
    ],
)
async def test_an_entry_whose_rows_cannot_be_read_is_set_aside(tmp_path: Path, sql: str, why: str) -> None:
    """The others are not affected; the reason is reported; nothing is deleted."""
    spool = await open_sqlite(tmp_path, Clock())
    bad, good = await accept(spool), await accept(spool)
    await spool.close()
    alter(tmp_path, sql, ids.number(bad.queue_id))
    spool = await open_sqlite(tmp_path, Clock())
    assert [good.queue_id] == [entry.queue_id for entry in await spool.find(Filter(), 10)]
    assert [good.queue_id] == [entry.queue_id for entry in await spool.claim(NOW, 10, 60)]
    ((queue_id, reason),) = await spool.corrupt()
    assert bad.queue_id == queue_id
    assert why in reason
    with pytest.raises(CorruptEntry, match=why):
        await spool.entry(bad.queue_id)
    await spool.close()


async def test_a_corrupt_entry_is_set_aside_when_someone_looks_at_it(tmp_path: Path) -> None:
    """Before any claim."""
    spool = await open_sqlite(tmp_path, Clock())
    bad = await accept(spool)
    await spool.close()
    alter(tmp_path, "UPDATE entry SET client = '{'")
    spool = await open_sqlite(tmp_path, Clock())
    with pytest.raises(CorruptEntry, match=bad.queue_id):
        await spool.entry(bad.queue_id)
    assert [bad.queue_id] == [queue_id for queue_id, _ in await spool.corrupt()]
    assert [] == list(await spool.claim(NOW, 10, 60))
    await spool.close()


@pytest.mark.parametrize("sql", ["DELETE FROM body", "UPDATE body SET data = substr(data, 2)"])
async def test_a_body_that_is_gone_or_cut_is_corrupt(tmp_path: Path, sql: str) -> None:
    """Found when it is read; the entry is set aside."""
    spool = await open_sqlite(tmp_path, Clock())
    bad = await accept(spool)
    await spool.close()
    alter(tmp_path, sql)
    spool = await open_sqlite(tmp_path, Clock())
    with pytest.raises(CorruptEntry, match=f"instead of {bad.facts.size} octets"):
        await spool.message(bad.queue_id)
    assert [bad.queue_id] == [queue_id for queue_id, _ in await spool.corrupt()]
    await spool.close()


async def test_a_body_file_that_is_gone_or_cut_is_corrupt(tmp_path: Path) -> None:
    """Found at the next start, or when it is read."""
    spool = await open_sqlite(tmp_path, Clock())
    gone, cut, later, good = [await accept(spool, body=LARGE_BODY) for _ in range(4)]
    await spool.close()
    bodies = tmp_path / "spool" / "bodies"
    (bodies / gone.queue_id).unlink()
    os.truncate(bodies / cut.queue_id, 1000)
    spool = await open_sqlite(tmp_path, Clock())
    os.truncate(bodies / later.queue_id, 5)
    assert {gone.queue_id, cut.queue_id} == {queue_id for queue_id, _ in await spool.corrupt()}
    with pytest.raises(CorruptEntry, match="5 instead of"):
        await spool.message(later.queue_id)
    message = await spool.message(good.queue_id)
    (bodies / good.queue_id).unlink()
    with pytest.raises(SpoolError, match="cannot be read"):
        await message.read()
    await spool.close()


async def test_files_without_an_entry_go_at_the_next_start(tmp_path: Path) -> None:
    """And nothing else that lies there."""
    spool = await open_sqlite(tmp_path, Clock())
    kept = await accept(spool, body=LARGE_BODY)
    small = await accept(spool)
    await spool.close()
    bodies = tmp_path / "spool" / "bodies"
    for name in (small.queue_id, "68311400000000", "README"):
        (bodies / name).write_text("left over")
    spool = await open_sqlite(tmp_path, Clock())
    assert {kept.queue_id, "README"} == {path.name for path in bodies.iterdir()}
    await spool.close()


async def test_one_operation_that_fails_takes_no_other_with_it(spool: SqliteSpool) -> None:
    """All in one batch: the others are stored."""
    entry = await accept(spool)
    twice = spool.incoming(NOW)
    twice._number = ids.number(entry.queue_id)
    twice.write(HEADER + BODY)

    async def again() -> None:
        keep = entry
        await twice.commit(
            arrived=NOW,
            client=keep.client,
            envelope=keep.envelope,
            facts=keep.facts,
            header=HEADER,
            message_id="",
            edits=(),
        )

    results = await asyncio.gather(
        accept(spool), again(), accept(spool), spool.finish(entry.queue_id, NOW, keep_body=False), return_exceptions=True
    )
    assert [False, True, False, False] == [isinstance(result, SpoolError) for result in results]
    assert results[-1] is False
    assert 3 == len(await spool.find(Filter(), 10))


async def test_a_claim_comes_last_also_when_a_batch_is_taken_apart(spool: SqliteSpool) -> None:
    """One operation of the batch fails, so each gets a transaction of its own, in the same order."""
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    number = await spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW)
    claimed, failed, closed = await asyncio.gather(
        spool.claim(NOW + 61, 10, 60),
        spool.begin(entry.queue_id, [], "p", "r", NOW),
        spool.record(entry.queue_id, number, {"a@example.net": RELAYED}, "p", "r", NOW),
        return_exceptions=True,
    )
    assert ([], True, True) == (claimed, isinstance(failed, SpoolError), closed)


async def test_what_is_spent_is_synced_with_what_begins(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction for both, whichever is asked for first."""
    entries = [await accept(spool) for _ in range(2)]
    groups: list[list[str]] = []
    real = spool._writer._together

    def together(operations: Sequence[Operation]) -> Sequence[Any]:
        groups.append([type(operation).__name__ for operation in operations])
        return real(operations)

    monkeypatch.setattr(spool._writer, "_together", together)
    begins = [spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW) for entry in entries]
    await asyncio.gather(begins[0], spool.spend([("p daily", NOW, 1)]), spool.spend([("p daily", NOW, 1)]), begins[1])
    assert [["Begin", "Begin", "Spend", "Spend"]] == groups
    assert [("p daily", NOW, 2)] == list(await spool.spent())


@pytest.mark.parametrize(
    "what", [Filter(recipient="last@*"), Filter(provider="p"), Filter(route="default"), Filter(sender="<>"), Filter(state="deferred")]
)
async def test_a_filter_that_means_few_looks_at_the_queue_window_by_window(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch, what: Filter
) -> None:
    """Whatever it names; entries that are finished are not looked at."""
    monkeypatch.setattr(sqlite, "WINDOW", 2)
    entries = [await accept(spool, f"{n}@example.net") for n in range(4)]
    await attempt(spool, entries[1].queue_id, {"1@example.net": RELAYED})
    await spool.finish(entries[1].queue_id, NOW, keep_body=False)
    last = await accept(spool, "last@example.net", sender="")
    await attempt(spool, last.queue_id, {"last@example.net": deferred(NOW + 99)}, provider="p")
    windows: list[int | None] = []
    real = spool._do

    async def watch(operation: Operation) -> Any:
        chunk = await real(operation)
        windows.append(chunk.next)
        return chunk

    monkeypatch.setattr(spool, "_do", watch)
    assert [[Changed(last.queue_id, 1)]] == [chunk async for chunk in spool.each("retry", what, NOW)]
    assert [ids.number(entries[2].queue_id), ids.number(last.queue_id), None] == windows


@pytest.mark.parametrize("verb", ["hold", "release", "retry", "reroute", "delete"])
async def test_a_chunk_is_altered_at_the_same_cost_however_long_the_queue(tmp_path: Path, verb: Verb) -> None:
    """Counted in SQLite's own steps; neither the history nor the rest of the queue is looked at."""
    steps: list[int] = []
    for length in (400, 4000):
        place = tmp_path / str(length)
        place.mkdir()
        spool = await open_sqlite(place, Clock())
        await accept(spool)
        await spool.close()
        db = database.connect(place / "spool")
        state = "held" if verb == "release" else "queued"
        for first, finished, found in ((1, "1.0", "relayed"), (10_000, "NULL", state)):
            numbers = f"WITH RECURSIVE n (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM n WHERE n < {first + length}) "
            db.execute(
                f"{numbers} INSERT INTO entry SELECT n, 1.0, {finished}, 'app@example.com', '', 1, 0, 1, 1, 0, "
                "'[]', '[]', '[]', '[]', x'' FROM n"
            )
            db.execute(
                f"{numbers} INSERT INTO recipient SELECT n, 'a', 0, '', '', '{found}', 0, 1.0, 1.0, NULL, "
                "'', '', 0.0, '', '', '', '', '', 0, 0, '' FROM n"
            )
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        changes = Changes(db, Fresh(), lambda number: None)
        db.set_progress_handler(step, 100)
        (chunk,) = changes.apply([Alter(verb, Filter(sender="app@*"), NOW, 0, 50, 60, ("x",))])
        db.close()
        assert (50, 10_049) == (len(chunk.changed), chunk.next)
        steps.append(count)
    assert steps[1] <= 1.5 * steps[0]


async def test_no_transaction_holds_a_part_of_an_entry(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are rounded up to whole entries."""
    for _ in range(4):
        await accept(spool, *[f"{n}@example.net" for n in range(300)])
    chunks: list[int] = []
    real = spool._do

    async def watch(operation: Operation) -> Any:
        chunk = await real(operation)
        chunks.append(sum(one.recipients for one in chunk.changed))
        return chunk

    monkeypatch.setattr(spool, "_do", watch)
    assert 1200 == await spool.hold(Filter(), NOW)
    assert [600, 600] == [chunk for chunk in chunks if chunk]


@pytest.mark.parametrize("key", ["k 1", None])
async def test_a_chunk_is_woken_at_the_same_cost_however_many_wait(tmp_path: Path, key: str | None) -> None:
    """Counted in SQLite's own steps."""
    steps: list[int] = []
    for waiting in (400, 4000):
        place = tmp_path / str(waiting)
        place.mkdir()
        spool = await open_sqlite(place, Clock())
        await accept(spool)
        await spool.close()
        db = database.connect(place / "spool")
        db.execute(
            f"WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {waiting}) "
            "INSERT INTO recipient SELECT n, 'a', 0, '', '', 'queued', 0, 9e9 - n, 9e9 - n, 'k ' || (n % 2), "
            "'', '', 0.0, '', '', '', '', '', 0, 0, '' FROM n"
        )
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        changes = Changes(db, Fresh(), lambda number: None)
        db.set_progress_handler(step, 100)
        assert [50] == changes.apply([Wake(key, NOW, 50)])
        db.close()
        steps.append(count)
    assert steps[1] <= 2 * steps[0]


async def test_looking_for_the_late_costs_the_same_however_many_are_not(tmp_path: Path) -> None:
    """Neither what was warned of nor what is young, never tried or relayed is looked at. Counted in SQLite's own steps."""
    steps: list[int] = []
    for others in (400, 4000):
        place = tmp_path / str(others)
        place.mkdir()
        spool = await open_sqlite(place, Clock())
        entry = await accept(spool)
        await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW + 60)})
        await spool.close()
        db = database.connect(place / "spool")
        young = ids.at(NOW + 90_000)
        for first, state, attempts, told in (
            (1, "queued", 1, 1),
            (10_000, "queued", 0, 0),
            (20_000, "relayed", 1, 0),
            (young, "queued", 1, 0),
        ):
            db.execute(
                f"WITH RECURSIVE n (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM n WHERE n < {first + others}) "
                f"INSERT INTO recipient SELECT n, 'a', 0, '', '', '{state}', {attempts}, 9e9, 9e9, NULL, "
                f"'', '', 0.0, '', '', '', '', '', 0, {told}, '' FROM n"
            )
        db.close()
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        with Reader(place / "spool") as reader:
            reader._db.set_progress_handler(step, 10)
            assert [entry.queue_id] == reader.late(NOW + 10, 10, "", QueueIds(0, 0).above(NOW + 10, NOW))
        steps.append(count)
    assert steps[1] <= 2 * steps[0]


async def test_purge_takes_what_is_left_of_attempts(tmp_path: Path, spool: SqliteSpool) -> None:
    """Those of entries that are still there stay."""
    gone, kept = await accept(spool), await accept(spool)
    for entry in (gone, kept):
        await spool.begin(entry.queue_id, ["a@example.net"], "p", "r", NOW)
    await spool.delete(Filter(queue_id=gone.queue_id), NOW)
    assert 1 == await spool.purge(NOW + 1, NOW)
    with contextlib.closing(database.connect(tmp_path / "spool", read_only=True)) as db:
        assert [(ids.number(kept.queue_id),)] == db.execute("SELECT entry FROM attempt").fetchall()


async def test_pending_octets_are_bounded_by_drain(spool: SqliteSpool) -> None:
    """However fast they come in."""
    incoming = spool.incoming(NOW)
    for _ in range(200):
        incoming.write(b"x" * 65_536)
        await incoming.drain()
        assert incoming._pending <= PENDING
    assert 200 * 65_536 == incoming.size
    await incoming.abort()


# The disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m,mode=0700", "tmpfs", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here: what a full disk does was NOT tested")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    filler = disk / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(fd, b"x" * 4096):
            pass
    os.close(fd)
    return filler


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)


@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_a_full_disk_refuses_mail_and_recovers_without_restart(small_disk: Path, size: int) -> None:
    """SpoolFull, nothing half-stored, attempts under way go on being recorded; with room again mail is accepted."""
    spool = await open_sqlite(small_disk, Clock())
    body = b"\r\n" + b"x" * size
    accepted = [await accept(spool)]
    while len(refused := await asyncio.gather(accept(spool, body=body), return_exceptions=True)) == 1 and isinstance(refused[0], Entry):
        accepted.append(refused[0])
    assert isinstance(refused[0], SpoolFull)
    assert (False, True) == (spool.health().ok, spool.health().full)
    filler = fill(small_disk)
    assert not (await spool.probe(0)).ok
    with pytest.raises(SpoolFull):
        await accept(spool, body=body)
    assert (small_disk / "spool" / "ballast").exists()
    for entry in accepted:
        assert await attempt(spool, entry.queue_id, {"a@example.net": RELAYED})
        assert await spool.finish(entry.queue_id, NOW, keep_body=False)
    filler.unlink()
    assert (await spool.probe(0)).ok
    accepted.append(await accept(spool, body=body[:200_000]))
    await spool.close()
    spool = await open_sqlite(small_disk, Clock())
    found = [*await spool.find(Filter(state="finished"), 1000), *await spool.find(Filter(), 1000)]
    assert [entry.queue_id for entry in accepted] == [entry.queue_id for entry in found]
    assert [] == list(await spool.corrupt())
    assert {path.name for path in (small_disk / "spool" / "bodies").iterdir()} <= {accepted[-1].queue_id}
    await spool.close()


async def test_a_read_only_disk_is_refused_at_the_start(small_disk: Path) -> None:
    """With a sentence, and it works again when it is writable."""
    spool = await open_sqlite(small_disk, Clock())
    entry = await accept(spool)
    await spool.close()
    remount(small_disk, "ro")
    with pytest.raises(SpoolError, match="Read-only file system"):
        await open_sqlite(small_disk, Clock())
    remount(small_disk, "rw")
    spool = await open_sqlite(small_disk, Clock())
    assert [entry.queue_id] == [found.queue_id for found in await spool.find(Filter(), 10)]
    await spool.close()


async def test_an_error_of_the_disk_is_trouble_until_a_test_write_works(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be made fails its message; the probe finds out when it is over."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(spool._disk.bodies, "create", refuse)
        with pytest.raises(SpoolError, match="Input/output error"):
            await accept(spool, body=LARGE_BODY)
        assert (False, False) == (spool.health().ok, spool.health().full)
        assert not (await spool.probe(0)).ok
        assert "Input/output error" in spool.health().why
    assert (await spool.probe(0)).ok
    await accept(spool, body=LARGE_BODY)


async def test_a_file_taken_away_under_the_daemon_is_noticed(tmp_path: Path, spool: SqliteSpool) -> None:
    """What goes into a removed file is gone at the next start: nothing is accepted until the old one is back."""
    file = tmp_path / "spool" / "spool.db"
    file.rename(tmp_path / "elsewhere")
    assert not (await spool.probe(0)).ok
    file.touch()
    health = await spool.probe(0)
    assert (False, True) == (health.ok, "removed or replaced under the daemon" in health.why)
    (tmp_path / "elsewhere").rename(file)
    assert (await spool.probe(0)).ok
    assert await accept(spool)


async def test_a_sync_that_fails_on_a_body_file_is_not_answered_as_stored(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file goes, no row is written."""

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(spool._disk.bodies, "sync", refuse)
        with pytest.raises(SpoolError):
            await accept(spool, body=LARGE_BODY)
    assert ([], []) == (list(await spool.find(Filter(), 10)), list(spool._disk.bodies.names()))


async def test_cutting_the_wal_leaves_what_was_acknowledged(tmp_path: Path, spool: SqliteSpool) -> None:
    """What lies behind the last valid frame goes; commits go on; a file that is none of SQLite's is left alone."""
    entry = await accept(spool)
    wal, shm = (tmp_path / "spool" / f"spool.db-{end}" for end in ("wal", "shm"))
    valid = wal.stat().st_size
    with wal.open("ab") as file:
        file.write(b"x" * 5000)
    database.cut_wal(tmp_path / "spool")
    assert valid == wal.stat().st_size
    other = await accept(spool)
    assert [entry.queue_id, other.queue_id] == [found.queue_id for found in await spool.find(Filter(), 10)]
    (tmp_path / "spool.db-shm").write_bytes(shm.read_bytes()[:48] + b"x" * 100)
    (tmp_path / "spool.db-wal").write_bytes(b"other")
    database.cut_wal(tmp_path)
    assert b"other" == (tmp_path / "spool.db-wal").read_bytes()


async def test_a_purged_spool_gives_its_room_back(tmp_path: Path, spool: SqliteSpool) -> None:
    """All but what it may need again soon."""
    for _ in range(110):
        entry = await accept(spool, body=b"\r\n" + b"x" * 250_000)
        await attempt(spool, entry.queue_id, {"a@example.net": RELAYED})
        await spool.finish(entry.queue_id, NOW, keep_body=True)
    assert 110 == await spool.purge(NOW + 1, NOW + 1)
    await spool._do(Trial())
    reader = database.connect(tmp_path / "spool", read_only=True)
    assert reader.execute("PRAGMA page_count").fetchone()[0] < 6000
    reader.close()


async def test_a_postponement_into_the_past_is_due_at_once(spool: SqliteSpool) -> None:
    """Delivery is woken for it."""
    calls: list[int] = []
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    spool.on_due(lambda: calls.append(1))
    await spool.postpone(entry.queue_id, ["a@example.net"], NOW - 1)
    assert calls
    assert 1 == len(await spool.claim(NOW, 1, 60))


# Reading without a daemon


async def test_the_reader_reads_what_a_daemon_left(tmp_path: Path) -> None:
    """After an orderly end and beside a running daemon alike."""
    spool = await open_sqlite(tmp_path, Clock())
    entry = await accept(spool)
    large = await accept(spool, body=LARGE_BODY)
    await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW + 9)})
    for close in (False, True):
        if close:
            await spool.close()
        with Reader(tmp_path / "spool") as reader:
            assert [entry.queue_id, large.queue_id] == [found.queue_id for found in reader.find(Filter(), 10, NOW)]
            assert State.QUEUED is next(iter(reader.find(Filter(), 1, NOW))).recipients[0].state
            assert 1 == len(reader.history(entry.queue_id))
            assert HEADER + LARGE_BODY == b"".join(reader.message(large.queue_id).pieces())
            assert 2 == reader.counts(NOW).entries
            assert [] == list(reader.corrupt())
            assert None is reader.entry("00000000000000")


async def test_the_reader_says_when_there_is_no_spool_or_a_damaged_one(tmp_path: Path) -> None:
    """As a SpoolError."""
    with pytest.raises(SpoolError, match="no spool"):
        Reader(tmp_path)
    (tmp_path / "spool.db").write_bytes(b"x" * 5000)
    with pytest.raises(SpoolError):
        Reader(tmp_path)


# Queue ids


def test_an_id_beyond_the_mark_lags_behind_the_clock_instead_of_waiting() -> None:
    """Until the mark is moved; only when all reserved ones are used up there is none."""
    queue_ids = QueueIds(3, ids.at(NOW))
    queue_ids.mark = queue_ids.wanted(NOW)
    first = queue_ids.take(NOW)
    assert (round(NOW * 1000), 3) == (first >> 14, first >> 8 & 63)
    assert 0 == queue_ids.wanted(NOW + 29)
    assert queue_ids.wanted(NOW + 31) > queue_ids.mark
    late = queue_ids.take(NOW + 3600)
    assert first < late < queue_ids.mark
    queue_ids.mark = late + 3
    assert [late + 1, late + 2] == [queue_ids.take(NOW + 3600), queue_ids.take(NOW + 3600)]
    with pytest.raises(SpoolError, match="no queue ids"):
        queue_ids.take(NOW + 3600)


def test_a_full_counter_borrows_from_the_next_millisecond() -> None:
    """Ids stay in their shard."""
    queue_ids = QueueIds(5, 0)
    queue_ids.mark = queue_ids.wanted(NOW)
    taken = [queue_ids.take(NOW) for _ in range(1000)]
    assert sorted(set(taken)) == taken
    assert {5} == {number >> 8 & 63 for number in taken}
    with pytest.raises(ValueError, match="shard"):
        QueueIds(64, 0)


def test_only_fourteen_hex_digits_are_a_queue_id() -> None:
    """Everything else is a number that no entry has."""
    assert 0x687E7641C64007 == ids.number("687E7641C64007") == ids.number("687e7641c64007")
    assert [-1] * 5 == [ids.number(text) for text in ("", "687E7641C6400", "687E7641C640071", "0x7E7641C64007", "687E7641C6400٣")]


async def test_a_mark_that_cannot_be_moved_stops_nothing(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids go on from those reserved; the next try moves it."""
    real = spool._writer.submit

    def refuse(operation: object) -> asyncio.Future[None]:
        if isinstance(operation, Reserve):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(SpoolError("no"))
            return future
        return real(operation)  # type: ignore[arg-type]

    monkeypatch.setattr(spool._writer, "submit", refuse)
    before, mark = spool.incoming(NOW).queue_id, spool._ids.mark
    after = spool.incoming(NOW + 100).queue_id
    await asyncio.sleep(0)
    assert before < after
    assert mark == spool._ids.mark
    monkeypatch.undo()
    spool.incoming(NOW + 100)
    await spool._do(Trial())
    assert spool._ids.mark > ids.at(NOW + 100)
    assert after < spool.incoming(NOW + 100).queue_id


async def test_probe_moves_the_mark_of_an_idle_spool(tmp_path: Path) -> None:
    """So that ids keep telling the time."""
    clock = Clock()
    spool = await open_sqlite(tmp_path, clock)
    clock.now += 3600
    await spool.probe(0)
    await spool._do(Trial())
    assert round(clock.now * 1000) == int(spool.incoming(clock.now).queue_id, 16) >> 14
    await spool.close()


def fresh_entry(number: int) -> Entry:
    mail = envelope()
    states = (RecipientState(mail.recipients[0], State.QUEUED),)
    return Entry(ids.text(number), NOW, CLIENT, mail, Facts(1000, False, 10), b"", "", (), states)


def test_the_memory_of_fresh_messages_is_bounded() -> None:
    """Nothing more is taken in when it is full; what goes makes room."""
    fresh = Fresh(limit=20_000)
    entries = [fresh_entry(n) for n in range(6)]
    for entry in entries:
        fresh.put(entry, b"x" * 1000)
    kept = [n for n, entry in enumerate(entries) if fresh.message(ids.number(entry.queue_id))]
    assert [0, 1, 2] == kept
    fresh.forget([ids.number(entries[1].queue_id)])
    fresh.put(entries[5], b"x" * 1000)
    assert fresh.take(ids.number(entries[5].queue_id)) is entries[5]
    assert None is fresh.take(ids.number(entries[5].queue_id))


async def test_set_aside_during_an_attempt_stays_set_aside(spool: SqliteSpool) -> None:
    """The outcome is stored, and the entry does not come back into the queue."""
    entry = await accept(spool)
    await spool.claim(NOW, 1, 60)
    await spool._do(SetAside(ids.number(entry.queue_id), "x", NOW))
    await attempt(spool, entry.queue_id, {"a@example.net": deferred(NOW)})
    assert ([], 1) == (list(await spool.claim(NOW + 99, 10, 60)), len(await spool.history(entry.queue_id)))
