"""The users file: who may log in at a listener, and with which password.

One user to a line, `name:{SCRYPT}ln=14,r=8,p=2$salt$hash`, or the same with `:identity` behind: scrypt (RFC 7914) with its parameters
in the line, so that they may change; salt and hash in base64 without padding. `#` begins a comment line, empty lines are left alone.
Names are printable UTF-8 of at most 255 octets, without a colon, compared octet for octet. Passwords are the UTF-8 octets as given:
SASLprep (RFC 4013) is not applied, so a client must spell a password as `relay passwd` got it.

An app keeps the login of the provider that it left. There the name may be a secret itself (Postmark: the server token), or all apps
have the same and each its own password (Mailtrap: `api`). So who logs in is known everywhere else (log, routes, senders) by an
identity: the third field of the line, by which lines of one name differ, and which several names may share; without it the name; and
for a name that looks like a token `token-` and a fingerprint.

Promises: a changed file counts from the next login on; a name that is not there costs what a wrong password costs; scrypt
runs beside the event loop, few at once; a success is remembered for some minutes as an HMAC under a key that lives only in
this process; a file is replaced as a whole or not at all, and only one writer at a time. Fails with UsersError, which names
file, line and mend, and holds neither password nor hash.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from relay.users.changes import known_as, naming, remove, set_password
from relay.users.lines import ByName, Stored, UsersError, hashed, is_access_key, is_token, matches, octets, parsed, shown

REMEMBERED = 300.0
"""Seconds for which a success is known without scrypt."""

_AT_ONCE = 2  # scrypts under way in one process: 50 ms of one core and 16 MiB each (2 cores of 2026, OpenSSL 3.0)
_LARGEST = 4 * 1024 * 1024  # octets of a file


class Users:
    """The users of the file `path`. `refresh` reads it again when it changed."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds, for how long a success is remembered. Raises UsersError."""
        self.path = path
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._known: dict[tuple[str, str], tuple[bytes, float]] = {}  # name, identity -> HMAC of the password, and until when it counts
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._seen = _seen(path)
        self._users = _load(path)
        self._dearest = _dearest(self._users)
        self._news = False  # the file was read again, and `refresh` has not said so

    def refresh(self) -> bool:
        """Read the file again if it changed, and forget every success; True when it was read since the last call.

        Raises UsersError when it changed and is wrong: the old users stay, and the next call tries again.
        """
        self._follow()
        news, self._news = self._news, False
        return news

    def _follow(self) -> None:
        seen = _seen(self.path)
        if seen == self._seen:
            return
        self._users = _load(self.path)
        self._dearest = _dearest(self._users)
        self._seen = seen
        self._known.clear()
        self._news = True

    async def verify(self, name: str, password: str) -> str | None:
        """By what the user is known whose name and password these are, by the file as it is when the answer is known; None where there
        is none. May be cancelled.

        Looks at the file itself: sessions that outlive a reload ask users that nobody refreshes any more.
        """
        with suppress(UsersError):  # `refresh` says so
            self._follow()
        proof = self._proof(name, password)
        if (known := self._remembered(name, proof)) is not None:
            return known
        async with self._turns:
            if (known := self._remembered(name, proof)) is not None:  # clients of one app come at the same time: one was checked meanwhile
                return known
            candidates = self._users.get(name, ())
            for stored in candidates:
                if await _in_thread(stored, password):
                    if stored not in self._users.get(name, ()):
                        return None
                    self._known[name, stored.identity] = (proof, self._clock() + REMEMBERED)
                    return stored.identity or shown(name)
            for stored in self._dearest[len(candidates) :]:
                await _in_thread(stored, password)
            return None

    def identity(self, name: str) -> str:
        """By what the log may know a login by this name that fails: never a token, also of one who is not there."""
        return " or ".join(dict.fromkeys(stored.identity or shown(name) for stored in self._users.get(name, ()))) or shown(name)

    @property
    def identities(self) -> frozenset[str]:
        """All that a login can be known by."""
        return frozenset(stored.identity or shown(name) for name, several in self._users.items() for stored in several)

    def _proof(self, name: str, password: str) -> bytes:
        return hmac.digest(self._secret, octets(name) + b"\0" + octets(password), "sha256")

    def _remembered(self, name: str, proof: bytes) -> str | None:
        """As `verify`, of those that were right lately."""
        for stored in self._users.get(name, ()):
            known, until = self._known.get((name, stored.identity), (b"", 0.0))
            if hmac.compare_digest(known, proof) and self._clock() < until:
                return stored.identity or shown(name)
        return None


def _dearest(users: ByName) -> tuple[Stored, ...]:
    """What a name that is not there is compared with, so that it costs what a name does that is; one with fewer passwords than
    another costs as much as that."""
    return max(users.values(), key=lambda several: sum(stored.work for stored in several))


async def _in_thread(stored: Stored, password: str) -> bool:
    """`matches` beside the event loop. A cancellation waits for the thread, which cannot be stopped: its turn is not over."""
    check = asyncio.ensure_future(asyncio.to_thread(matches, stored, password))
    try:
        return await asyncio.shield(check)
    except asyncio.CancelledError:
        await asyncio.wait([check])
        raise


def _seen(path: Path) -> tuple[int, int, int]:
    """What tells one state of the file from another: inode, time of change in nanoseconds, size."""
    with naming(path):
        status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_size


def _load(path: Path) -> ByName:
    """The users of a file that nobody but its group may read. Raises UsersError."""
    # Without O_NONBLOCK opening a FIFO would wait for somebody to write into it.
    with naming(path), open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(_LARGEST + 1) if stat.S_ISREG(mode) else b""
    if not stat.S_ISREG(mode):
        raise UsersError(f"{path} is not a regular file: name the users file")
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise UsersError(f"{path} can be read or changed by others (mode {stat.S_IMODE(mode):04o}): chmod 640 {path}")
    if len(data) > _LARGEST:
        raise UsersError(f"{path} is larger than {_LARGEST} octets: name the users file")
    return parsed(path, data)


__all__ = [
    "REMEMBERED",
    "Users",
    "UsersError",
    "hashed",
    "is_access_key",
    "is_token",
    "known_as",
    "remove",
    "set_password",
    "shown",
]
