"""What every transport that opens a connection shares: whom it trusts, and plain words for what went wrong.

Trust is the system's certificate store as OpenSSL was built to find it, or the one `ca_file` of the configuration.
SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE in the environment change nothing. TLS 1.2 is the least. Texts made here
are one printable line and hold nothing that we sent.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

MAX_REPLY = 1000  # characters of a remote's text that are kept

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


@functools.cache
def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """A client context that checks certificate and host name; made once for each `ca_file` (loading roots takes 45 ms).

    Raises OSError (ssl.SSLError too) when `ca_file` cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
        return context
    paths = ssl.get_default_verify_paths()  # openssl_*: as built, whatever the environment says
    if Path(paths.openssl_cafile).is_file():
        context.load_verify_locations(cafile=paths.openssl_cafile)
    if Path(paths.openssl_capath).is_dir():
        context.load_verify_locations(capath=paths.openssl_capath)
    return context


def is_loopback(host: str) -> bool:
    """Whether `host` is this host by name or address; a name that would have to be looked up is not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def remote(host: str, peer: object, port: int) -> str:
    """`host[ip]:port`, as an outcome and a log line name the other side. `peer` is what getpeername gave, or None."""
    address = peer[0] if isinstance(peer, tuple) and peer else "unknown"
    return f"{host}[{address}]:{port}"


def one_line(text: str, limit: int = MAX_REPLY) -> str:
    """A remote's text fit for log, queue and bounce: one line, no control or bidi characters, at most `limit` long."""
    line = " ".join(_UNPRINTABLE.sub(" ", text[: 2 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def reason(error: BaseException) -> str:
    """Why a connection failed, in the words of the innermost cause that has any. Never the text of a library's exception."""
    for cause in reversed(list(_causes(error))):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return one_line(f"certificate not accepted: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError):
            why = getattr(cause, "reason", None) or "handshake broken"  # set only where OpenSSL raised it
            return f"TLS failed: {why.replace('_', ' ').lower()}"
        if isinstance(cause, socket.gaierror):
            return f"name not found: {cause.strerror}"
        if isinstance(cause, TimeoutError):
            return "timed out"
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno)
    return "connection lost"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        yield error
        error = error.__cause__ or error.__context__
