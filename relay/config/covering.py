"""Which match takes all that another one would. Pure.

`covers` says yes only where that is proved from the conditions alone; it says no where it cannot tell. Two routes of which it
says yes are in the wrong order: the second one never runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from itertools import accumulate
from operator import or_

from relay import routing
from relay.config.rules import MatchConfig, NotConfig

_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
_WILD = re.compile(r"[*?\[\]]")
_LONGEST = 300  # tokens of a glob; longer ones are only compared


def covers(wide: NotConfig, narrow: NotConfig) -> bool:
    """Whether `wide` surely holds for every mail that `narrow` holds for."""
    return _conditions_cover(wide, narrow) and _negation_covers(wide, narrow)


def empty(match: NotConfig) -> bool:
    """Whether a match surely holds for every mail, whatever conditions it names."""
    return covers(match, MatchConfig())


def impossible(match: NotConfig) -> bool:
    """Whether a match surely holds for no mail, because what it negates covers all the rest of it."""
    negated = match.not_ if isinstance(match, MatchConfig) else None
    return negated is not None and _conditions_cover(negated, match)


def _conditions_cover(wide: NotConfig, narrow: NotConfig) -> bool:
    # With hundreds of routes there are tens of thousands of pairs: what most often tells them apart comes first.
    return (
        _globs_cover(wide.from_, narrow.from_, always=True)
        and _globs_cover(wide.to, narrow.to, always=True)
        and _globs_cover(wide.header_from, narrow.header_from)
        and _globs_cover(wide.user, narrow.user)
        and (not wide.listener or (narrow.listener != () and set(narrow.listener) <= set(wide.listener)))
        and (not wide.client or (narrow.client != () and all(_inside(network, wide.client) for network in narrow.client)))
        and _sizes_cover(wide, narrow)
        and _named_cover(wide.header, narrow.header)
        and _named_cover(wide.directive, narrow.directive)
    )


def _sizes_cover(wide: NotConfig, narrow: NotConfig) -> bool:
    larger = wide.larger is None or (narrow.larger is not None and narrow.larger >= wide.larger)
    smaller = wide.smaller is None or (narrow.smaller is not None and narrow.smaller <= wide.smaller)
    return larger and smaller


def _negation_covers(wide: NotConfig, narrow: NotConfig) -> bool:
    """What the wide one leaves out, the narrow one must leave out too."""
    out = wide.not_ if isinstance(wide, MatchConfig) else None
    if out is None:
        return True
    also_out = narrow.not_ if isinstance(narrow, MatchConfig) else None
    return also_out is not None and _conditions_cover(also_out, out)


def _inside(network: IPv4Network | IPv6Network, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    for wide in networks:
        if isinstance(network, IPv4Network) and isinstance(wide, IPv4Network) and network.subnet_of(wide):
            return True
        if isinstance(network, IPv6Network) and isinstance(wide, IPv6Network) and network.subnet_of(wide):
            return True
    return False


def _named_cover(wide: Mapping[str, tuple[str, ...]], narrow: Mapping[str, tuple[str, ...]]) -> bool:
    return all(name in narrow and _globs_cover(globs, narrow[name]) for name, globs in wide.items())


def _globs_cover(wide: tuple[str, ...], narrow: tuple[str, ...], *, always: bool = False) -> bool:
    """`always`: there is always something to match, so that `*` is no condition at all."""
    if not wide or (always and "*" in wide):
        return True
    return narrow != () and all(any(glob_covers(one, other) for one in wide) for other in narrow)


def glob_covers(wide: str, narrow: str) -> bool:
    """Whether every text that fits `narrow` surely fits `wide`."""
    if wide in ("*", narrow):
        return True
    begin, end = _plain_ends(wide)
    if not (narrow[: len(begin)].lower() == begin and narrow.lower().endswith(end)):  # most pairs
        return False
    ours, theirs = _tokens(wide), _tokens(narrow)
    if max(len(ours), len(theirs)) > _LONGEST:
        return False
    stars = ours.count("*")
    head, tail = (ours.index("*"), ours[::-1].index("*")) if stars else (len(ours), 0)
    if len(theirs) < head + tail or (not stars and len(theirs) != len(ours)):
        return False
    ends = (*zip(ours[:head], theirs[:head], strict=True), *zip(ours[len(ours) - tail :], theirs[len(theirs) - tail :], strict=True))
    if not all(_one_covers(token, other) for token, other in ends):
        return False
    return stars < 2 or _middle_covers(ours[head : len(ours) - tail], theirs[head : len(theirs) - tail])


def _middle_covers(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    # covered[i]: the tokens of the wide glob looked at so far take all that the first i tokens of the narrow one take
    covered = [True] + [False] * len(theirs)
    for token in ours:
        if token == "*":
            covered = list(accumulate(covered, or_))
        else:
            covered = [False, *(covered[index] and _one_covers(token, other) for index, other in enumerate(theirs))]
    return covered[-1]


@lru_cache(maxsize=8192)
def _plain_ends(glob: str) -> tuple[str, str]:
    """The text before a glob's first wildcard and after its last one, in lower case."""
    parts = _WILD.split(glob.lower())
    return parts[0], parts[-1]


@lru_cache(maxsize=8192)
def _tokens(glob: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(glob))


def _one_covers(token: str, other: str) -> bool:
    """Whether a token for one character takes whatever the other one takes."""
    if other == "*" or token == other:
        return token == other
    if token == "?":
        return True
    plain = len(other) == 1 and other != "?"
    return plain and (routing.matches(token, other) if len(token) > 1 else token.lower() == other.lower())
