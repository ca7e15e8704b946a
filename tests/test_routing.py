"""Routing: the first match wins; splits, guards and the order of providers for one recipient."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import config, directives, ramps, routing
from relay.config import cases
from relay.model import Client, Entry, Envelope, Facts, Recipient, RecipientState, State, Verdict
from relay.routing import Choice, Guard, Match, Route, Split
from tests.configs import HOSTNAME, written

BOB = Recipient("bob@example.net")
STATE = RecipientState(BOB, State.QUEUED)
ENTRY = Entry(
    "687E7641C64007",
    1000.0,
    Client("local", "10.1.2.3", 4000, "unknown", "web1", username="shop-7"),
    Envelope("app@example.com", (BOB,)),
    Facts(5000, False, 70),
    b"From: App <app@shop.example.com>, boss@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nList-Unsubscribe: <x>\r\n"
    b"X-Many: one\r\nX-Many: two\r\nX-PM-Message-Stream: Broadcast\r\nX-PM-Tag: invoice-7\r\nX-PM-Metadata-Order: 12\r\n",
    "<a@b>",
    (),
    (STATE,),
)


CONTROLS: Mapping[str, tuple[str, ...]] = {"local": ("postmark", "relay")}


def taken(routes: list[Route], entry: Entry, controls: Mapping[str, tuple[str, ...]] = CONTROLS) -> Route | None:
    """The route that BOB's mail takes."""
    return routing.choose(routing.applicable(routes, entry, controls), BOB.address)


def holds(match: Match, entry: Entry, controls: Mapping[str, tuple[str, ...]] = CONTROLS) -> bool:
    """Whether a route with this match takes BOB's mail."""
    return taken([Route("r", ("x",), match)], entry, controls) is not None


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
        (Match(smaller=5001), True),
        (Match(smaller=5000), False),
        (Match(smaller=9999, larger=5000), False),
        (Match(user=("SHOP-*",)), True),
        (Match(user=("shop", "api")), False),
        (Match(header_from=("*@shop.example.com",)), True),
        (Match(header_from=("boss@*",)), True),
        (Match(header_from=("app@example.com",)), False),
        (Match(directive={"stream": ("broadcast*",)}), True),
        (Match(directive={"stream": ("*",), "tag": ("invoice-*",), "metadata.order": ("1?",)}), True),
        (Match(directive={"stream": ("*",), "tag": ("welcome",)}), False),
        (Match(directive={"tenant": ("*",)}), False),
        (Match(directive={"metadata.user": ("*",)}), False),
        (Match(directive={"refused": ("*",)}), False),
        (Match(not_=Match(listener=("lan",))), True),
        (Match(not_=Match(listener=("local",))), False),
        (Match(not_=Match(listener=("local",), larger=9999)), True),
        (Match(not_=Match(to=("bob@*",))), False),
        (Match(not_=Match(to=("bob@*",), listener=("lan",))), True),
        (Match(not_=Match(to=("bob@*",), listener=("local",))), False),
        (Match(to=("*@example.net",), not_=Match(to=("al*", "ca*"))), True),
        (Match(not_=Match(user=("api",))), True),
        (Match(not_=Match()), False),
        (Match(not_=Match(not_=Match(to=("bob@*",)))), True),
    ],
)
def test_all_conditions_must_hold_and_any_member_of_a_list(match: Match, expected: bool) -> None:
    """Conditions are joined by and, the members of one by or; globs look at the decoded text without case."""
    assert expected == holds(match, ENTRY)
    assert match.empty == (match == Match())


@pytest.mark.parametrize(
    ("address", "expected"),
    [("::ffff:10.1.1.1", True), ("fe80::1%eth0", False), ("unix", False), ("11.0.0.1", False)],
)
def test_client_networks_read_every_form_of_address(address: str, expected: bool) -> None:
    """A mapped IPv4 address is in its IPv4 network; a unix socket is in none."""
    entry = replace(ENTRY, client=replace(ENTRY.client, address=address))
    assert expected == holds(Match(client=(ip_network("10.0.0.0/8"),)), entry)


def test_the_null_reverse_path_matches_by_its_brackets() -> None:
    """`<>` means mail with the null reverse-path."""
    assert holds(Match(from_=("<>",)), replace(ENTRY, envelope=Envelope("", (BOB,))))


def test_nobody_logged_in_is_no_user() -> None:
    """Not even of the glob that fits everything."""
    assert not holds(Match(user=("*",)), replace(ENTRY, client=replace(ENTRY.client, username="")))


@pytest.mark.parametrize("controls", [{}, {"local": ()}, {"local": ("ses", "relay")}, {"lan": ("postmark",)}])
def test_a_dialect_that_is_not_obeyed_says_nothing(controls: Mapping[str, tuple[str, ...]]) -> None:
    """A control header counts where the listener obeys its dialect, and mail of no listener speaks them all."""
    match = Match(directive={"stream": ("broadcast",)})
    assert not holds(match, ENTRY, controls)
    assert holds(match, replace(ENTRY, client=replace(ENTRY.client, listener="")), controls)


def test_the_directives_of_a_match_are_those_that_are_text() -> None:
    """Each of them can be asked for; what is a truth value or a list cannot."""
    assert {"tag", "stream", "template", "configuration_set", "tenant", "identity_arn", "list_management", "track_links"} == {
        *routing.DIRECTIVES
    }
    empty = directives.Directives()
    assert {""} == {getattr(empty, name) for name in routing.DIRECTIVES}


@pytest.mark.parametrize(
    ("fields", "glob", "expected"),
    [
        (b'From: "a@b.example, c" <d@e.example>\r\n', "a@b.example", False),
        (b"From: =?utf-8?q?x=2C_other=40example=2Enet=2C_y?= <d@e.example>\r\n", "other@example.net", False),
        (b"From: =?utf-8?q?x=2C_other=40example=2Enet=2C_y?= <d@e.example>\r\n", "d@e.example", True),
        (b"From: team: a@b.example, c@d.example;\r\n", "c@d.example", True),
        (b"From: Ann\r\n <a@b.example>\r\n", "a@b.example", True),
        (b"From: a@b.example\r\nFrom: c@d.example\r\n", "c@d.example", True),
        ("From: a@bücher.example\r\n".encode(), "*@xn--bcher-kva.example", True),
        ("From: a@bücher.example\r\n".encode(), "*@bücher.example", True),
        (b"From: undisclosed:;\r\n", "*", False),
        (b"From: \xff\xfe <\r\n", "*", False),
        (b"Subject: x\r\n", "*", False),
    ],
)
def test_who_a_mail_says_it_is_from(fields: bytes, glob: str, expected: bool) -> None:
    """Any address of From counts; a display name never does, whatever it is made to look like."""
    assert expected == holds(Match(header_from=(glob,)), replace(ENTRY, header=fields))


@given(st.binary(max_size=200) | st.text('=?utf-8qb_<>@,;:()"\\ \r\n', max_size=80).map(str.encode))
def test_no_header_is_too_bad_for_a_match(value: bytes) -> None:
    """Whatever stands there, a condition holds or does not, and the explanation says the same."""
    entry = replace(ENTRY, header=b"From: " + value + b"\r\nX-PM-Tag: " + value + b"\r\n")
    match = Match(header_from=("*a*",), header={"from": ("*b*",)}, directive={"tag": ("*c*",)})
    [tried] = routing.explain([Route("r", ("x",), match)], entry, BOB.address, CONTROLS)
    assert holds(match, entry) == (not tried.against)
    assert all(line.isprintable() for line in tried.against)


def test_the_first_matching_route_is_taken() -> None:
    """Later routes are not asked; where none matches there is no route."""
    first, second = Route("a", ("x",), Match(to=("carol@*",))), Route("b", ("y",), Match(to=("bob@*",)))
    assert second == taken([first, second, Route("c", ("z",))], ENTRY)
    assert taken([first], ENTRY) is None


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
    assert Choice(expected) == routing.choice(ABC, ENTRY, state, now)


@given(st.sampled_from(["a", "b", "c", "gone", ""]), st.sampled_from([None, *Verdict]), st.floats(0, 1e6), st.floats(0, 1e6))
def test_every_provider_of_the_route_stands_in_the_order_once(provider: str, verdict: Verdict | None, since: float, now: float) -> None:
    """Whatever happened, an order that is not pinned names each provider exactly once."""
    order = routing.choice(ABC, ENTRY, replace(STATE, provider=provider, verdict=verdict, since=since), now).order
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
        (Match(smaller=5000), ("smaller: 5,000 octets are not less than 5,000",)),
        (Match(user=("api", "app*")), ("user: shop-7 is not api or app*",)),
        (Match(header_from=("*@x.example",)), ("header_from: 'app@shop.example.com' or 'boss@example.org' is not *@x.example",)),
        (Match(directive={"stream": ("bulk", "news")}), ("directive: stream is 'Broadcast', not bulk or news",)),
        (Match(directive={"tenant": ("*",), "metadata.x": ("*",)}), ("directive: there is no tenant", "directive: there is no metadata.x")),
        (Match(not_=Match(to=("bob@*",), larger=10)), ("not: larger: 5,000 octets are more than 10 and to: bob@example.net is bob@*",)),
        (Match(not_=Match(client=(ip_network("10.0.0.0/8"),))), ("not: client: 10.1.2.3 is in 10.0.0.0/8",)),
        (
            Match(not_=Match(listener=("local",), smaller=9999)),
            ("not: listener: local is local and smaller: 5,000 octets are less than 9,999",),
        ),
        (Match(not_=Match(header={"x-many": ("t*",)})), ("not: header: x-many is 'one' or 'two', as t*",)),
        (Match(not_=Match(not_=Match(from_=("x",)))), ("not: not: from: app@example.com is not x",)),
        (Match(not_=Match()), ("not: it names no condition, so that it holds for all",)),
    ],
)
def test_why_a_route_does_not_take_a_recipient(match: Match, against: tuple[str, ...]) -> None:
    """Every condition that does not hold, with what was found instead."""
    route = Route("r", ("x",), match)
    assert (routing.Tried(route, against),) == routing.explain([route], ENTRY, BOB.address, CONTROLS)


def test_why_a_route_does_not_take_what_nobody_wrote() -> None:
    """What is not there is said in words: no login, no author, no control header that counts."""
    match = Match(user=("*",), header_from=("*",), directive={"tag": ("*",)})
    entry = replace(ENTRY, client=replace(ENTRY.client, username=""), header=b"X-PM-Tag: x\r\n")
    [tried] = routing.explain([Route("r", ("x",), match)], entry, BOB.address)
    assert (
        "user: nobody logged in",
        "header_from: there is no address in From",
        "directive: listener local obeys no control headers",
    ) == tried.against


# Each condition with what is known of it for ENTRY: a truth, or a truth for each recipient.
RECIPIENTS = (BOB.address, "alice@example.net")
KNOWN: tuple[tuple[str, object, Callable[[str], bool]], ...] = (
    ("from_", ("*@example.com",), lambda _: True),
    ("from_", ("<>",), lambda _: False),
    ("header_from", ("boss@*",), lambda _: True),
    ("header_from", ("app@example.com",), lambda _: False),
    ("to", ("bob@*",), lambda to: to.startswith("bob")),
    ("to", ("al*", "x"), lambda to: to.startswith("al")),
    ("to", ("carol@*",), lambda _: False),
    ("to", ("*@example.net",), lambda _: True),
    ("client", (ip_network("10.0.0.0/8"),), lambda _: True),
    ("client", (ip_network("::1/128"),), lambda _: False),
    ("user", ("shop*",), lambda _: True),
    ("user", ("api",), lambda _: False),
    ("listener", ("lan",), lambda _: False),
    ("header", {"x-many": ("two",)}, lambda _: True),
    ("header", {"x-none": ("*",)}, lambda _: False),
    ("directive", {"stream": ("broadcast",)}, lambda _: True),
    ("directive", {"stream": ("bulk",)}, lambda _: False),
    ("larger", 4999, lambda _: True),
    ("larger", 5000, lambda _: False),
    ("smaller", 5000, lambda _: False),
)
Known = tuple[Match, Callable[[str], bool]]


def _match(known: list[int], against: Known | None) -> Known:
    """A match of some known conditions, and whether it holds for a recipient."""
    conditions = {KNOWN[number][0]: KNOWN[number] for number in known}
    match = Match(**{key: value for key, value, _ in conditions.values()}, not_=against[0] if against else None)  # type: ignore[arg-type]  # of many kinds

    def truth(to: str) -> bool:
        return all(holds(to) for _, _, holds in conditions.values()) and not (against and against[1](to))

    return match, truth


SOME = st.lists(st.integers(0, len(KNOWN) - 1), max_size=3)
MATCHES = st.recursive(st.builds(_match, SOME, st.none()), lambda inner: st.builds(_match, SOME, inner), max_leaves=4)


@given(st.lists(MATCHES, max_size=6))
def test_looking_in_two_steps_is_looking_once(matches: list[Known]) -> None:
    """What is asked once for a mail and then for each recipient finds the first route that holds as a whole; the explanation looks at
    the same routes, and says something against each but the one that is taken."""
    routes = [Route(str(number), ("x",), match) for number, (match, _) in enumerate(matches)]
    found = routing.applicable(routes, ENTRY, CONTROLS)
    for to in RECIPIENTS:
        chosen = routing.choose(found, to)
        expected = next((number for number, (_, truth) in enumerate(matches) if truth(to)), None)
        assert expected == (int(chosen.name) if chosen else None)
        tried = routing.explain(routes, ENTRY, to, CONTROLS)
        assert routes[: len(routes) if expected is None else expected + 1] == [one.route for one in tried]
        assert [expected is not None and number == expected for number in range(len(tried))] == [not one.against for one in tried]
        assert all(tried[number].against != ("",) for number in range(len(tried)))


@given(MATCHES)
def test_not_not_is_nothing(known: Known) -> None:
    """Denied twice, a match takes those that it takes."""
    match, truth = known
    for to in RECIPIENTS:
        for twice in (match, Match(not_=Match(not_=match))):
            assert truth(to) == (routing.choose(routing.applicable([Route("r", ("x",), twice)], ENTRY, CONTROLS), to) is not None)


def test_a_route_that_no_recipient_may_take_is_not_applicable() -> None:
    """What is denied and asks nothing of the recipient is decided for the mail."""
    denied = Match(to=("bob@*",), not_=Match(listener=("local",), not_=Match(to=("x",), larger=9999)))
    assert () == routing.applicable([Route("r", ("x",), denied)], ENTRY)


# Splits.

TWO = Split((("ses", 80.0), ("mailtrap", 20.0)))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("u0@example.net", "ses"),
        ("u1@example.net", "mailtrap"),
        ("u4@example.net", "mailtrap"),
        ("u5@example.net", "ses"),
        ("", "ses"),
        ("bücher", "ses"),
    ],
)
def test_a_key_has_the_same_provider_for_ever(key: str, expected: str) -> None:
    """Another host, another version and another order of the file move nobody: the hash is part of what was promised."""
    assert expected == routing.pick(TWO, key)
    assert expected == routing.pick(Split(TWO.weights[::-1]), key)
    assert expected == routing.pick(Split((("ses", 8.0), ("mailtrap", 2.0), ("out", 0.0))), key)


@pytest.mark.parametrize(
    "weights", [(), (("a", 0.0),), (("a", 0.0), ("b", 0.0)), (("a", -1.0), ("b", 2.0)), (("a", math.nan),), (("a", math.inf),)]
)
def test_weights_that_say_nothing_are_no_split(weights: tuple[tuple[str, float], ...]) -> None:
    """The configuration refuses them; here they cannot even be made."""
    with pytest.raises(ValueError, match="weights are numbers, not below 0 and not all 0"):
        Split(weights)


def test_a_weight_next_to_nothing_is_still_a_weight() -> None:
    """Where it is the only one, it has all."""
    assert "a" == routing.pick(Split((("a", 5e-324), ("b", 0.0))), "x")


WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1e6) | st.integers(0, 100).map(float), min_size=1).filter(
    lambda weights: any(weights.values())
)
KEYS = st.lists(st.text(max_size=12), max_size=30)


@given(WEIGHTS, st.sampled_from("abcde"), st.floats(1e-3, 1e6), KEYS)
def test_more_weight_moves_only_those_who_move_to_it(weights: dict[str, float], raised: str, by: float, keys: list[str]) -> None:
    """Minimal movement: who moves goes to the provider that got more; nobody goes back or elsewhere. A provider with nothing has nobody."""
    before = Split(tuple(weights.items()))
    after = Split(tuple({**weights, raised: weights.get(raised, 0.0) + by}.items()))
    for key in keys:
        was, is_ = routing.pick(before, key), routing.pick(after, key)
        assert is_ in (was, raised)
        assert weights[was] > 0


@given(st.lists(st.integers(0, 100), min_size=2, max_size=4).filter(any))
def test_shares_are_as_the_weights(numbers: list[int]) -> None:
    """Of 4,000 keys each provider has its share, but for what chance allows (six times the standard deviation)."""
    split = Split(tuple((str(place), float(number)) for place, number in enumerate(numbers)))
    got = Counter(routing.pick(split, f"u{number}@example.net") for number in range(4000))
    for name, weight in split.weights:
        part = weight / sum(numbers)
        assert abs(got[name] - 4000 * part) <= 6 * math.sqrt(4000 * part * (1 - part))


def test_a_hundred_thousand_recipients() -> None:
    """80/20 is that within half a percent; 70/30 moves about a tenth, and none of them back. With -s: the numbers."""
    keys = [f"user{number}@example.net" for number in range(100_000)]
    before = {key: routing.pick(TWO, key) for key in keys}
    after = {key: routing.pick(Split((("ses", 70.0), ("mailtrap", 30.0))), key) for key in keys}
    moved = Counter((before[key], after[key]) for key in keys)
    for split, got in (("80/20", Counter(before.values())), ("70/30", Counter(after.values()))):
        print(f"\n{split}: ses {got['ses'] / 1000:.2f} %, mailtrap {got['mailtrap'] / 1000:.2f} %", end="")
    forth, back = moved["ses", "mailtrap"], moved["mailtrap", "ses"]
    print(f"\nfrom 80/20 to 70/30: {forth:,} moved from ses to mailtrap ({forth / 1000:.2f} %), {back:,} moved back")
    assert abs(Counter(before.values())["ses"] - 80_000) <= 500
    assert abs(Counter(after.values())["ses"] - 70_000) <= 500
    assert 0 == back
    assert abs(forth - 10_000) <= 500


ROUTE = Route("default", ("ses", "mailtrap", "smarthost"), split=TWO, fallback=("smarthost",))


def to(address: str, **changes: object) -> RecipientState:
    """A recipient's state."""
    return replace(RecipientState(Recipient(address), State.QUEUED), **changes)  # type: ignore[arg-type]  # fields of the state


def first(route: Route, state: RecipientState, entry: Entry = ENTRY) -> str:
    """The provider that is tried first."""
    return routing.choice(route, entry, state, 0.0).order[0]


def test_fallback_follows_the_chosen_one() -> None:
    """The other providers of a split do not step in unless `fallback` names them; the chosen one is not tried twice."""
    state = to("u1@example.net")
    chosen = routing.pick(TWO, "u1@example.net")
    share = f"{chosen} by recipient: ses 80 %, mailtrap 20 %"
    assert Choice((chosen, "smarthost"), share=share) == routing.choice(ROUTE, ENTRY, state, 0.0)
    other = "mailtrap" if chosen == "ses" else "ses"
    either = replace(ROUTE, fallback=("ses", "mailtrap", "smarthost"))
    assert (chosen, other, "smarthost") == routing.choice(either, ENTRY, state, 0.0).order


def test_patience_holds_within_a_split() -> None:
    """A chosen provider that keeps deferring is left after the route's patience, for the fallback alone."""
    chosen = routing.pick(TWO, "u1@example.net")
    state = to("u1@example.net", provider=chosen, verdict=Verdict.RETRY, since=100.0)
    assert (chosen, "smarthost") == routing.choice(ROUTE, ENTRY, state, 200.0).order
    assert ("smarthost", chosen) == routing.choice(ROUTE, ENTRY, state, 1000.0).order


def test_what_a_share_sticks_to() -> None:
    """A recipient however it is written, a message with all its recipients, or a sender."""
    by = {sticky: replace(ROUTE, split=replace(TWO, sticky=sticky)) for sticky in ("recipient", "message", "sender")}
    people = [f"u{number}@example.net" for number in range(50)]
    assert [first(by["recipient"], to(one)) for one in people] == [first(by["recipient"], to(one.upper())) for one in people]
    assert 2 == len({first(by["recipient"], to(one)) for one in people})
    assert 1 == len({first(by["message"], to(one)) for one in people})
    assert 2 == len({first(by["message"], STATE, replace(ENTRY, queue_id=one)) for one in people})
    assert 1 == len({first(by["sender"], to(one), replace(ENTRY, queue_id=one)) for one in people})
    senders = [replace(ENTRY, envelope=Envelope(one, (BOB,))) for one in ("", *people)]
    assert 2 == len({first(by["sender"], STATE, entry) for entry in senders})


RAMP = ramps.Ramp(0.0, 100.0, (("ses", 100.0, 0.0), ("mailtrap", 0.0, 100.0)), sticky="message")


def test_a_ramp_is_settled_before_a_choice() -> None:
    """Then it is a split with the weights of the moment, and with what the ramp sticks to."""
    route = Route("default", ("ses", "mailtrap"), ramp=RAMP)
    assert Split((("ses", 75.0), ("mailtrap", 25.0)), "message") == routing.settled(route, {}, 25.0).split
    states = {"default": ramps.State(5.0), "other": ramps.State(9.0)}
    assert Split((("ses", 80.0), ("mailtrap", 20.0)), "message") == routing.settled(route, states, 25.0).split
    assert ABC is routing.settled(ABC, states, 25.0)
    with pytest.raises(ValueError, match="the ramp of route default is not settled"):
        routing.choice(route, ENTRY, STATE, 25.0)


# Guards.

GUARDS = st.builds(Guard, st.sampled_from([(), ("*@example.com",), ("bob@*", "x")]), st.just("qa@example.com")) | st.builds(
    Guard, st.sampled_from([(), ("*@example.com",), ("bob@*", "x")]), st.just(""), st.sampled_from(["", "black-hole"])
)
NAMES = st.sampled_from(["ses", "mailtrap", "smarthost", "black-hole", "gone", ""])
STATES = st.builds(
    RecipientState,
    st.sampled_from([BOB, Recipient("alice@example.com"), Recipient("carol@example.org"), Recipient("postmaster")]),
    st.just(State.QUEUED),
    provider=NAMES,
    route=st.sampled_from(["default", "other", ""]),
    since=st.floats(0, 1e4),
    verdict=st.none() | st.sampled_from([*Verdict]),
    maybe_relayed=st.booleans(),
)
ROUTES = st.sampled_from(
    [ROUTE, ABC, Route("default", ("ses", "mailtrap"), ramp=RAMP, fallback=("ses",)), routing.only(ROUTE, ("smarthost",))]
)


@given(ROUTES, GUARDS, STATES, st.floats(0, 1e4), st.booleans())
def test_a_guard_never_leaks(route: Route, guard: Guard, state: RecipientState, now: float, bounce: bool) -> None:
    """Whatever happened to a recipient whom the guard does not let through, pinned, rerouted or a bounce: its mail goes to the redirect
    address, to the provider that captures, or nowhere. Whom it lets through goes as without a guard."""
    entry = replace(ENTRY, bounce=bounce)
    guarded = routing.settled(replace(route, guard=guard), {}, now)
    free = routing.choice(replace(guarded, guard=None), entry, state, now)
    found = routing.choice(guarded, entry, state, now)
    if guard.lets(state.recipient.address):
        assert free == found
    elif guard.redirect:
        assert free._replace(redirect=guard.redirect) == found
    else:
        assert "" == found.redirect
        assert found.order in ((), (guard.capture,))
        assert bool(found.refused) == (not found.order)
    if state.maybe_relayed:
        assert found.order in ((), (state.provider,))


def test_what_a_guard_says() -> None:
    """Nothing that it says is a secret: it is part of a bounce."""
    route = Route("staging", ("ses",), guard=Guard(("*@example.com",)))
    where = "the staging guard of route staging does not let mail go to bob@example.net"
    assert Choice((), refused=f"{where}: it is none of allow_recipients") == routing.choice(route, ENTRY, STATE, 0.0)
    pinned = replace(STATE, provider="ses", maybe_relayed=True)
    assert Choice((), refused=f"may have been delivered by ses before, and {where}") == routing.choice(route, ENTRY, pinned, 0.0)
    captured = replace(route, guard=Guard(capture="black-hole"))
    assert Choice(("black-hole",)) == routing.choice(captured, ENTRY, replace(pinned, provider="black-hole"), 0.0)
    assert not routing.choice(captured, ENTRY, pinned, 0.0).order


def test_needless_quotes_do_not_lead_past_a_route() -> None:
    """`"bob"@example.net` and `bob@example.net` are one mailbox (RFC 5321 §4.1.2): as recipient, as sender and in From."""
    quoted = '"bob"@example.net'
    guarded = Route("guarded", ("ses",), Match(to=("bob@example.net",)))
    assert guarded == routing.choose(routing.applicable([guarded], ENTRY), quoted)
    assert routing.choose(routing.applicable([Route("rest", ("ses",), Match(not_=Match(to=("bob@*",))))], ENTRY), quoted) is None
    assert holds(Match(from_=("bob@example.net",)), replace(ENTRY, envelope=Envelope(quoted, (BOB,))))
    assert holds(Match(header_from=("bob@example.net",)), replace(ENTRY, header=f"From: {quoted}\r\n".encode()))
    assert not holds(Match(from_=("bob@example.net",)), replace(ENTRY, envelope=Envelope('"b ob"@example.net', (BOB,))))


def test_a_maybe_relayed_recipient_keeps_the_guard_of_its_route() -> None:
    """Another route without a guard would take it today: what it was begun by still holds, where there still is one of that name."""
    staging, rest = Route("staging", ("ses",), guard=Guard(redirect="qa@example.com")), Route("rest", ("ses",))
    pinned = replace(STATE, provider="ses", route="staging", maybe_relayed=True)
    assert staging == routing.begun([rest, staging], pinned, rest)
    assert rest == routing.begun([rest], pinned, rest)
    assert rest == routing.begun([rest, staging], replace(pinned, maybe_relayed=False), rest)
    assert rest == routing.begun([rest, staging, Route("", ("x",))], replace(pinned, route=""), rest)
    assert routing.begun([rest], pinned, None) is None


@pytest.mark.parametrize("before", [None, Guard(allow=("*@example.net",), capture="hole")])
def test_a_guard_that_came_later_holds_for_what_may_have_been_relayed(before: Guard | None) -> None:
    """Today's route stops the recipient, and the one it was begun by does not."""
    begun, today = Route("default", ("ses",), guard=before), Route("staging", ("ses",), guard=Guard(redirect="qa@example.com"))
    pinned = replace(STATE, provider="ses", route="default", maybe_relayed=True)
    assert today == routing.begun([begun, today], pinned, today)
    assert begun == routing.begun([begun, today], pinned, replace(today, guard=Guard(allow=("*@example.net",))))
    assert begun == routing.begun([begun, today], pinned, None)


def test_fixed_providers_leave_the_guard() -> None:
    """An admin or a bounce fixes the providers, not who gets the mail; nothing else of the route brings another provider in."""
    guard = Guard(redirect="qa@example.com")
    route = Route("r", ("ses", "mailtrap", "x"), Match(larger=1), 7.0, TWO, RAMP, ("x",), guard, "shadow", "high", True)
    alone = Route("r", ("only",), Match(larger=1), 7.0, guard=guard, priority="high", spills=True)
    assert alone == routing.only(route, ["only"])
    assert Choice(("only",), "qa@example.com") == routing.choice(alone, ENTRY, STATE, 0.0)


def test_every_provider_of_a_route() -> None:
    """Those that it sends by, and the one that captures; none twice."""
    assert ("a", "b", "c") == ABC.providers
    assert ("a", "b", "c", "hole") == replace(ABC, guard=Guard(capture="hole")).providers
    assert ("a", "b", "c") == replace(ABC, guard=Guard(capture="b")).providers
    assert ("a", "b", "c") == replace(ABC, guard=Guard(("x",))).providers


# The document.

EXAMPLES = re.findall(r"(?ms)^```yaml\n(.*?)^```$", (Path(__file__).parent.parent / "docs/routing.md").read_text())
SECRETS = {
    name: "11111111-2222-4333-8444-555555555555" for name in ("SES_SECRET", "MAILTRAP_TOKEN", "POSTMARK_TOKEN", "SMARTHOST_PASSWORD")
}
HALFWAY = datetime(2026, 12, 8, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("example", EXAMPLES[1:], ids=range(1, len(EXAMPLES)))
def test_the_examples_do_what_they_say(tmp_path: Path, example: str) -> None:
    """Each is a good configuration below the providers of the first, and its tests pass."""
    made = config.load(written(tmp_path, HOSTNAME + EXAMPLES[0] + example), environ=SECRETS)
    assert made.tests
    assert [] == list(cases.run(made, HALFWAY))
