"""A server's certificate and key: loading them, loading them again when the files change, and what is wrong with them.

Promises: a context is given out only after certificate and key were proved to belong together by a handshake with
ourselves; TLS 1.2 is the least; files that became wrong leave the ones in use alone. Fails with CertificateError, which
names the file and the mend. A certificate that has expired still loads, so that a daemon goes on serving what it has:
`problems` is what says so before a start. RFC 8446, RFC 5280 §4.1.2.5 (validity).
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Never

from relay.errors import RelayError

SOON = 14 * 86400.0
"""Seconds before its end from which on a certificate is warned of."""

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the ssl module does not name
_LARGEST = 1024 * 1024  # octets of a file; a chain has some thousand
_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_END_CERTIFICATE = b"-----END CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_MISMATCH = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})  # the last: keys of two kinds

Seen = tuple[tuple[int, int, int], ...]
"""What tells one state of the files from another: inode, time of change in nanoseconds and size of each."""


class CertificateError(RelayError):
    """The certificate or its key cannot be used; the text names the file and the mend."""


class _Encrypted(Exception):
    """The key asks for a passphrase, which nobody is there to type."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A usable pair. Times are Unix seconds."""

    context: ssl.SSLContext
    begins: float
    ends: float


class ServerTls:
    """A server's certificate and key, loaded; `refresh` loads them again when the files changed."""

    def __init__(self, cert: Path, key: Path) -> None:
        """`cert` holds the certificate and the chain below it, `key` its unencrypted key, both PEM; they may be one file.

        Raises CertificateError.
        """
        self._cert, self._key = cert, key
        self._seen = _seen(cert, key)
        self._loaded = _load(cert, key)

    @property
    def context(self) -> ssl.SSLContext:
        """The server's side of TLS, for new connections. Those under way keep the one they began with."""
        return self._loaded.context

    def refresh(self) -> bool:
        """Load the files again if they changed; True when new ones are in use from now on.

        Raises CertificateError when they changed and are wrong: the old ones stay in use, and the next call tries again.
        """
        seen = _seen(self._cert, self._key)
        if seen == self._seen:
            return False
        self._loaded = _load(self._cert, self._key)
        self._seen = seen
        return True

    def expires(self) -> float:
        """When the certificate ends, in Unix seconds."""
        return self._loaded.ends


def problems(cert: Path, key: Path, now: float) -> tuple[list[str], list[str]]:
    """(errors, warnings) about the pair at `now` (Unix seconds), each one sentence with its mend."""
    errors: list[str] = []
    warnings: list[str] = []
    try:
        mode = os.stat(key).st_mode
        if stat.S_ISREG(mode) and not _swapped(cert, key) and mode & (stat.S_IROTH | stat.S_IWOTH):
            errors.append(f"key {key} can be read or changed by others (mode {stat.S_IMODE(mode):04o}): chmod 640 {key}")
    except (CertificateError, OSError, ValueError):
        pass  # loading it says why
    try:
        loaded = _load(cert, key)
    except CertificateError as error:
        return [*errors, str(error)], warnings
    if loaded.ends <= now:
        errors.append(f"certificate {cert} expired on {_day(loaded.ends)}: renew it")
    elif loaded.ends - now < SOON:
        warnings.append(f"certificate {cert} expires on {_day(loaded.ends)}: renew it before")
    if loaded.begins > now:
        errors.append(f"certificate {cert} is valid only from {_day(loaded.begins)}: wait, or set this host's clock")
    return errors, warnings


def _swapped(cert: Path, key: Path) -> bool:
    ours, theirs = _read("certificate", cert), _read("key", key)
    return _KEY in ours and _BEGIN_CERTIFICATE in theirs and not (_BEGIN_CERTIFICATE in ours or _KEY in theirs)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _seen(cert: Path, key: Path) -> Seen:
    """Taken before loading, so that a change in between is noticed the next time."""
    found = []
    for what, path in (("certificate", cert), ("key", key)):
        with _naming(what, path):
            status = os.stat(path)
        found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _load(cert: Path, key: Path) -> _Loaded:
    """The pair as a context that was tried out. Raises CertificateError."""
    if _swapped(cert, key):
        raise CertificateError(f"certificate {cert} holds a key, and key {key} a certificate: they are swapped")
    leaf = _leaf(cert)
    if _KEY not in _read("key", key):
        raise CertificateError(f"key {key} holds no private key in PEM form: name the file that has one")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client may not make us repeat the handshake at will
    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except _Encrypted:
        mend = f"take the passphrase off: openssl pkey -in {key} -out NEW"
        raise CertificateError(f"key {key} is encrypted, and nobody can type its passphrase: {mend}") from None
    except ssl.SSLError as error:
        raise CertificateError(_why(cert, key, error)) from error
    except OSError as error:
        raise CertificateError(f"cannot read certificate {cert} or key {key}: {error.strerror}; try again") from error
    return _tried(context, leaf, cert)


def _leaf(cert: Path) -> str:
    """The first certificate of the file as PEM; it is the server's own."""
    data = _read("certificate", cert)
    start, end = data.find(_BEGIN_CERTIFICATE), data.find(_END_CERTIFICATE)
    if not 0 <= start < end:
        raise CertificateError(f"certificate {cert} holds no certificate in PEM form: name the file that has one")
    leaf = data[start : end + len(_END_CERTIFICATE)].decode("ascii", "replace") + "\n"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=leaf)
    except (ValueError, OSError) as error:
        raise CertificateError(f"certificate {cert} is damaged: put a whole one in its place") from error
    return leaf


def _tried(context: ssl.SSLContext, leaf: str, cert: Path) -> _Loaded:
    """Shake hands with ourselves in memory: this shows the leaf's dates, and that a client can take it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=leaf)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME  # trust the leaf itself, whatever the time
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server)
    theirs = context.wrap_bio(to_server, to_client, server_side=True)
    try:
        while not all([_moved(ours), _moved(theirs)]):  # a list, so that both move in each round
            pass
    except ssl.SSLCertVerificationError as error:
        mend = "get one for a TLS server"
        raise CertificateError(f"certificate {cert} would be accepted by no client: {error.verify_message}: {mend}") from error
    shown = ours.getpeercert()
    assert shown is not None
    begins, ends = (ssl.cert_time_to_seconds(str(shown[name])) for name in ("notBefore", "notAfter"))
    return _Loaded(context, begins, ends)


def _moved(side: ssl.SSLObject) -> bool:
    """Go on with the handshake as far as it gets; whether it is complete."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _why(cert: Path, key: Path, error: ssl.SSLError) -> str:
    reason = error.reason or "damaged"
    if reason in _MISMATCH:
        return f"key {key} does not belong to certificate {cert}: name the key that the certificate was made with"
    if reason.startswith("EE_") or reason.startswith("CA_"):  # OpenSSL's least strength: EE_KEY_TOO_SMALL, CA_MD_TOO_WEAK
        return f"certificate {cert} is too weak for today's TLS ({reason.lower().replace('_', ' ')}): get a new one"
    return f"certificate {cert} and key {key} cannot be used ({reason.lower().replace('_', ' ')}): put whole ones in their place"


def _no_passphrase() -> Never:
    raise _Encrypted


def _read(what: str, path: Path) -> bytes:
    # Without O_NONBLOCK opening a FIFO would wait for somebody to write into it.
    with _naming(what, path), open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read(_LARGEST)
    raise CertificateError(f"{what} {path} is not a regular file: name the file that holds it")


@contextmanager
def _naming(what: str, path: Path) -> Iterator[None]:
    """Errors of the system, with the file and the mend."""
    try:
        yield
    except FileNotFoundError as error:
        raise CertificateError(f"{what} {path}: there is no such file: correct the path, or put it there") from error
    except PermissionError as error:
        raise CertificateError(f"{what} {path} cannot be read: let relay's group read it: chgrp relay {path}; chmod 640 {path}") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path"
        raise CertificateError(f"{what} {path} cannot be read: {why}: correct the path") from error
