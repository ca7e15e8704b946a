"""The disk under the spool: its directory, held by one daemon, and whether mail can be accepted there.

Promises: after any error of the disk nothing is accepted until a test write, of a row and of a file, has succeeded; a disk that
fills up is told before it is full; a database that was removed or replaced under the daemon is noticed.
How it fails: a directory that cannot be used is refused with the mend; later trouble is shown in `health` and raised to nobody.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

from relay.errors import SpoolError, SpoolFull
from relay.spool import database, files
from relay.spool.base import Health
from relay.spool.threads import on


class Disk:
    """One daemon's hold on the directory. `trial` writes a row and takes it back; `well` is called by a probe that finds no error
    since the last one. `directory` is resolved, `bodies` and `health` are known, once it is taken."""

    bodies: files.Bodies

    def __init__(self, directory: Path, *, trial: Callable[[], Awaitable[None]], well: Callable[[], None]) -> None:
        self.directory = directory
        self.health = Health(ok=False, full=False, why="the spool is not open", free=0)
        self._trial = trial
        self._well = well

    def take(self) -> None:
        """Keep other daemons out. Raises SpoolBusy naming the pid that holds it, or SpoolError with the mend."""
        try:
            self.directory = files.prepare(self.directory)
            self._lock = files.Lock(self.directory)
        except OSError as error:
            raise database.spool_error(error) from error

    def release(self) -> None:
        """Let the next daemon in."""
        self._lock.release()

    def look_around(self) -> None:
        """Make sure that the database's file is there, and remember which one it is. Raises SpoolError."""
        try:
            files.create(self.directory / database.FILE)
            self._identity = self._identify()
        except OSError as error:
            raise database.spool_error(error) from error
        self.bodies = files.Bodies(self.directory)

    def in_trouble(self, error: SpoolError) -> None:
        """Accept nothing until a probe finds the disk well."""
        self.health = Health(ok=False, full=isinstance(error, SpoolFull), why=str(error), free=self.health.free)

    async def probe(self, min_free: int, threads: Executor) -> Health:
        """Look at the disk and refresh `health`; after an error a test write decides. `min_free` is in octets."""
        try:
            free = await on(threads, self._free)
            self.health = replace(self.health, free=free)
            if await on(threads, self._identify) != self._identity:
                raise SpoolError(f"{database.FILE} was removed or replaced under the daemon: stop relay, bring the old one back, start it")
            if not self.health.ok:
                await self._trial()
                await on(threads, self._test_file)
            else:
                self._well()
        except (SpoolError, OSError) as error:
            self.in_trouble(database.spool_error(error))
            return self.health
        if free < max(min_free, 1):
            why = f"only {free // 1_000_000} MB free on the spool's disk, less than min_free ({min_free // 1_000_000} MB)"
            self.health = Health(ok=False, full=True, why=why, free=free)
        else:
            self.health = Health(ok=True, full=False, why="", free=free)
            await on(threads, partial(files.fill_ballast, self.directory, free))
        return self.health

    def _free(self) -> int:
        """Free octets; 0 when there is no inode left."""
        found = os.statvfs(self.directory)
        return 0 if found.f_files and not found.f_favail else found.f_bavail * found.f_frsize

    def _identify(self) -> tuple[int, int]:
        """What tells the file that is open from another one of its name."""
        found = os.stat(self.directory / database.FILE)
        return found.st_dev, found.st_ino

    def _test_file(self) -> None:
        fd = self.bodies.create(0)
        try:
            os.write(fd, b"test\n")
            self.bodies.sync(fd)
        finally:
            os.close(fd)
            self.bodies.remove(0)
