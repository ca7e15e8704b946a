"""Address lists in header fields: read leniently, written strictly.

An envelope address decides where mail goes and is read by relay/address.py, which forgives nothing. A header address is
compared with envelope addresses or shown, so here a missing quote or comma costs one entry and never the message.
Reads any text in linear time; never raises. RFC 5322 §3.4, with its obsolete routes and comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

# A backslash takes the next character with it outside quotes too, so that a quote without an end is looked for only once.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*"|[<>(),:;"]|(?:[^\s"<>(),:;\\]|\\.|\\$)+|\s+', re.S)
_ESCAPED = re.compile(r"\\(.)", re.S)
_NEEDS_QUOTES = re.compile(r"[^\w !#$%&'*+\-/=?^`{|}~]")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address of a list. `name` is the display name without its quotes; encoded words in it are not decoded."""

    name: str
    address: str


def parse(value: str, *, local: bool = False) -> list[Mailbox]:
    """The mailboxes of an unfolded field value, members of groups too, in order; what has no `@` is left out. With `local` a word
    alone is an address too, as in cron's `root (Cron Daemon)`."""
    boxes = (_mailbox(tokens, local) for tokens in _entries(value))
    return [box for box in boxes if "@" in box.address or (local and box.address)]


def write(name: str, address: str) -> str:
    """A mailbox for a field or an API: the name quoted where it holds more than letters, digits, spaces and atom characters."""
    if not name:
        return address
    if _NEEDS_QUOTES.search(name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{name} <{address}>"


def write_text(name: str, address: str) -> str:
    """As `write`, where the name is a text that nobody is to decode: what looks like an encoded word in it is parted. A reader that
    decodes before it looks for addresses would find some in a name like `=?utf-8?q?x=2C_other=40example=2Enet?=`."""
    return write(name.replace("=?", "= ?"), address)


def _entries(value: str) -> Iterator[list[str]]:
    """The tokens of each entry; a comment is one token with its parentheses. A group's name is dropped."""
    tokens: list[str] = []
    comment: list[str] = []
    depth = 0
    angle = route = False
    for token in _TOKEN.findall(value):
        if depth or token == "(":
            comment.append(token)
            depth += {"(": 1, ")": -1}.get(token, 0)
            if not depth:
                tokens.append("".join(comment))
                comment = []
            continue
        route = angle and (route or (tokens[-1] == "<" and token.startswith("@")))
        if token in (",", ";") and not route:
            yield tokens
            tokens, angle = [], False
        elif token == ":" and not angle:
            tokens = []
        else:
            angle = token == "<" or (angle and token != ">")
            tokens.append(token)
    yield tokens


def _mailbox(tokens: Sequence[str], local: bool) -> Mailbox:
    if "<" in tokens:
        start = tokens.index("<")
        inside = takewhile(lambda token: token != ">", tokens[start + 1 :])
        address = "".join(token for token in inside if not token.isspace() and not token.startswith("("))
        return Mailbox(_phrase(tokens[:start]), address.rpartition(":")[2] if address.startswith("@") else address)
    words = "".join("\0" if token.isspace() else token for token in tokens if not token.startswith("(")).split("\0")
    alone = "".join(words) if local and sum(map(bool, words)) == 1 else ""
    address = next((word for word in reversed(words) if "@" in word), alone)
    comments = [token[1:-1] for token in tokens if token.startswith("(")]
    return Mailbox(" ".join(comments) or " ".join(word for word in words if word and word != address).strip('"'), address)


def _phrase(tokens: Sequence[str]) -> str:
    words = (token for token in tokens if not token.startswith("("))
    plain = (_ESCAPED.sub(r"\1", word[1:-1]) if len(word) > 1 and word.startswith('"') else word for word in words)
    return " ".join("".join(plain).split())
