"""The users file: who may log in at a listener, and with which password.

One user to a line, `name:{SCRYPT}ln=14,r=8,p=2$salt$hash`: scrypt (RFC 7914) with its parameters in the line, so that they may
change; salt and hash in base64 without padding. `#` begins a comment line, empty lines are left alone. Names are printable
UTF-8 of at most 255 octets, without a colon, compared octet for octet. Passwords are the UTF-8 octets as given: SASLprep
(RFC 4013) is not applied, so a client must spell a password as `relay passwd` got it.

Promises: a changed file counts from the next login on; a name that is not there costs what a wrong password costs; scrypt
runs beside the event loop, few at once; a success is remembered for some minutes as an HMAC under a key that lives only in
this process; a file is replaced as a whole or not at all, and only one writer at a time. Fails with UsersError, which names
file, line and mend, and holds neither password nor hash.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from relay.errors import RelayError

REMEMBERED = 300.0
"""Seconds for which a success is known without scrypt."""

_AT_ONCE = 2  # scrypts under way in one process: 50 ms of one core and 16 MiB each (2 cores of 2026, OpenSSL 3.0)
_LN, _R, _P = 14, 8, 2  # 2^14 blocks, block size 8, twice: half of that time with p=1, twice the memory with ln=15
_SALT = 16  # octets
_KEY = 32  # octets of a hash
_MAX_MEMORY = 64 * 1024 * 1024  # octets that the parameters of a line may ask for
_MAX_WORK = 2**20  # N·r·p: four times what we write
_LARGEST = 4 * 1024 * 1024  # octets of a file
_LONGEST_NAME = 255  # octets
_SCHEME = "{SCRYPT}"
_HASH = re.compile(r"ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43})")


class UsersError(RelayError):
    """The users file, or what is to be written into it, cannot be used; the text names the place and the mend."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """What a line holds of a password."""

    ln: int
    r: int
    p: int
    salt: bytes
    key: bytes

    @property
    def work(self) -> int:
        return self.r * self.p << self.ln


_NOBODY = _Stored(_LN, _R, _P, bytes(_SALT), b"")


class Users:
    """The users of the file `path`. `refresh` reads it again when it changed."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds, for how long a success is remembered. Raises UsersError."""
        self.path = path
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._known: dict[str, tuple[bytes, float]] = {}  # name -> HMAC of the password, and until when it counts
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

    async def verify(self, name: str, password: str) -> bool:
        """Whether this is the password of `name`, by the file as it is when the answer is known. May be cancelled.

        Looks at the file itself: sessions that outlive a reload ask users that nobody refreshes any more.
        """
        with suppress(UsersError):  # `refresh` says so
            self._follow()
        proof = self._proof(name, password)
        if self._remembers(name, proof):
            return True
        async with self._turns:
            if self._remembers(name, proof):  # clients of one app come at the same time: one of them was checked meanwhile
                return True
            stored = self._users.get(name)
            good = await _in_thread(stored or self._dearest, password)
            if not good or stored is None or self._users.get(name) != stored:
                return False
            self._known[name] = (proof, self._clock() + REMEMBERED)
            return True

    def _proof(self, name: str, password: str) -> bytes:
        return hmac.digest(self._secret, _octets(name) + b"\0" + _octets(password), "sha256")

    def _remembers(self, name: str, proof: bytes) -> bool:
        known, until = self._known.get(name, (b"", 0.0))
        return hmac.compare_digest(known, proof) and self._clock() < until


def hashed(password: str, *, salt: bytes) -> str:
    """What a line holds behind `name:` for this password. `salt` is 16 random octets."""
    key = _scrypt(_NOBODY, salt, password)
    return f"{_SCHEME}ln={_LN},r={_R},p={_P}${_encoded(salt)}${_encoded(key)}"


def set_password(path: Path, name: str, password: str) -> bool:
    """Give `name` this password, in a new file if there is none; True when the user is new. Everything else stays as it is.

    Raises UsersError; then the file is as it was.
    """
    if why := _wrong_name(name):
        raise UsersError(why)
    if not password or "\0" in password:
        raise UsersError("a password has at least one character, and no NUL: give another one")
    line = f"{name}:{hashed(password, salt=secrets.token_bytes(_SALT))}"
    with _rewriting(path) as lines:
        places = _places(lines, name)
        for place in reversed(places[1:]):
            del lines[place]
        if places:
            lines[places[0]] = line
        else:
            lines.append(line)
    return not places


def remove(path: Path, name: str) -> bool:
    """Take `name` out; whether it was there. A file without users stays, and no listener will start with it.

    Raises UsersError; then the file is as it was.
    """
    if not path.exists():
        raise UsersError(f"{path}: there is no such file: name the users file")
    with _rewriting(path) as lines:
        places = _places(lines, name)
        for place in reversed(places):
            del lines[place]
    return bool(places)


# Passwords.


def _dearest(users: Mapping[str, _Stored]) -> _Stored:
    """What a name that is not there is compared with, so that it costs what a name does that is."""
    return max(users.values(), key=lambda one: one.work)


async def _in_thread(stored: _Stored, password: str) -> bool:
    """`_matches` beside the event loop. A cancellation waits for the thread, which cannot be stopped: its turn is not over."""
    check = asyncio.ensure_future(asyncio.to_thread(_matches, stored, password))
    try:
        return await asyncio.shield(check)
    except asyncio.CancelledError:
        await asyncio.wait([check])
        raise


def _matches(stored: _Stored, password: str) -> bool:
    same = hmac.compare_digest(_scrypt(stored, stored.salt, password), stored.key)
    return same and "\0" not in password  # HMAC fills its key up with NULs: "x" and "x\0" have one hash


def _scrypt(how: _Stored, salt: bytes, password: str) -> bytes:
    n = 1 << how.ln
    memory = 128 * how.r * (n + how.p + 2) + 4096  # OpenSSL counts a little beyond RFC 7914's 128·N·r
    return hashlib.scrypt(_octets(password), salt=salt, n=n, r=how.r, p=how.p, maxmem=memory, dklen=_KEY)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # what no UTF-8 decoder makes is a wrong password, not an error


def _encoded(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4))


# Reading.


def _seen(path: Path) -> tuple[int, int, int]:
    """What tells one state of the file from another: inode, time of change in nanoseconds, size."""
    with _naming(path):
        status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_size


def _load(path: Path) -> Mapping[str, _Stored]:
    """The users of a file that nobody but its group may read. Raises UsersError."""
    # Without O_NONBLOCK opening a FIFO would wait for somebody to write into it.
    with _naming(path), open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(_LARGEST + 1) if stat.S_ISREG(mode) else b""
    if not stat.S_ISREG(mode):
        raise UsersError(f"{path} is not a regular file: name the users file")
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise UsersError(f"{path} can be read or changed by others (mode {stat.S_IMODE(mode):04o}): chmod 640 {path}")
    if len(data) > _LARGEST:
        raise UsersError(f"{path} is larger than {_LARGEST} octets: name the users file")
    return _parsed(path, data)


def _parsed(path: Path, data: bytes) -> Mapping[str, _Stored]:
    found: dict[str, tuple[int, _Stored]] = {}
    for number, raw in enumerate(data.split(b"\n"), start=1):
        place = f"{path}:{number}"
        try:
            line = raw.decode().rstrip()
        except UnicodeDecodeError:
            raise UsersError(f"{place}: not UTF-8 text: save the file as UTF-8") from None
        if not line or line.startswith("#"):
            continue
        name, colon, rest = line.partition(":")
        if not colon:  # not shown: it might be a password
            raise UsersError(f"{place}: no colon: a line is name:{_SCHEME}…, as relay passwd NAME writes it")
        if why := _wrong_name(name):
            raise UsersError(f"{place}: {why}")
        if name in found:
            raise UsersError(f"{place}: {name} is already on line {found[name][0]}: delete one of the two")
        found[name] = (number, _password(place, name, rest))
    if not found:
        raise UsersError(f"{path} names no user: add one: relay passwd NAME")
    return {name: stored for name, (_, stored) in found.items()}


def _password(place: str, name: str, text: str) -> _Stored:
    mend = f"set the password again: relay passwd {name}"
    if not text.startswith(_SCHEME):
        raise UsersError(f"{place}: the password of {name} is not hashed as {_SCHEME}: {mend}")
    match = _HASH.fullmatch(text.removeprefix(_SCHEME))
    if not match:
        raise UsersError(f"{place}: the {_SCHEME} of {name} is damaged: {mend}")
    ln, r, p = (int(number) for number in match.group(1, 2, 3))
    if not (1 <= ln <= 20 and r and p and 128 * r << ln <= _MAX_MEMORY and r * p << ln <= _MAX_WORK):
        raise UsersError(f"{place}: the scrypt parameters of {name} ask for too much memory or time, or for none: {mend}")
    try:
        return _Stored(ln, r, p, _decoded(match[4]), _decoded(match[5]))
    except ValueError:
        raise UsersError(f"{place}: the {_SCHEME} of {name} is damaged: {mend}") from None


def _wrong_name(name: str) -> str:
    """Why `name` cannot be a user's; "" when it can. The text shows no name that might not be printable."""
    if not name or name != name.strip() or name.startswith("#") or ":" in name or not name.isprintable():
        return "a user's name is printable, holds no colon, begins with no # and has no space at its ends: give another one"
    if len(_octets(name)) > _LONGEST_NAME:
        return f"a user's name has at most {_LONGEST_NAME} octets: give a shorter one"
    return ""


# Writing.


def _places(lines: Sequence[str], name: str) -> list[int]:
    return [at for at, line in enumerate(lines) if line.partition(":")[0] == name and not line.startswith("#")]


@contextmanager
def _rewriting(path: Path) -> Iterator[list[str]]:
    """The lines of the file, to be changed in place: what is there at the end becomes the file, unless an exception comes.

    Nobody else rewrites at the same time. Owner, group and rights stay; a new file is 0640 and of its directory's group.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    with _naming(path), _alone(path.parent) as directory:
        try:
            status, data = os.stat(path), path.read_bytes()
        except FileNotFoundError:
            status, data = None, b""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise UsersError(f"{path}: not UTF-8 text: save the file as UTF-8") from None
        lines = text.removesuffix("\n").split("\n") if text else []
        before = list(lines)
        yield lines
        if lines != before:
            _replace(path, "".join(f"{line}\n" for line in lines).encode(), status)
            os.fsync(directory)


@contextmanager
def _alone(directory: Path) -> Iterator[int]:
    """The directory, locked against others that would rewrite a file in it. Readers are not kept out."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes, before: os.stat_result | None) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            ours = os.fstat(descriptor)
            if before:
                if (before.st_uid, before.st_gid) != (ours.st_uid, ours.st_gid):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            else:
                with suppress(PermissionError):  # not one of the directory's group: then it is our own
                    os.fchown(descriptor, -1, os.stat(path.parent).st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o770 if before else 0o640)
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the system, with the file and the mend."""
    try:
        yield
    except FileNotFoundError as error:
        raise UsersError(f"{path}: there is no such file or directory: correct the path, or add a user: relay passwd NAME") from error
    except PermissionError as error:
        raise UsersError(f"{path}: permission denied: run as root, or let relay's group read it: chmod 640 {path}") from error
    except (OSError, ValueError) as error:
        raise UsersError(f"{path}: {getattr(error, 'strerror', None) or 'not a path'}: correct the path") from error
