"""The spool's SQLite file: its tables, its versions, how it is opened, what its errors mean.

Exactly one connection writes: SQLite before 3.51.3 can corrupt a WAL when two connections write or checkpoint at once
(sqlite.org/wal.html, "The WAL-Reset Bug"). Others open it read-only, so that they can neither write nor checkpoint.
Tables and their states: docs/spool.md. A file written by a newer relay is refused; an older one is brought up to date
in one transaction.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from relay.errors import SpoolError, SpoolFull

FILE = "spool.db"
APPLICATION = 0x52454C59  # "RELY", for file(1)
PAGE = 4096  # octets
CHECKPOINT = 2000  # pages in the WAL after which it is written back into the file
MINIMUM = (3, 37, 0)  # STRICT tables; UPDATE FROM and RETURNING are older

_TABLES = """
CREATE TABLE mark (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    queue_id INTEGER NOT NULL,           -- no id from here on was ever given out
    attempt INTEGER NOT NULL             -- the last attempt number given out
) STRICT;
INSERT INTO mark VALUES (1, 0, 0);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,              -- the queue id as a number
    arrived REAL NOT NULL,
    finished REAL,                       -- NULL while it is in the queue
    sender TEXT NOT NULL,
    message_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    eight_bit INTEGER NOT NULL,
    longest_line INTEGER NOT NULL,
    body INTEGER NOT NULL,               -- 0: not kept any more, 1: a row of body, 2: a file
    bounce INTEGER NOT NULL,
    via TEXT NOT NULL,                   -- JSON: [provider, ...]
    client TEXT NOT NULL,                -- JSON: [listener, address, port, name, helo, protocol, username, tls]
    parameters TEXT NOT NULL,            -- JSON: [ret, envid, smtputf8]
    edits TEXT NOT NULL,                 -- JSON: [[kind, text], ...]
    header BLOB NOT NULL
) STRICT;
CREATE INDEX entry_open ON entry (id) WHERE finished IS NULL;
CREATE INDEX entry_kept ON entry (finished) WHERE finished IS NOT NULL AND body <> 0;
CREATE INDEX entry_sender ON entry (sender COLLATE NOCASE);
CREATE INDEX entry_message_id ON entry (message_id) WHERE message_id <> '';
CREATE TABLE body (
    entry INTEGER PRIMARY KEY,
    data BLOB NOT NULL                   -- what follows the header block, its empty line included
) STRICT;
CREATE TABLE recipient (
    entry INTEGER NOT NULL,
    address TEXT NOT NULL,
    n INTEGER NOT NULL,                  -- position in the envelope
    notify TEXT NOT NULL,
    orcpt TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt REAL NOT NULL,
    due REAL,                            -- when claim may return it: next_attempt, or the end of a lease; NULL unless queued
    waits TEXT,                          -- the key it waits for, or NULL
    provider TEXT NOT NULL,
    route TEXT NOT NULL,
    since REAL NOT NULL,
    verdict TEXT NOT NULL,
    status TEXT NOT NULL,
    reply TEXT NOT NULL,
    remote TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    maybe_relayed INTEGER NOT NULL,
    told INTEGER NOT NULL,               -- no (further) notice is due: of a failure, of a success asked for, of a delay
    PRIMARY KEY (entry, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient (due, entry) WHERE due IS NOT NULL;
CREATE INDEX recipient_waits ON recipient (waits, entry) WHERE waits IS NOT NULL;
CREATE INDEX recipient_address ON recipient (address COLLATE NOCASE);
CREATE TABLE attempt (                   -- begun, without an outcome yet
    n INTEGER NOT NULL,
    address TEXT NOT NULL,
    entry INTEGER NOT NULL,
    provider TEXT NOT NULL,
    route TEXT NOT NULL,
    started REAL NOT NULL,
    PRIMARY KEY (n, address)
) STRICT, WITHOUT ROWID;
CREATE TABLE step (                      -- every outcome
    id INTEGER PRIMARY KEY,
    entry INTEGER NOT NULL,
    time REAL NOT NULL,
    address TEXT NOT NULL,
    provider TEXT NOT NULL,
    route TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    status TEXT NOT NULL,
    reply TEXT NOT NULL,
    remote TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    state TEXT NOT NULL
) STRICT;
CREATE INDEX step_entry ON step (entry);
CREATE INDEX step_remote_id ON step (remote_id) WHERE remote_id <> '';
CREATE TABLE corrupt (
    entry INTEGER PRIMARY KEY,
    why TEXT NOT NULL,
    time REAL NOT NULL
) STRICT;
"""

_NOTICES = """
CREATE INDEX recipient_late ON recipient (entry) WHERE told = 0 AND state = 'queued' AND (attempts > 0 OR waits IS NOT NULL);
UPDATE recipient SET told = 1 WHERE state = 'relayed' AND entry IN (SELECT id FROM entry WHERE finished IS NULL);
UPDATE recipient SET route = '' WHERE entry IN (SELECT id FROM entry WHERE finished IS NULL AND bounce);
"""  # version 1 never told of a success, and will not years later; the route of its bounces was that of mail from nobody

_LEDGER = """
CREATE TABLE spent (                     -- the ledger: what was taken of a budget
    budget TEXT NOT NULL,
    slot REAL NOT NULL,                  -- the time it is to be counted at
    amount INTEGER NOT NULL,
    PRIMARY KEY (budget, slot)
) STRICT, WITHOUT ROWID;
CREATE TABLE kept (                      -- what an admin or a ramp decided, to outlive the process
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE recipient ADD COLUMN via TEXT NOT NULL DEFAULT '';  -- JSON: [provider, ...]; '' is as its entry says
"""

LEDGER = 3  # the version from which there are a ledger, what is kept, and recipient.via
MIGRATIONS: tuple[str, ...] = (_TABLES, _NOTICES, _LEDGER)  # the n-th brings version n to n + 1


def connect(directory: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file in `directory`; the writing connection expects it to exist already, so that its mode is ours."""
    if sqlite3.sqlite_version_info < MINIMUM:
        raise SpoolError(f"SQLite {sqlite3.sqlite_version} is too old: the spool needs {'.'.join(map(str, MINIMUM))} or later")
    path = directory / FILE
    mode = "ro" if read_only else "rw"
    db = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=5, isolation_level=None, cached_statements=256)
    try:
        if read_only:
            db.execute("PRAGMA query_only = ON")
        else:
            _settings(db)
    except BaseException:
        db.close()
        raise
    return db


def _settings(db: sqlite3.Connection) -> None:
    # page_size and auto_vacuum count only while the file is empty, and must come before WAL.
    for pragma in (f"page_size = {PAGE}", "auto_vacuum = INCREMENTAL", "journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY"):
        db.execute(f"PRAGMA {pragma}")
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
    db.execute("PRAGMA cache_size = -8192")


def version(db: sqlite3.Connection) -> int:
    """The version of the tables in the file; 0 for an empty one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def check_version(db: sqlite3.Connection, known: int = len(MIGRATIONS)) -> int:
    """The file's version. Raises SpoolError when a newer relay wrote it."""
    if (found := version(db)) > known:
        raise SpoolError(
            f"the spool was written by a newer relay (its format is {found}, this one knows up to {known}): "
            "start the newer relay again, or give this one a directory of its own"
        )
    return found


def migrate(db: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the tables up to date, all steps in one transaction."""
    found = check_version(db, len(migrations))
    if found == len(migrations):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for migration in migrations[found:]:
            for statement in _statements(migration):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {len(migrations)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    # executescript would commit first; a statement ends where SQLite says it is complete.
    found, part = [], ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            found.append(part.strip())
            part = ""
    return found


def cut_wal(directory: Path) -> None:
    """Cut off what lies behind the last valid frame of the WAL: a transaction whose COMMIT failed.

    The wal-index says where that is (sqlite.org/walformat.html §2.1): two equal headers with the version at offset 0, a
    flag at 12, the page size at 14 and the number of valid frames at 16. The WAL is a header of 32 octets, then frames of
    a page and 24 octets. Only the writing process may call this, with no transaction open. Never raises: where this fails
    the next transaction writes over the first of these frames, which makes the rest invalid too.
    """
    with contextlib.suppress(OSError):
        with open(directory / f"{FILE}-shm", "rb") as file:
            first, second = file.read(48), file.read(48)
        version, initialised, page, frames = struct.unpack_from("=I8xBxHI", first)
        if first == second and version == 3007000 and initialised == 1 and page == PAGE:
            os.truncate(directory / f"{FILE}-wal", 32 + frames * (24 + page))


_TROUBLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: BaseException) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_trouble(error: BaseException) -> bool:
    """Whether the disk is to blame, so that the next operation would fare no better."""
    return isinstance(error, OSError) or _code(error) in _TROUBLE


def is_full(error: BaseException) -> bool:
    """Whether there was no room."""
    return (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or _code(error) == sqlite3.SQLITE_FULL


def spool_error(error: BaseException) -> SpoolError:
    """What an error of SQLite, of the file system, or of our own means to a caller of the spool."""
    if isinstance(error, SpoolError):
        return error
    if is_full(error):
        return SpoolFull("the spool's disk is full")
    if _code(error) in _DAMAGED:
        return SpoolError(
            f"{FILE} is damaged ({error}): stop relay, copy the spool directory, then rebuild the file with: sqlite3 {FILE} .recover"
        )
    if isinstance(error, OSError):
        return SpoolError(f"the spool cannot be used: {error.strerror or error}")
    if isinstance(error, sqlite3.Error):
        return SpoolError(f"the spool cannot be used: {error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})")
    return SpoolError(f"the spool failed: {type(error).__name__}: {error}")
