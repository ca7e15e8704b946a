"""One line of the users file, and what it says: names, identities, and passwords as scrypt (RFC 7914). Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.errors import RelayError

_LN, _R, _P = 14, 8, 2  # 2^14 blocks, block size 8, twice: half of that time with p=1, twice the memory with ln=15
SALT = 16  # octets
_KEY = 32  # octets of a hash
_MAX_MEMORY = 64 * 1024 * 1024  # octets that the parameters of a line may ask for
_MAX_WORK = 2**20  # N·r·p: four times what we write
_LONGEST_NAME = 255  # octets
SCHEME = "{SCRYPT}"
_ACCESS_KEY = re.compile(r"A[KS]IA[A-Z0-9]{12,}")  # of AWS, which calls it an identifier and no secret
_PLAIN_TOKEN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{24,}", re.I)  # Postmark's, Mailtrap's
_MIXED_TOKEN = re.compile(r"(?=[^0-9]*(?:[0-9]+[A-Za-z][^0-9]*){3})[A-Za-z0-9+/=_-]{20,}")  # letters and digits through each other
_PARTED_TOKEN = re.compile(r"SG\.[\w-]{16,}\.[\w-]{16,}", re.ASCII)  # SendGrid's, given for a name
_HASH = re.compile(r"ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43})")


class UsersError(RelayError):
    """The users file, or what is to be written into it, cannot be used; the text names the place and the mend."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a line holds of a password, and the identity behind it."""

    ln: int
    r: int
    p: int
    salt: bytes
    key: bytes
    identity: str = ""

    @property
    def work(self) -> int:
        """How dear a check is, in blocks of scrypt."""
        return self.r * self.p << self.ln


_NOBODY = Stored(_LN, _R, _P, bytes(SALT), b"")
ByName = Mapping[str, tuple[Stored, ...]]
"""The users of a file; those of one name are in its order, each with another identity."""


def hashed(password: str, *, salt: bytes) -> str:
    """What a line holds behind `name:` for this password. `salt` is 16 random octets."""
    key = _scrypt(_NOBODY, salt, password)
    return f"{SCHEME}ln={_LN},r={_R},p={_P}${_encoded(salt)}${_encoded(key)}"


def matches(stored: Stored, password: str) -> bool:
    """Whether this is the password. Takes 50 ms."""
    same = hmac.compare_digest(_scrypt(stored, stored.salt, password), stored.key)
    return same and "\0" not in password  # HMAC fills its key up with NULs: "x" and "x\0" have one hash


def _scrypt(how: Stored, salt: bytes, password: str) -> bytes:
    n = 1 << how.ln
    memory = 128 * how.r * (n + how.p + 2) + 4096  # OpenSSL counts a little beyond RFC 7914's 128·N·r
    return hashlib.scrypt(octets(password), salt=salt, n=n, r=how.r, p=how.p, maxmem=memory, dklen=_KEY)


def octets(text: str) -> bytes:
    """A name or a password as it is compared."""
    return text.encode("utf-8", "surrogatepass")  # what no UTF-8 decoder makes is a wrong password, not an error


def _encoded(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4))


def shown(name: str) -> str:
    """The name as a log may show it: one that looks like a token by a fingerprint of it."""
    return f"token-{hashlib.sha256(octets(name)).hexdigest()[:8]}" if is_token(name) else name


def is_token(name: str) -> bool:
    """Whether the name looks like a secret of a provider's, which nobody may see."""
    return not is_access_key(name) and any(form.fullmatch(name) for form in (_PLAIN_TOKEN, _MIXED_TOKEN, _PARTED_TOKEN))


def is_access_key(name: str) -> bool:
    """Whether the name looks like an access key of AWS."""
    return _ACCESS_KEY.fullmatch(name) is not None


def parsed(path: Path, data: bytes) -> ByName:
    """The users of a file with this content; `path` is for the words of UsersError."""
    found: dict[str, dict[str, Stored]] = {}
    seen: dict[tuple[str, str], int] = {}
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
            raise UsersError(f"{place}: no colon: a line is name:{SCHEME}…, as relay passwd NAME writes it")
        if why := wrong_name(name):
            raise UsersError(f"{place}: a user's name {why}")
        stored = _password(place, name, rest)
        if before := seen.get((name, stored.identity)):
            raise UsersError(f"{place}: {shown(name)} is already on line {before}: delete one of the two, or give it another identity")
        seen[name, stored.identity] = number
        found.setdefault(name, {})[stored.identity] = stored
    if not found:
        raise UsersError(f"{path} names no user: add one: relay passwd NAME")
    return {name: tuple(several.values()) for name, several in found.items()}


def _password(place: str, name: str, text: str) -> Stored:
    called = shown(name)
    mend = f"set the password again: relay passwd {called if called == name else '-'}"
    if not text.startswith(SCHEME):
        raise UsersError(f"{place}: the password of {called} is not hashed as {SCHEME}: {mend}")
    password, colon, identity = text.removeprefix(SCHEME).partition(":")
    if colon and (why := wrong_name(identity)):
        raise UsersError(f"{place}: the identity of {called}, behind the second colon, {why}")
    match = _HASH.fullmatch(password)
    if not match:
        raise UsersError(f"{place}: the {SCHEME} of {called} is damaged: {mend}")
    ln, r, p = (int(number) for number in match.group(1, 2, 3))
    if not (1 <= ln <= 20 and r and p and 128 * r << ln <= _MAX_MEMORY and r * p << ln <= _MAX_WORK):
        raise UsersError(f"{place}: the scrypt parameters of {called} ask for too much memory or time, or for none: {mend}")
    try:
        return Stored(ln, r, p, _decoded(match[4]), _decoded(match[5]), identity)
    except ValueError:
        raise UsersError(f"{place}: the {SCHEME} of {called} is damaged: {mend}") from None


def wrong_name(name: str) -> str:
    """Why `name` cannot be a user's, as the end of a sentence; "" when it can. The text shows no name that might not be printable."""
    if not name or name != name.strip() or name.startswith("#") or ":" in name or not name.isprintable():
        return "is printable, holds no colon, begins with no # and has no space at its ends: give another one"
    if len(octets(name)) > _LONGEST_NAME:
        return f"has at most {_LONGEST_NAME} octets: give a shorter one"
    return ""


def identity_on(line: str, name: str) -> str:
    """The identity on a line of `name`; "" where there is none, or the line holds something else than a hash."""
    password, _, identity = line.rstrip().removeprefix(f"{name}:").partition(":")
    return identity if password.startswith(SCHEME) and not wrong_identity(identity) else ""


def wrong_identity(identity: str) -> str:
    if why := wrong_name(identity):
        return f"an identity {why}"
    if is_token(identity):
        return "an identity is for everybody to see, and this one looks like a token: give another one"
    return ""
