"""The spool's directory: its owner and modes, the lock that keeps a second daemon out, and large bodies as files.

A large body is written and synced, and its directory too, before its row is committed; so a row never names a file
that a crash could take away, and a file without a row is left over from a crash and goes at the next start. No file
name ever comes from outside: a body is named by its queue id.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from relay.errors import SpoolBusy, SpoolError
from relay.spool import ids

LOCK = "lock"
BODIES = "bodies"
BALLAST = "ballast"
BALLAST_SIZE = 8 * 1024 * 1024  # as much as the WAL holds before it is written back (database.CHECKPOINT)
PIECE = 256 * 1024
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def prepare(directory: Path) -> Path:
    """Make the spool directory if it is missing, check it, and return it with symbolic links resolved.

    Raises SpoolError with the mend when others own it or may enter it.
    """
    try:
        made = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in made:  # a power cut must not take the spool away together with its name
            sync_directory(path.parent)
        directory = directory.resolve(strict=True)
        check(directory)
        bodies = directory / BODIES
        bodies.mkdir(mode=0o700, exist_ok=True)
        check(bodies)
    except OSError as error:
        raise SpoolError(f"the spool directory {directory} cannot be used: {error.strerror or error}") from error
    return directory


def check(directory: Path) -> None:
    """Raise SpoolError, with the mend, unless `directory` is ours alone."""
    found = directory.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolError(f"{directory} is not a directory: give queue.spool a directory of its own")
    if found.st_uid != os.geteuid():
        raise SpoolError(
            f"the spool directory {directory} belongs to user {found.st_uid}, and relay runs as user {os.geteuid()}: "
            f"run relay as its owner, or: chown -R {os.geteuid()} {directory}"
        )
    if found.st_mode & 0o077:
        raise SpoolError(
            f"the spool directory {directory} is open to others (mode {stat.S_IMODE(found.st_mode):04o}): chmod 0700 {directory}"
        )


def create(path: Path) -> None:
    """Make sure that a regular file with mode 0600 is there."""
    fd = os.open(path, _NEW_FILE, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SpoolError(f"{path} is not a file: move it out of the spool directory")
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def sync_directory(directory: Path) -> None:
    """Make new names in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fill_ballast(directory: Path, free: int) -> None:
    """Hold some room back, for the outcomes that must be stored when others have filled the disk."""
    path = directory / BALLAST
    if path.exists() or free < 4 * BALLAST_SIZE:
        return
    try:
        fd = os.open(path, _NEW_FILE, 0o600)
        try:
            os.posix_fallocate(fd, 0, BALLAST_SIZE)
        finally:
            os.close(fd)
    except OSError:
        drop_ballast(directory)


def drop_ballast(directory: Path) -> bool:
    """Give that room back. True when there was some."""
    try:
        (directory / BALLAST).unlink()
    except OSError:
        return False
    return True


class Lock:
    """Held while the daemon runs; the file holds its pid. The kernel drops it when the process dies."""

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK
        self._fd = os.open(path, _NEW_FILE, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            pid = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise SpoolBusy(f"another relay (pid {pid or 'unknown'}) uses the spool {directory}") from None
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Let the next daemon in."""
        os.close(self._fd)


class Bodies:
    """The files of large bodies: the whole message, named by queue id."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / BODIES

    def path(self, number: int) -> Path:
        """Where the message of an entry lies."""
        return self._directory / ids.text(number)

    def create(self, number: int) -> int:
        """A new file, open for writing; the caller closes it."""
        return os.open(self.path(number), _NEW_FILE | os.O_EXCL, 0o600)

    def sync(self, fd: int) -> None:
        """Make a whole file and its name durable."""
        os.fsync(fd)
        sync_directory(self._directory)

    def remove(self, number: int) -> None:
        """Remove a file if it is there. A failure leaves an orphan for the next start."""
        with contextlib.suppress(OSError):
            self.path(number).unlink(missing_ok=True)

    def names(self) -> Iterator[int]:
        """The ids of all files there are."""
        with os.scandir(self._directory) as found:
            for item in found:
                if (number := ids.number(item.name)) >= 0:
                    yield number

    def open(self, number: int) -> int:
        """A file, open for reading; the caller closes it. Raises OSError."""
        return os.open(self.path(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
