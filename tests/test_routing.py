"""Routing: the first match wins, and the order of providers for one recipient."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import routing
from relay.model import Client, Entry, Envelope, Facts, Recipient, RecipientState, State, Verdict
from relay.routing import Match, Route

BOB = Recipient("bob@example.net")
STATE = RecipientState(BOB, State.QUEUED)
ENTRY = Entry(
    "687E7641C64007",
    1000.0,
    Client("local", "10.1.2.3", 4000, "unknown", "web1"),
    Envelope("app@example.com", (BOB,)),
    Facts(5000, False, 70),
    b"From: app@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nList-Unsubscribe: <x>\r\nX-Many: one\r\nX-Many: two\r\n",
    "<a@b>",
    (),
    (STATE,),
)


def taken(routes: list[Route], entry: Entry) -> Route | None:
    """The route that BOB's mail takes."""
    return routing.choose(routing.applicable(routes, entry), BOB.address)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(), True),
        (Match(from_=("*@example.com",)), True),
        (Match(from_=("*@EXAMPLE.com", "x")), True),
        (Match(from_=("<>",)), False),
        (Match(to=("*@example.net",)), True),
        (Match(to=("al*",)), False),
        (Match(client=(ip_network("10.0.0.0/8"),)), True),
        (Match(client=(ip_network("192.168.0.0/16"), ip_network("::1/128"))), False),
        (Match(listener=("local",)), True),
        (Match(listener=("lan",)), False),
        (Match(larger=4999), True),
        (Match(larger=5000), False),
        (Match(header={"list-unsubscribe": ("*",)}), True),
        (Match(header={"subject": ("grüße",)}), True),
        (Match(header={"x-many": ("two",)}), True),
        (Match(header={"x-none": ("*",)}), False),
        (Match(header={"subject": ("*",), "x-none": ("*",)}), False),
        (Match(from_=("*@example.com",), larger=9999), False),
    ],
)
def test_all_conditions_must_hold_and_any_member_of_a_list(match: Match, expected: bool) -> None:
    """Conditions are joined by and, the members of one by or; globs look at the decoded text without case."""
    assert expected == (taken([Route("r", ("x",), match)], ENTRY) is not None)
    assert match.empty == (match == Match())


@pytest.mark.parametrize(
    ("address", "expected"),
    [("::ffff:10.1.1.1", True), ("fe80::1%eth0", False), ("unix", False), ("11.0.0.1", False)],
)
def test_client_networks_read_every_form_of_address(address: str, expected: bool) -> None:
    """A mapped IPv4 address is in its IPv4 network; a unix socket is in none."""
    entry = replace(ENTRY, client=replace(ENTRY.client, address=address))
    assert expected == Match(client=(ip_network("10.0.0.0/8"),)).holds_for_mail(entry)


def test_the_null_reverse_path_matches_by_its_brackets() -> None:
    """`<>` means mail with the null reverse-path."""
    assert Match(from_=("<>",)).holds_for_mail(replace(ENTRY, envelope=Envelope("", (BOB,))))


def test_the_first_matching_route_is_taken() -> None:
    """Later routes are not asked; where none matches there is no route."""
    first, second = Route("a", ("x",), Match(to=("carol@*",))), Route("b", ("y",), Match(to=("bob@*",)))
    assert second == taken([first, second, Route("c", ("z",))], ENTRY)
    assert taken([first], ENTRY) is None


def test_the_entry_s_own_providers_win_over_the_route_s() -> None:
    """A bounce or a rerouted entry keeps its providers; the route's name and patience stay."""
    entry = replace(ENTRY, via=("only",))
    assert Route("a", ("only",), patience=7.0) == taken([Route("a", ("x",), patience=7.0)], entry)
    assert Route("", ("only",)) == taken([], entry)


ABC = Route("r", ("a", "b", "c"), patience=900.0)


@pytest.mark.parametrize(
    ("state", "now", "expected"),
    [
        (STATE, 0.0, ("a", "b", "c")),
        (replace(STATE, provider="b", verdict=Verdict.RETRY, since=100.0), 200.0, ("b", "a", "c")),
        (replace(STATE, provider="b", verdict=Verdict.RETRY, since=100.0), 1000.0, ("c", "a", "b")),
        (replace(STATE, provider="c", verdict=Verdict.RETRY, since=100.0), 1000.0, ("a", "b", "c")),
        (replace(STATE, provider="b", verdict=Verdict.PAUSE, since=100.0), 200.0, ("a", "b", "c")),
        (replace(STATE, provider="b", verdict=Verdict.CONFIG, since=100.0), 200.0, ("a", "b", "c")),
        (replace(STATE, provider="gone", verdict=Verdict.RETRY, since=100.0), 200.0, ("a", "b", "c")),
        (replace(STATE, provider="b", verdict=Verdict.UNKNOWN, maybe_relayed=True), 99999.0, ("b",)),
        (replace(STATE, provider="gone", verdict=Verdict.RETRY, maybe_relayed=True), 0.0, ("gone",)),
    ],
)
def test_the_order_follows_what_happened_so_far(state: RecipientState, now: float, expected: tuple[str, ...]) -> None:
    """Patience keeps a recipient with its provider, a pause does not, and a maybe-relayed one never moves."""
    assert expected == routing.order(ABC, state, now)


@given(st.sampled_from(["a", "b", "c", "gone", ""]), st.sampled_from([None, *Verdict]), st.floats(0, 1e6), st.floats(0, 1e6))
def test_every_provider_of_the_route_stands_in_the_order_once(provider: str, verdict: Verdict | None, since: float, now: float) -> None:
    """Whatever happened, an order that is not pinned names each provider exactly once."""
    order = routing.order(ABC, replace(STATE, provider=provider, verdict=verdict, since=since), now)
    assert ["a", "b", "c"] == sorted(order)


def test_what_looks_at_the_mail_is_looked_up_once() -> None:
    """The routes after the first that takes every recipient are not even applicable."""
    to, rest, never = Route("to", ("x",), Match(to=("a*",), larger=10)), Route("rest", ("y",)), Route("never", ("z",))
    assert (to, rest) == routing.applicable([Route("no", ("w",), Match(larger=9999)), to, rest, never], ENTRY)


# Explaining a choice.


@pytest.mark.parametrize(
    ("match", "against"),
    [
        (Match(), ()),
        (Match(from_=("*@other.example", "<>")), ("from: app@example.com is not *@other.example or <>",)),
        (Match(to=("al*",)), ("to: bob@example.net is not al*",)),
        (Match(client=(ip_network("192.168.0.0/16"),)), ("client: 10.1.2.3 is not in 192.168.0.0/16",)),
        (Match(listener=("lan",)), ("listener: local is not lan",)),
        (Match(larger=5000), ("larger: 5,000 octets are not more than 5,000",)),
        (Match(header={"x-none": ("*",)}), ("header: there is no x-none",)),
        (Match(header={"subject": ("a*", "b*")}), ("header: subject is 'Grüße', not a* or b*",)),
        (Match(header={"x-many": ("three",)}), ("header: x-many is 'one' or 'two', not three",)),
        (Match(from_=("x",), larger=9999), ("from: app@example.com is not x", "larger: 5,000 octets are not more than 9,999")),
    ],
)
def test_why_a_route_does_not_take_a_recipient(match: Match, against: tuple[str, ...]) -> None:
    """Every condition that does not hold, with what was found instead."""
    route = Route("r", ("x",), match)
    assert (routing.Tried(route, against),) == routing.explain([route], ENTRY, BOB.address)


MATCHES = st.builds(
    Match,
    from_=st.sampled_from([(), ("*@example.com",), ("<>",)]),
    to=st.sampled_from([(), ("bob@*",), ("al*",)]),
    client=st.sampled_from([(), (ip_network("10.0.0.0/8"),), (ip_network("::1/128"),)]),
    listener=st.sampled_from([(), ("local",), ("lan",)]),
    header=st.sampled_from([{}, {"x-many": ("two",)}, {"x-none": ("*",)}]),
    larger=st.sampled_from([None, 4999, 5000]),
)


@given(st.lists(MATCHES, max_size=6), st.booleans())
def test_the_explanation_agrees_with_the_choice(matches: list[Match], null: bool) -> None:
    """What is explained is what is done: all that was tried before speaks against itself, and the last one is the choice."""
    entry = replace(ENTRY, envelope=Envelope("", (BOB,))) if null else ENTRY
    routes = [Route(str(number), ("x",), match) for number, match in enumerate(matches)]
    tried = routing.explain(routes, entry, BOB.address)
    chosen = next((one.route for one in tried if not one.against), None)
    assert taken(routes, entry) == chosen
    assert routes[: len(tried)] == [one.route for one in tried]
    assert all(one.against for one in tried[:-1])
