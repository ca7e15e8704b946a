"""Whether a route's conditions hold for a mail and its recipients, and the same in words. Pure; never raises, whatever a header holds.

A match is looked at in two steps: `reduced` asks once for a mail what does not depend on the recipient, `Match.takes` asks the rest for
each recipient. `conditions` says each condition in words; it agrees with the two, which a test holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from relay import address, directives, header, mailboxes
from relay.directives import Directives
from relay.model import Entry

DIRECTIVES = tuple(one.name for one in fields(Directives) if one.type == "str")
"""The directives that a match may ask for; beside them `metadata.KEY`."""

_METADATA = "metadata."


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern), re.IGNORECASE)


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits the glob (`*`, `?`, `[…]`), without regard to case."""
    return _glob(pattern).match(text) is not None


def any_of(globs: Iterable[str], texts: Iterable[str]) -> bool:
    """Whether one of the texts fits one of the globs."""
    return any(matches(pattern, text) for text in texts for pattern in globs)


def _spellings(found: str) -> tuple[str, ...]:
    """An address as it stands, and with needless quotes gone (`"bob"@example.net`): who writes it so must not get past a route."""
    return (found, address.key(found)) if '"' in found else (found,)


@dataclass(frozen=True, slots=True)
class Match:
    """The conditions of a route; all given ones must hold, and a tuple means any of its members.

    `from_`, `header_from` and `to` are globs on addresses (`<>` is the null reverse-path; of From any mailbox counts), `client` are
    networks, `user` globs on the name logged in with (which nobody fits who did not log in), `listener` are listener names, `header`
    maps a field name in lower case to globs on its decoded text, `directive` one of `DIRECTIVES` or `metadata.KEY` to globs on what
    is asked for, `larger` and `smaller` are in octets. `not_` are conditions that must not all hold.
    """

    from_: tuple[str, ...] = ()
    header_from: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    client: tuple[IPv4Network | IPv6Network, ...] = ()
    user: tuple[str, ...] = ()
    listener: tuple[str, ...] = ()
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    directive: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    larger: int | None = None
    smaller: int | None = None
    not_: Match | None = None

    @property
    def empty(self) -> bool:
        """Whether the match holds for every mail."""
        return not (
            self.to
            or self.not_
            or self.from_
            or self.header_from
            or self.client
            or self.user
            or self.listener
            or self.header
            or self.directive
            or self.larger is not None
            or self.smaller is not None
        )

    @property
    def for_all(self) -> bool:
        """Whether no condition looks at the recipient, where the match is a `reduced` one."""
        return not self.to and self.not_ is None

    def takes(self, recipient: str) -> bool:
        """Whether a `reduced` match holds for this recipient."""
        return (not self.to or any_of(self.to, _spellings(recipient))) and (self.not_ is None or not self.not_.takes(recipient))


class Mail:
    """A mail as conditions see it. What takes time to read is read when a condition asks, and once."""

    __slots__ = ("_asked", "_authors", "_controls", "entry")

    def __init__(self, entry: Entry, controls: Mapping[str, Collection[str]]) -> None:
        """`controls` are the dialects of control headers that each listener obeys."""
        self.entry = entry
        self._controls = controls
        self._asked: Directives | None = None
        self._authors: tuple[str, ...] | None = None

    @property
    def sender(self) -> str:
        """The reverse-path, as a glob would have it."""
        return self.entry.envelope.reverse_path or "<>"

    @property
    def dialects(self) -> Collection[str]:
        """The dialects that count for this mail."""
        return directives.obeyed(self._controls, self.entry.client.listener)

    def authors(self) -> tuple[str, ...]:
        """The addresses of From, and again as they compare where they are not ASCII or quoted. Encoded words are left as they are: decoded
        before the list is parsed, a display name could pass for an address."""
        if self._authors is None:
            values = (value.decode("utf-8", "replace") for value in header.values(self.entry.header, "from"))
            found = [box.address for value in values for box in mailboxes.parse(value)]
            compared = (address.key(one) for one in found if not one.isascii() or '"' in one)
            self._authors = tuple(dict.fromkeys([*found, *compared]))
        return self._authors

    def texts(self, name: str) -> list[str]:
        """What the fields of a name say."""
        return [header.text(value) for value in header.values(self.entry.header, name)]

    def asked(self, key: str) -> str:
        """What a directive asks for; "" where it is not given, or not in a dialect that the listener obeys."""
        if self._asked is None:
            self._asked = directives.read(self.entry.header, self.dialects)
        if key.startswith(_METADATA):
            wanted = key.removeprefix(_METADATA).lower()
            return next((text for name, text in self._asked.metadata.items() if name.lower() == wanted), "")
        return str(getattr(self._asked, key)) if key in DIRECTIVES else ""


def reduced(match: Match, mail: Mail) -> Match | None:
    """A match of which `takes` says for each recipient of this mail whether all of it holds; None where it holds for none."""
    if not _holds(match, mail):
        return None
    if match.not_ is None:
        return match
    against = reduced(match.not_, mail)
    if against is None:
        return Match(to=match.to)
    if against.for_all:
        return None
    return match if against is match.not_ else Match(to=match.to, not_=against)


def _holds(match: Match, mail: Mail) -> bool:
    """Whether every condition holds that looks at the mail and not at the recipient; `not_` is not looked at."""
    client, size = mail.entry.client, mail.entry.facts.size
    return (
        (not match.from_ or any_of(match.from_, _spellings(mail.sender)))
        and (not match.client or _in_networks(match.client, client.address))
        and (not match.user or (client.username != "" and any_of(match.user, (client.username,))))
        and (not match.listener or client.listener in match.listener)
        and (match.larger is None or size > match.larger)
        and (match.smaller is None or size < match.smaller)
        and (not match.header_from or any_of(match.header_from, mail.authors()))
        and (not match.header or all(any_of(globs, mail.texts(name)) for name, globs in match.header.items()))
        and (not match.directive or all(any_of(globs, filter(None, [mail.asked(key)])) for key, globs in match.directive.items()))
    )


def _in_networks(networks: tuple[IPv4Network | IPv6Network, ...], address: str) -> bool:
    found = _ip(address)
    return found is not None and any(found in network for network in networks)


def _ip(address: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


# In words.


class Said(NamedTuple):
    """A condition in words: one phrase for where it holds, one for where it does not."""

    holds: bool
    so: str
    otherwise: str


def conditions(match: Match, mail: Mail, recipient: str) -> Iterator[Said]:
    """Each condition of a match, and what was found."""
    client = mail.entry.client
    if match.from_:
        yield _is("from", _spellings(mail.sender), match.from_)
    if match.client:
        inside, networks = _in_networks(match.client, client.address), _or(map(str, match.client))
        yield Said(inside, f"client: {client.address} is in {networks}", f"client: {client.address} is not in {networks}")
    if match.user:
        yield _is("user", [client.username] if client.username else [], match.user, nothing="nobody logged in")
    if match.listener:
        own, names = client.listener, _or(match.listener)
        yield Said(own in match.listener, f"listener: {own} is {names}", f"listener: {own} is not {names}")
    yield from _of_content(match, mail)
    yield from _of_size(match, mail.entry.facts.size)
    if match.to:
        yield _is("to", _spellings(recipient), match.to)
    if match.not_ is not None:
        yield _not(list(conditions(match.not_, mail, recipient)))


def _of_content(match: Match, mail: Mail) -> Iterator[Said]:
    if match.header_from:
        yield _is("header_from", mail.authors(), match.header_from, nothing="there is no address in From", quoted=True)
    for name, globs in match.header.items():
        yield _is("header", mail.texts(name), globs, nothing=f"there is no {name}", name=name, quoted=True)
    for key, globs in match.directive.items():
        found = mail.asked(key)
        nothing = f"there is no {key}" if mail.dialects else f"listener {mail.entry.client.listener} obeys no control headers"
        yield _is("directive", [found] if found else [], globs, nothing=nothing, name=key, quoted=True)


def _of_size(match: Match, size: int) -> Iterator[Said]:
    if (least := match.larger) is not None:
        yield Said(size > least, f"larger: {size:,} octets are more than {least:,}", f"larger: {size:,} octets are not more than {least:,}")
    if (most := match.smaller) is not None:
        yield Said(size < most, f"smaller: {size:,} octets are less than {most:,}", f"smaller: {size:,} octets are not less than {most:,}")


def _not(inner: Sequence[Said]) -> Said:
    """That not all of these hold. Where they do, the phrases of all; where they do not, of those that fail."""
    failing = [said.otherwise for said in inner if not said.holds]
    all_of_them = " and ".join(said.so for said in inner) or "it names no condition, so that it holds for all"
    return Said(bool(failing), f"not: {' and '.join(failing)}", f"not: {all_of_them}")


def _is(key: str, texts: Sequence[str], globs: tuple[str, ...], *, nothing: str = "", name: str = "", quoted: bool = False) -> Said:
    """Whether one of these texts fits one of the globs. What stands in a header is quoted, which shows what does not print."""
    if not texts:
        return Said(False, "", f"{key}: {nothing}")
    found = (f"{name} is " if name else "") + _or(map(repr, texts) if quoted else texts)
    verb = ", " if name else " is "
    return Said(any_of(globs, texts), f"{key}: {found}{verb}{'as ' if name else ''}{_or(globs)}", f"{key}: {found}{verb}not {_or(globs)}")


def _or(words: Iterable[str]) -> str:
    return " or ".join(words)
