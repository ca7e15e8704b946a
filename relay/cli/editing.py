"""A configuration file with another text in its place: shown first, checked first, then replaced as one step.

Promise: the file is the old one or the new one at every moment, also when the host fails; mode, owner and access lists stay, and
a symlink still leads to it. What somebody else changed meanwhile is not overwritten. Fails with Stop, and the file is as it
was: 77 where it may not be written, 74 where the disk says no, 75 where it changed meanwhile.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.cli import exits
from relay.cli.exits import Stop
from relay.config.stars import masked
from relay.log import clean

_AROUND = 1  # lines shown above and below a change
_BOM = "\ufeff"
_TOKEN = re.compile(r"(?=[\w+/=-]*[0-9])(?=[\w+/=-]*[A-Za-z])[\w+/=-]{16,}")  # an old secret in a comment, say


@dataclass(frozen=True)
class Original:
    """A file as it was read. `name` is what it was called, `path` where it is when symlinks are followed."""

    name: Path
    path: Path
    data: bytes
    stat: os.stat_result

    @property
    def text(self) -> str:
        """What it says, without a byte order mark. Only for UTF-8."""
        return self.data.decode("utf-8-sig")

    def with_text(self, text: str) -> bytes:
        """The octets of another text in its place."""
        return ((_BOM if self.data.startswith(_BOM.encode()) else "") + text).encode()


def read(name: Path) -> Original:
    """The file as it is now."""
    with _refused(name, "read"):
        path = name.resolve(strict=True)
        with path.open("rb") as file:
            return Original(name, path, file.read(), os.fstat(file.fileno()))


@contextlib.contextmanager
def draft(original: Original, data: bytes) -> Iterator[Path]:
    """A file beside it with these octets, mode, owner and access lists as of the original, safe on the disk; gone afterwards."""
    with _refused(original.path, "written"):
        number, name = tempfile.mkstemp(dir=original.path.parent, prefix=f".{original.path.name}.", suffix=".new")
    made = Path(name)
    try:
        with _refused(original.path, "written"), open(number, "wb") as file:
            file.write(data)
            file.flush()
            with _refused(original.path, "replaced with its owner and mode kept"):
                _like(original, number)
            os.fsync(number)
        yield made
    finally:
        made.unlink(missing_ok=True)


def put(original: Original, data: bytes) -> None:
    """These octets take the place of what was read."""
    with draft(original, data) as made, _refused(original.path, "replaced"):
        if _changed(original):
            raise Stop(exits.TRY_LATER, f"{original.name} was changed by somebody else meanwhile; nothing was written. Try again")
        made.replace(original.path)
    _sync(original.path.parent)


def _sync(directory: Path) -> None:
    """The new name is safe on the disk, too."""
    try:
        number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        raise Stop(exits.OUTPUT, f"the file is changed, but the disk does not confirm it: {directory}: {error.strerror}") from error


def _changed(original: Original) -> bool:
    """Whether the file is another one than was read, or holds something else."""
    if original.name.resolve() != original.path or not os.path.samestat(original.path.stat(), original.stat):
        return True
    return original.path.read_bytes() != original.data


def _like(original: Original, number: int) -> None:
    """Owner, mode and extended attributes (access lists among them) of the original. What marks the file for a security module is
    that module's to give."""
    now = os.fstat(number)
    if (now.st_uid, now.st_gid) != (original.stat.st_uid, original.stat.st_gid):
        os.fchown(number, original.stat.st_uid, original.stat.st_gid)
    os.fchmod(number, original.stat.st_mode & 0o7777)
    for name in _attributes(original.path):
        if not name.startswith("security."):
            os.setxattr(number, name, os.getxattr(original.path, name))


def _attributes(path: Path) -> Sequence[str]:
    try:
        return os.listxattr(path)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return ()
        raise


@contextlib.contextmanager
def _refused(path: Path, what: str) -> Iterator[None]:
    """What the system refuses, in words."""
    try:
        yield
    except FileNotFoundError as error:
        raise Stop(exits.NO_INPUT, f"{path}: there is no such file") from error
    except PermissionError as error:
        raise Stop(exits.PERMISSION, f"{path} cannot be {what}: {error.strerror}; nothing was changed. Try sudo") from error
    except OSError as error:
        mend = ". It is mounted by itself: change it where it comes from, then: relay reload" if error.errno == errno.EBUSY else ""
        raise Stop(exits.OUTPUT, f"{path} cannot be {what}: {error.strerror}; nothing was changed{mend}") from error


def difference(name: str, old: str, new: str, weights: Collection[str] = ()) -> Iterator[str]:
    """The lines that differ and one line around them, as diff -U1 has it; what may be a secret is starred out. `weights` are keys
    whose numbers are none."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    stars_before, stars_after = (_masked([line.rstrip("\r\n") for line in lines], weights) for lines in (before, after))
    yield f"--- {clean(name)}"
    yield f"+++ {clean(name)} (new)"
    for group in difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(_AROUND):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"
        for tag, start, end, new_start, new_end in group:
            if tag == "equal":
                yield from (f" {_shown(_TOKEN.sub(_stars, line))}" for line in stars_before[start:end])
            else:
                yield from (f"-{_shown(line)}" for line in stars_before[start:end])
                yield from (f"+{_shown(line)}" for line in stars_after[new_start:new_end])


def _masked(lines: Sequence[str], weights: Collection[str]) -> list[str]:
    """The lines with stars. For as long as they are looked at, `#` stands for each character of a weight: nobody takes that for a
    secret, nor the comment behind it for more of one."""
    if not weights:
        return masked(lines)
    name = "|".join(map(re.escape, weights))
    weight = re.compile(rf"""(?<![\w.-])(?:{name})["']?\s*:\s*(["']?[0-9]+(?:\.[0-9]+)?["']?)(?=\s*(?:$|[,}}\]]|\s#))""")
    found = masked([weight.sub(lambda match: match[0][: -len(match[1])] + "#" * len(match[1]), line) for line in lines])
    for number, line in enumerate(lines):
        for match in weight.finditer(line):
            found[number] = found[number][: match.start(1)] + match[1] + found[number][match.end(1) :]
    return found


def _shown(line: str) -> str:
    return clean(line.replace("\t", " "))


def _stars(found: re.Match[str]) -> str:
    return "*" * len(found[0])


def _range(start: int, end: int) -> str:
    """Lines as a hunk's head names them: the first one and how many; 1 is left out."""
    count = end - start
    return f"{start + 1 if count else start}" + ("" if count == 1 else f",{count}")
