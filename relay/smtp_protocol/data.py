"""The message after DATA: where it ends, and what it says once line ends and dots are put right. RFC 5321 §4.1.1.4, §4.5.2."""

from __future__ import annotations

import re

END_OF_DATA = b"\r\n.\r\n"
_HELD = re.compile(rb"(?:\r\n?|\n)(?:\.\r?)?\Z")  # what the next octets may turn into a line end with its dot
_LONE_DOT = re.compile(rb"\r\n\.(?!\.)")


class DataDecoder:
    """Takes the octets after DATA in any pieces; gives the message and notices its end. No loop over lines in Python.

    Facts that decide how:
    - Only a real CRLF before and after the dot ends the message (CVE-2023-51764); `\\r\\r\\n` holds a real CRLF.
    - A bare CR or LF becomes CRLF: curl and smtplib.sendmail(bytes) send such mail, and nothing may leave with it.
    - After a real CRLF one leading dot goes (RFC 5321 §4.5.2). After a bare line end it goes only when another dot follows:
      smtplib stuffs such lines, curl does not. A line `.` alone after a bare LF stays: it was not meant to end anything here.
    """

    def __init__(self, max_size: int, max_line: int) -> None:
        self.size = 0
        self.eight_bit = False
        self.longest_line = 0
        self.refusal = ""  # the reply the message will get, once it can only be refused
        self._max_size = max_size
        self._max_line = max_line
        self._open_line = 0  # octets of the line that has not ended yet
        self._held = b"\r\n"  # the start of the message counts as the start of a line
        self._virtual = 2  # octets of output that stand for that line end

    def feed(self, raw: bytes) -> tuple[bytes, bytes | None]:
        """(decoded octets, what follows the end of the message or None while it has not ended)."""
        if self._held:
            raw = self._held + raw
        rest = None
        dot = raw.find(b"\r\n.")
        end = raw.find(END_OF_DATA, dot) if dot >= 0 else -1
        if end >= 0:
            raw, rest = raw[: end + 2], raw[end + len(END_OF_DATA) :]
        else:
            held = _HELD.search(raw, max(0, len(raw) - len(END_OF_DATA) + 1))
            cut = held.start() if held else len(raw)
            raw, self._held = raw[:cut], raw[cut:]
        if self.refusal or not raw:
            return b"", rest
        decoded = self._measure(raw, dotted=dot >= 0)
        if self._virtual:
            decoded, self._virtual = decoded[self._virtual :], 0
        self.size += len(decoded)
        if self.size > self._max_size:
            self.refusal = f"552 5.3.4 message size exceeds {self._max_size} octets"
        elif max(self.longest_line, self._open_line) > self._max_line:
            self.refusal = f"500 5.5.2 line too long: more than {self._max_line} octets"
        return (b"" if self.refusal else decoded), rest

    def _measure(self, raw: bytes, *, dotted: bool) -> bytes:
        """Decode a piece that cuts no line end and no dot after one in two, and take its facts."""
        lines = raw.split(b"\r\n")
        if raw.count(b"\n") != len(lines) - 1 or raw.count(b"\r") != len(lines) - 1:
            raw = _LONE_DOT.sub(b"\r\n", raw).replace(b"\n..", b"\n.").replace(b"\r..", b"\r.")
            raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
            lines = raw.split(b"\r\n")
        elif dotted and b"\r\n." in raw:
            raw = raw.replace(b"\r\n.", b"\r\n")
            lines = raw.split(b"\r\n")
        if not raw.isascii():
            self.eight_bit = True
        first = self._open_line + len(lines[0])
        self._open_line = len(lines[-1]) if len(lines) > 1 else first
        self.longest_line = max(self.longest_line, first, max(map(len, lines)))
        return raw
