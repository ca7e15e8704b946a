"""The server's side of TLS on one connection, without the connection: ciphertext in, plaintext out, and the other way.

No task and no buffer of its own waits between the socket and the conversation, so that reading, deadlines and limits are
the same in clear and under TLS. Fails with TlsError, whose text is for the log. RFC 8446, RFC 5246.
"""

from __future__ import annotations

import contextlib
import ssl

_PIECE = 64 * 1024  # octets asked of OpenSSL at once; a record has 16 KiB at most
_MENDS = {
    "HTTP_REQUEST": "HTTP was spoken to it",
    "NO_SHARED_CIPHER": "the client shares no cipher with this host: it is too old, or wants another kind of key",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "the client shares no signature algorithm with this host's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not like this listener's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client says that this listener's certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not trust this listener's certificate, or its name is another",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not know the authority behind this listener's certificate",
    "UNSUPPORTED_PROTOCOL": "the client has nothing newer than TLS 1.1",
    "VERSION_TOO_LOW": "the client has nothing newer than TLS 1.1",
    "WRONG_VERSION_NUMBER": "what the client sent is not TLS",
}


class TlsError(Exception):
    """TLS cannot begin or go on; the text says why. An alert for the client may be waiting in `pending`."""


class Tls:
    """One connection's TLS, with the certificate of `context`. `receive` and `send` move octets; `pending` is for the socket."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.ready = False  # the handshake is done
        self.begun = False  # the client has sent something
        self.ended = False  # the client will send nothing more
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @property
    def name(self) -> str:
        """Version and cipher, `TLSv1.3 TLS_AES_256_GCM_SHA384`, once the handshake is done."""
        cipher = self.object.cipher()
        return f"{self.object.version()} {cipher[0]}" if cipher else ""

    def receive(self, data: bytes) -> bytes:
        """Take what came from the socket; returns what the client said in it. Raises TlsError."""
        self.begun = True
        self._incoming.write(data)
        try:
            if not self.ready:
                self.object.do_handshake()
                self.ready = True
            return self._read()
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise TlsError(_MENDS.get(error.reason or "", (error.reason or str(error)).replace("_", " ").lower())) from None

    def send(self, data: bytes) -> bytes:
        """What goes to the socket so that the client reads `data`."""
        self.object.write(data)
        return self._outgoing.read()

    def pending(self) -> bytes:
        """What TLS itself has to say: its part of the handshake, an alert."""
        return self._outgoing.read()

    def finish(self) -> bytes:
        """The end of our side (close_notify)."""
        with contextlib.suppress(ssl.SSLError):  # the client's end has not come, or never will
            self.object.unwrap()
        return self._outgoing.read()

    def _read(self) -> bytes:
        pieces: list[bytes] = []
        try:
            while piece := self.object.read(_PIECE):
                pieces.append(piece)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
