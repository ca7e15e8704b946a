"""Masking of mail addresses in the log: `local` leaves `*@example.net`, `full` leaves `*`.

What is known to be an address (sender, recipients) is masked whole, whatever it looks like. In every other text, such as
the reply of a provider, whatever has the form of an address is masked. Left as they are: Message-IDs and the providers'
message ids, which are no addresses though some look alike; IP addresses; and a local part that a reply names alone.
Works on copies of records; linear in the length of the text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from relay.log.formatters import fields_of, program_and_text

_ADDRESSES = {"sender", "recipient", "recipients", "orig_to", "redirected_to"}
_NO_ADDRESSES = {"queue_id", "event", "message_id", "remote_id", "bounce_id", "notice_id", "delays"}
_TEXTS = {str, list}

_BRACKETED = re.compile(r"((?:from|to)=<)([^<>]*)(?=>)")  # as `Events` writes from, to and orig_to
# A run of what may stand in a local part, taken from its begin and never given back; or a quoted string. Wider than RFC 5321
# and with any script: a text that is no address may lose a word, an address is not left half.
_LOCAL = r'(?:"(?:[^"\\]|\\.){0,100}+"|(?<![^\s<>()\[\]:;,@"])[^\s<>()\[\]:;,@"]++)'
_DOMAIN = r"(?:\[[^\]\s]{0,100}\]|[\w.-]*)"
_FORMS = {
    "local": re.compile(rf"{_LOCAL}(?=@)"),
    "full": re.compile(rf"{_LOCAL}@{_DOMAIN}"),
}


class Mask:
    """Masks addresses; `form` is local or full. `blot` takes secrets out first: of one with an @ half would be left."""

    def __init__(self, form: str, blot: Callable[[str], str] = str) -> None:
        self._full = form == "full"
        self._form = _FORMS[form]
        self._blot = blot

    def address(self, text: str) -> str:
        """A whole address; "" (the null reverse-path) stays."""
        if not text:
            return ""
        _, at, domain = self._blot(text).rpartition("@")
        return f"*@{domain}" if at and not self._full else "*"

    def text(self, text: str) -> str:
        """Any text, with the addresses in it masked."""
        if "@" in text or "%40" in text:
            text = self._blot(text)
        if "=<" not in text:
            return self._loose(text)
        pieces = _BRACKETED.split(text)  # text, key, address, text, key, address, …, text
        pieces[::3] = [self._loose(piece) for piece in pieces[::3]]
        pieces[2::3] = [self.address(piece) for piece in pieces[2::3]]
        return "".join(pieces)

    def record(self, record: logging.LogRecord) -> logging.LogRecord:
        """A copy of the record without addresses."""
        program, text = program_and_text(record)
        fields = fields_of(record)
        if fields["event"] != "message_id":
            text = self.text(text)
            fields = {name: self._value(name, value) if type(value) in _TEXTS else value for name, value in fields.items()}
        masked = logging.LogRecord.__new__(logging.LogRecord)  # copy.copy() costs half as much as writing the line
        masked.__dict__.update(record.__dict__)
        masked.__dict__.update(msg=text, args=None, exc_info=None, program=program, fields=fields)
        return masked

    def _loose(self, text: str) -> str:
        if "%40" in text:  # an address in a URL
            text = text.replace("%40", "@")
        return self._form.sub("*", text) if "@" in text else text

    def _value(self, name: str, value: object) -> object:
        if name in _NO_ADDRESSES:
            return value
        change = self.address if name in _ADDRESSES else self.text
        return [change(str(item)) for item in value] if isinstance(value, list) else change(str(value))
