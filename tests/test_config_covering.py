"""Which route takes all that a later one would: said only where it is true."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay import routing
from relay.config import covering
from relay.config.rules import MatchConfig
from relay.config.whole import match_of
from relay.model import Client, Entry, Envelope, Facts, Recipient, RecipientState, State

COVERED = [
    ("*@example.com", "app@example.com"),
    ("*@example.com", "APP@Example.COM"),
    ("*@example.com", "a*@EXAMPLE.com"),
    ("*.com", "*@example.com"),
    ("*@*", "?@*.org"),
    ("a?c*", "abc"),
    ("a?c*", "a[xy]c*d"),
    ("**", "*"),
    ("[ab]x", "[ab]x"),
    ("[ab]*", "ax*"),
    ("*", ""),
]
NOT_COVERED = [
    ("app@example.com", "*@example.com"),
    ("*@example.com", "*@example.org"),
    ("*@example.com", "*"),
    ("a?c", "a*c"),
    ("?", "*"),
    ("a*", "?*"),
    ("[a-z]", "[A-z]"),
    ("[ab]x", "?x"),
    ("*a*", "*b*"),
]


@pytest.mark.parametrize(("wide", "narrow"), COVERED)
def test_a_glob_covers_another(wide: str, narrow: str) -> None:
    """Whatever fits the second fits the first."""
    assert covering.glob_covers(wide, narrow)


@pytest.mark.parametrize(("wide", "narrow"), NOT_COVERED)
def test_a_glob_does_not_cover_another(wide: str, narrow: str) -> None:
    """Something fits the second alone, or nobody can tell."""
    assert not covering.glob_covers(wide, narrow)


_GLOBS = st.text(alphabet="ab*?", max_size=6) | st.sampled_from(["[ab]", "[!a]b", "*[a-b]", "A[b]*"])


@settings(max_examples=1000)
@given(wide=_GLOBS, narrow=_GLOBS, text=st.text(alphabet="abAB", max_size=6))
def test_no_text_fits_only_a_covered_glob(wide: str, narrow: str, text: str) -> None:
    """What is said to be covered is."""
    if covering.glob_covers(wide, narrow):
        assert routing.matches(wide, text) or not routing.matches(narrow, text)


def test_a_long_glob_takes_no_time() -> None:
    """Two globs of hundreds of stars are compared, or left alone, at once."""
    assert covering.glob_covers("*a" * 140 + "*", "a" * 3 + "*a" * 140)
    assert not covering.glob_covers("*a" * 5000 + "*", "*b" * 5000)


_ADDRESSES = st.sampled_from(["a@x.org", "b@x.org", "a@y.org", "<>"])
_ADDRESS_GLOBS = st.lists(st.sampled_from(["*", "*@x.org", "a@x.org", "*.org", "a@*", "<>"]), min_size=1, max_size=2)
_MAILBOX_GLOBS = st.lists(st.sampled_from(["*", "*@x.org", "a@x.org", "*.org", "a@*"]), min_size=1, max_size=2)
_CONDITIONS = {
    "from": _ADDRESS_GLOBS,
    "to": _MAILBOX_GLOBS,
    "header_from": _MAILBOX_GLOBS,
    "client": st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "::/0"]), min_size=1, max_size=2),
    "user": st.lists(st.sampled_from(["*", "app*", "app1"]), min_size=1, max_size=2),
    "listener": st.lists(st.sampled_from(["lan", "local"]), min_size=1, max_size=2),
    "header": st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.sampled_from(["*", "1*", "12"]), max_size=2),
    "directive": st.dictionaries(st.sampled_from(["stream", "metadata.k"]), st.sampled_from(["*", "1*", "12"]), max_size=2),
    "larger": st.sampled_from(["1kB", "2kB"]),
    "smaller": st.sampled_from(["2kB", "3kB"]),
}


@st.composite
def _alike(draw: st.DrawFn) -> tuple[MatchConfig, MatchConfig]:
    """Two matches with the same one or two keys, at times inside `not`: with more, hardly a mail would fit, and one cover the other."""
    keys = draw(st.lists(st.sampled_from(sorted(_CONDITIONS)), min_size=1, max_size=2, unique=True))
    negated = draw(st.sets(st.sampled_from(keys)))

    def one() -> MatchConfig:
        found = {key: draw(_CONDITIONS[key]) for key in keys if key not in negated}
        out = {key: draw(_CONDITIONS[key]) for key in keys if key in negated}
        return MatchConfig.model_validate({**found, "not": out} if out else found)

    return one(), one()


_MATCHES = _alike().map(lambda pair: pair[0]) | st.just(MatchConfig())
_FIELDS = {
    "X-A": st.sampled_from(["12", "1", "x"]),
    "X-B": st.just("12"),
    "X-Relay-Stream": st.just("12"),
    "X-Relay-Metadata-k": st.just("1"),
}


@st.composite
def mails(draw: st.DrawFn) -> tuple[Entry, str]:
    """A mail that may fit any of these conditions, and its recipient."""
    fields: dict[str, Any] = draw(st.fixed_dictionaries({"From": _ADDRESSES}, optional=_FIELDS))
    header = "".join(f"{name}: {text}\r\n" for name, text in fields.items()).encode()
    address, listener = draw(st.sampled_from(["10.1.2.3", "10.2.0.1", "192.0.2.1"])), draw(st.sampled_from(["lan", "local"]))
    client = Client(listener, address, username=draw(st.sampled_from(["", "app1", "other"])))
    path, recipient = draw(_ADDRESSES).replace("<>", ""), draw(st.sampled_from(["a@x.org", "b@y.org"]))
    to = (Recipient(recipient),)
    facts = Facts(draw(st.sampled_from([900, 1500, 2000, 2500])), False, 10)
    return Entry("0" * 14, 0.0, client, Envelope(path, to), facts, header, "", (), (RecipientState(to[0], State.QUEUED),)), recipient


def _takes(match: MatchConfig, mail: tuple[Entry, str]) -> bool:
    entry, recipient = mail
    route = routing.Route("x", ("a",), match_of(match))
    return routing.choose(routing.applicable([route], entry, {"lan": ("relay",), "local": ()}), recipient) is not None


@settings(max_examples=2000)
@given(pair=_alike() | st.tuples(_MATCHES, _MATCHES), mail=mails())
def test_no_mail_is_taken_only_by_a_covered_match(pair: tuple[MatchConfig, MatchConfig], mail: tuple[Entry, str]) -> None:
    """A route that is said to never run would never have run: by the room that chooses routes."""
    wide, narrow = pair
    if covering.covers(wide, narrow):
        assert _takes(wide, mail) or not _takes(narrow, mail)
    if covering.empty(wide):
        assert _takes(wide, mail)
    if covering.impossible(wide):
        assert not _takes(wide, mail)


ORDERED = [  # a match that takes more, one that takes less
    ({"larger": "1kB"}, {"larger": "2kB"}),
    ({"smaller": "3kB"}, {"smaller": "2kB"}),
    ({"client": "10.0.0.0/8"}, {"client": ["10.1.0.0/16", "10.1.2.3"]}),
    ({"listener": ["lan", "local"]}, {"listener": "lan"}),
    ({"user": "app*"}, {"user": ["app1", "app2"], "to": "*@x.org"}),
    ({"header": {"X-A": "*"}}, {"header": {"x-a": "1", "X-B": "2"}}),
    ({"directive": {"stream": "b*"}}, {"directive": {"stream": "bulk"}}),
    ({"not": {"to": "a@x.org", "larger": "2kB"}}, {"not": {"to": "*@x.org"}}),
    ({"to": "*"}, {"to": "*@x.org", "not": {"from": "<>"}}),
]


@pytest.mark.parametrize(("wide", "narrow"), ORDERED)
def test_a_match_covers_a_narrower_one(wide: dict[str, Any], narrow: dict[str, Any]) -> None:
    """And not the other way round."""
    assert covering.covers(MatchConfig.model_validate(wide), MatchConfig.model_validate(narrow))
    assert not covering.covers(MatchConfig.model_validate(narrow), MatchConfig.model_validate(wide))


@given(match=_MATCHES)
@example(match=MatchConfig())
def test_a_match_covers_itself_and_everything_covers_it(match: MatchConfig) -> None:
    """The two ends of the order."""
    assert covering.covers(match, match)
    assert covering.covers(MatchConfig(), match)


def test_networks_of_different_kinds_do_not_cover_each_other() -> None:
    """IPv4 and IPv6 are compared without a fuss."""
    four, six = MatchConfig.model_validate({"client": "0.0.0.0/0"}), MatchConfig.model_validate({"client": "::1"})
    assert (ip_network("0.0.0.0/0"),) == four.client
    assert not covering.covers(four, six)
    assert not covering.covers(six, four)
