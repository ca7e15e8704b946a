"""A mail transaction: the parameters of MAIL and RCPT, and the envelope that grows from them. RFC 5321 §4.1.1, 1870, 3461, 6152."""

from __future__ import annotations

import re
from collections.abc import Mapping

from relay.address import split
from relay.model import Envelope, Notify, Recipient

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=(.+))?")
_UNPRINTABLE = re.compile(r"[^ -~]")
_XTEXT_PAIR = re.compile(r"\+([0-9A-Fa-f]{2})")
# Parameters that change what the client may rely on, so that ignoring them would be a lie (RFC 8689, 2852, 4865, 7293).
_MEANINGFUL = frozenset({"REQUIRETLS", "BY", "HOLDFOR", "HOLDUNTIL", "RRVS"})


class Refusal(Exception):
    """A reply 4yz or 5yz to the command at hand. `error` False: it does not count as the client's error."""

    def __init__(self, reply: str, *, error: bool = True) -> None:
        self.error = error
        super().__init__(reply)


class Transaction:
    """What MAIL and RCPT have said so far."""

    def __init__(self, reverse_path: str, parameters: Mapping[str, str]) -> None:
        self.reverse_path = reverse_path
        self.size = _size(parameters)
        self.ret = parameters.get("RET", "").upper()
        self.envid = _xtext(parameters.get("ENVID", ""), "ENVID", 100)
        self.smtputf8 = "SMTPUTF8" in parameters
        self.recipients: dict[str, Recipient] = {}
        self.refused = 0  # recipients beyond the limit
        body = parameters.get("BODY", "7BIT").upper()
        if body == "BINARYMIME":
            raise Refusal("555 5.5.4 BINARYMIME is not supported")
        if body not in ("7BIT", "8BITMIME") or self.ret not in ("", "FULL", "HDRS"):
            raise Refusal("501 5.5.4 bad BODY or RET parameter")

    def add(self, recipient: Recipient) -> None:
        """A recipient named twice stays once, with its first parameters. Only the domain has no case (RFC 5321 §2.4)."""
        local, domain = split(recipient.address)
        self.recipients.setdefault(f"{local}@{domain.lower()}", recipient)

    def envelope(self) -> Envelope:
        """What was said, complete."""
        recipients = tuple(self.recipients.values())
        return Envelope(reverse_path=self.reverse_path, recipients=recipients, ret=self.ret, envid=self.envid, smtputf8=self.smtputf8)


def read_parameters(rest: bytes) -> dict[str, str]:
    """Keyword (upper case) -> value or "". Unknown keywords stay: most are harmless and old clients send them (RFC 5321 §4.1.1.11
    asks for 555, which vCenter's `AUTH=<>` and others would then meet)."""
    found: dict[str, str] = {}
    for word in filter(None, rest.decode().split(" ")):
        match = _PARAMETER.fullmatch(word)
        if not match or match[1].upper() in found:
            raise Refusal("501 5.5.4 bad or repeated parameter")
        found[match[1].upper()] = match[2] or ""
    if meant := _MEANINGFUL & found.keys():
        raise Refusal(f"555 5.5.4 {min(meant)} is not supported")
    return found


def _size(parameters: Mapping[str, str]) -> int:
    value = parameters.get("SIZE", "0")
    if not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise Refusal("501 5.5.4 bad SIZE parameter")
    return int(value)


def recipient_of(address: str, parameters: Mapping[str, str]) -> Recipient:
    notify = frozenset[Notify]()
    if "NOTIFY" in parameters:
        words = parameters["NOTIFY"].upper().split(",")
        if not set(words) <= set(Notify) or ("NEVER" in words and len(words) > 1):
            raise Refusal("501 5.5.4 bad NOTIFY parameter")
        notify = frozenset(map(Notify, words))
    orcpt = _xtext(parameters.get("ORCPT", ""), "ORCPT", 500)
    if "ORCPT" in parameters and not all(orcpt.partition(";")[::2]):
        raise Refusal("501 5.5.4 bad ORCPT parameter")
    return Recipient(address, notify, orcpt)


def _xtext(value: str, name: str, longest: int) -> str:
    """Decode xtext (RFC 3461 §4). What it hides must be printable ASCII, or a line end could come out of it."""
    plain = _XTEXT_PAIR.sub(lambda pair: chr(int(pair[1], 16)), value)
    stray = value.count("+") != len(_XTEXT_PAIR.findall(value))
    if stray or len(value) > longest or _UNPRINTABLE.search(plain):
        raise Refusal(f"501 5.5.4 bad {name} parameter")
    return plain
