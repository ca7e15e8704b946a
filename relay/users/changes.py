"""Changes to the users file: it is replaced as a whole or not at all, and only one writer at a time.

Fails with UsersError; then the file is as it was.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from relay.users.lines import SALT, UsersError, hashed, identity_on, shown, wrong_identity, wrong_name


def set_password(path: Path, name: str, password: str, identity: str | None = None) -> bool:
    """Give `name` this password, in a new file if there is none; True when the user is new. Everything else stays as it is.

    Of several users of one name the one known as `identity` is meant. Where there is none, one without an identity gets this, or a new
    user is added; an identity that equals the name is none. Raises UsersError; then the file is as it was.
    """
    if why := wrong_name(name):
        raise UsersError(f"a user's name {why}")
    if identity is not None and (why := wrong_identity(identity)):
        raise UsersError(why)
    if not password or "\0" in password:
        raise UsersError("a password has at least one character, and no NUL: give another one")
    line = f"{name}:{hashed(password, salt=secrets.token_bytes(SALT))}"
    with _rewriting(path) as lines:
        places = _places(lines, name, identity, path) or _places(lines, name, name, path)
        if identity is None and places:
            identity = identity_on(lines[places[0]], name)
        if identity and identity != name:
            line += f":{identity}"
        for place in reversed(places[1:]):
            del lines[place]
        if places:
            lines[places[0]] = line
        else:
            lines.append(line)
    return not places


def known_as(path: Path, name: str, identity: str | None = None) -> str:
    """By what the user is known whom `set_password` and `remove` would take with these arguments. Raises UsersError, also where it
    must be said which of several is meant."""
    lines: list[str] = []
    if path.exists():
        with naming(path):
            lines = path.read_bytes().decode("utf-8", "replace").split("\n")
    places = _places(lines, name, identity, path)
    return identity or next((identity_on(lines[place], name) for place in places), "") or shown(name)


def remove(path: Path, name: str, identity: str | None = None) -> bool:
    """Take `name` out, of several users of that name the one known as `identity`; whether it was there. A file without users stays,
    and no listener will start with it.

    Raises UsersError; then the file is as it was.
    """
    if not path.exists():
        raise UsersError(f"{path}: there is no such file: name the users file")
    with _rewriting(path) as lines:
        places = _places(lines, name, identity, path)
        for place in reversed(places):
            del lines[place]
    return bool(places)


def _places(lines: Sequence[str], name: str, identity: str | None, path: Path) -> list[int]:
    """The lines of the user; of those with `identity`, where one is given. Raises UsersError where several users bear the name."""
    found = {at: identity_on(line, name) for at, line in enumerate(lines) if line.partition(":")[0] == name and not line.startswith("#")}
    if identity is not None:
        return [at for at, one in found.items() if one == ("" if identity == name else identity)]
    if len(several := dict.fromkeys(one or shown(name) for one in found.values())) > 1:
        raise UsersError(f"{path}: {shown(name)} is several users: say which by --identity: {', '.join(several)}")
    return list(found)


@contextmanager
def _rewriting(path: Path) -> Iterator[list[str]]:
    """The lines of the file, to be changed in place: what is there at the end becomes the file, unless an exception comes.

    Nobody else rewrites at the same time. Owner, group and rights stay; a new file is 0640 and of its directory's group.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    with naming(path), _alone(path.parent) as directory:
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
def naming(path: Path) -> Iterator[None]:
    """Errors of the system, with the file and the mend."""
    try:
        yield
    except FileNotFoundError as error:
        raise UsersError(f"{path}: there is no such file or directory: correct the path, or add a user: relay passwd NAME") from error
    except PermissionError as error:
        raise UsersError(f"{path}: permission denied: run as root, or let relay's group read it: chmod 640 {path}") from error
    except (OSError, ValueError) as error:
        raise UsersError(f"{path}: {getattr(error, 'strerror', None) or 'not a path'}: correct the path") from error
