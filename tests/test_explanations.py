"""What `relay explain` found, as lines for people."""

from __future__ import annotations

from typing import Any

import pytest

from relay.cli import explanations
from relay.cli.verbs.outlook import Live

RAMP = {
    **{"from": "2026-12-01T00:00:00.000Z", "over": 14 * 86400.0, "until": "2026-12-15T08:30:00.000Z", "done": 0.25, "begun": True},
    **{"behind": 0.0, "held_until": None, "reason": "", "newcomers": ["b"]},
}
UNLIMITED: dict[str, Any] = {"count": "messages", "rates": [], "daily": None, "monthly": None, "asked": []}


def recipient(address: str = "a@x", **other: Any) -> dict[str, Any]:
    """One that route r takes, by a, then b."""
    none: dict[str, Any] = dict.fromkeys(("split", "ramp", "guard", "shadow"))
    told = {"address": address, "route": "r", "via": ["a"], "tried": [{"route": "r", "against": []}], **none}
    return {**told, "patience": 900.0, "priority": "normal", "overflow": "wait", **other}


def provider(**other: Any) -> dict[str, Any]:
    """One that carries the mail as it is."""
    told = {"name": "a", "type": "smtp", "shadow": False, "requests": 1, "losses": [], "cannot": [], "budget": UNLIMITED, "standing": None}
    return {**told, **other}


def found(*recipients: dict[str, Any], providers: tuple[dict[str, Any], ...] = (), **other: Any) -> dict[str, Any]:
    """A mail to these."""
    listener = {"name": "l", "address": "x", "max_size": 1000, "wants": [], "controls": [], "refusals": [], "losses": []}
    told = {"reverse_path": "a@x", "message_size": 10, "client": "10.0.0.1", "user": "", "listener": listener, "edits": []}
    more = {"rewritten": {"reverse_path": None, "edits": []}, "daemon": True}
    return {**told, **more, "recipients": recipients or (recipient(),), "providers": providers, **other}


def below_route(**other: Any) -> list[str]:
    """What is said of the route that takes a recipient."""
    lines = list(explanations.lines(found(recipient(**other))))
    return [line.strip() for line in lines[lines.index("to <a@x>") + 2 :]]


def below_provider(**other: Any) -> list[str]:
    """What is said of a provider."""
    lines = list(explanations.lines(found(providers=(provider(**other),))))
    return [line.strip() for line in lines[lines.index("a (smtp): 1 request, nothing is lost") + 1 :]]


def test_those_who_fare_alike_are_told_of_once() -> None:
    """A few names and the number of the others; what a listener wants beside the mail."""
    shown = found(
        *(recipient(f"{number}@x") for number in range(7)),
        providers=(provider(requests=2, losses=[{"grade": "hard", "what": "x"}]),),
        reverse_path="\x1b",
        edits=[
            {"kind": "prepend", "text": "Received: x\r\n\tby y\r\n"},
            {"kind": "remove", "text": "from "},
            {"kind": "append", "text": "Date: x\r\n\r\n"},
        ],
    )
    shown["listener"]["wants"] = ["TLS", "a login"]
    assert [
        "from <?>, 10 B, from client 10.0.0.1",
        "listener l (x): takes it (at most 1.0 kB, wants TLS and a login); obeys no control headers",
        "edits: Received, Date, the empty line below the header added; the mbox line removed",
        "",
        "to <0@x>, <1@x>, <2@x>, <3@x>, <4@x> and 2 more",
        "    route r, by a",
        "",
        "a (smtp): 2 requests",
        "    lost (hard): x",
    ] == list(explanations.lines(shown))


def test_a_long_reason_is_cut() -> None:
    """A header of a message may be of any length, and hold anything."""
    tried = [{"route": "q", "against": ["\x1b" + "x" * 300, "to: b"]}, {"route": "r", "against": []}]
    lines = list(explanations.lines(found(recipient(tried=tried))))
    assert [f"    not q: ?{'x' * 98}…", "        and to: b", "    route r, by a"] == lines[-3:]


@pytest.mark.parametrize(
    ("split", "ramp", "lines"),
    [
        ({"sticky": "sender", "chosen": "a"}, None, ["split by sender: a 80 %, b 20 %; here a"]),
        ({"sticky": "message", "chosen": "b"}, None, ["split by message: a 80 %, b 20 %; here b, and another message may go otherwise"]),
        ({"sticky": "message", "chosen": None}, None, ["split by message: a 80 %, b 20 %"]),
        (
            {"sticky": "recipient", "chosen": "a"},
            {},
            ["ramp by recipient: a 80 %, b 20 %; here a", "day 3.5 of 14, from 2026-12-01 to 2026-12-15 08:30"],
        ),
        (
            {"sticky": "recipient", "chosen": "a"},
            {"begun": False},
            ["ramp by recipient: a 80 %, b 20 %; here a", "the ramp begins 2026-12-01 and takes 14 days"],
        ),
        (
            {"sticky": "recipient", "chosen": "a"},
            {"done": 1.0},
            ["ramp by recipient: a 80 %, b 20 %; here a", "the ramp is over since 2026-12-15 08:30"],
        ),
        (
            {"sticky": "recipient", "chosen": "a"},
            {"behind": 172800.0, "held_until": "2026-12-06T00:00:00.000Z", "reason": "b refused 10 %"},
            [
                "ramp by recipient: a 80 %, b 20 %; here a",
                "day 3.5 of 14, from 2026-12-01 to 2026-12-15 08:30, 2.0 days behind its dates, rests until 2026-12-06: b refused",
                "10 %",
            ],
        ),
    ],
)
@pytest.mark.usefixtures("nothing_of_this_host")
def test_shares(split: dict[str, Any], ramp: dict[str, Any] | None, lines: list[str]) -> None:
    """What chose, among which shares, and where a ramp stands today."""
    shares = {"shares": {"a": 0.8, "b": 0.2}}
    assert lines == below_route(split={**split, **shares}, ramp=None if ramp is None else {**RAMP, **ramp})


@pytest.mark.parametrize(
    ("guard", "line"),
    [
        ({"lets": True}, "staging guard: let through, as a@x or *@y"),
        ({"redirect": "qa@x"}, "staging guard: <qa@x> gets it instead (not a@x or *@y)"),
        ({"capture": "keep"}, "staging guard: captured by keep (not a@x or *@y)"),
        ({"capture": "keep", "allow": []}, "staging guard: captured by keep (nobody is let through)"),
        ({"refused": "why"}, "staging guard: refused, and its sender told (not a@x or *@y)"),
    ],
)
def test_a_staging_guard(guard: dict[str, Any], line: str) -> None:
    """Who is let through, and what becomes of the others."""
    none = {"allow": ["a@x", "*@y"], "lets": False, "redirect": "", "capture": "", "refused": ""}
    assert [line] == below_route(guard={**none, **guard})


def test_what_the_others_are_for() -> None:
    """Fallback, spilling, priority, shadow."""
    assert [
        "b, c: when the one before is paused, cannot carry it, has no budget left now, or has deferred it for 2d",
        "low priority: 1 turn at a busy provider for 4 of normal mail",
        "shadow: built for s, too; nothing of it is sent",
    ] == below_route(via=["a", "b", "c"], overflow="spill", patience=172800.0, priority="low", shadow={"provider": "s", "sends": False})
    assert ["1h", "15m", "90s", "0s"] == [explanations.duration(seconds) for seconds in (3600, 900, 90, 0)]


@pytest.mark.parametrize(
    ("standing", "lines"),
    [
        ({}, ["now up"]),
        ({"state": "paused", "reason": "401 bad\x1btoken", "waiting": 1214}, ["now paused; 1,214 wait for it: 401 bad?token"]),
        ({"suspect": "401 bad token"}, ["now up", "suspect: one message met 401 bad token"]),
        (
            {
                "usage": [
                    {"what": "14/s", "used": 3, "limit": 14, "until": None, "count": "messages"},
                    {"what": "daily", "used": 50000, "limit": 50000, "until": "2026-12-06T00:00:00.000Z", "count": "messages"},
                    {"what": "learned", "used": 3, "limit": 70, "until": None, "count": "messages"},
                ]
            },
            [
                "now up",
                "budget in messages: used 3 of 14/s, all of 50,000 daily (until 2026-12-06 00:00:00); slowed down to 70 in 10 s",
            ],
        ),
    ],
)
@pytest.mark.usefixtures("nothing_of_this_host")
def test_how_a_provider_stands(standing: dict[str, Any], lines: list[str]) -> None:
    """As the running daemon says: paused and why, suspect, how much of a budget is used."""
    up = {"state": "up", "reason": "", "waiting": 0, "by_admin": False, "suspect": "", "usage": []}
    assert lines == below_provider(standing={**up, **standing})


@pytest.mark.parametrize(
    ("budget", "lines"),
    [
        ({}, []),
        ({"rates": ["14/s", "600/m"], "daily": 50000}, ["budget in messages: 14/s, 600/m, 50,000 daily"]),
        ({"monthly": 1000000, "asked": ["rate", "daily"]}, ["budget in messages: 1,000,000 monthly, rate and daily as the account says"]),
    ],
)
def test_a_budget_without_the_daemon(budget: dict[str, Any], lines: list[str]) -> None:
    """Its limits alone."""
    assert lines == below_provider(budget={**UNLIMITED, **budget})


def test_a_daemon_that_says_less() -> None:
    """A status without ramps, as an older daemon has it, is no mistake."""
    assert Live({"a": {"name": "a"}}, {}) == Live.of({"providers": [{"name": "a"}]})


def test_those_whose_addresses_fit_no_better_fare_alike() -> None:
    """The address in a reason sets nobody apart, and is named where it is the only one."""

    def one(address: str, *, by: str = "a") -> dict[str, Any]:
        tried = [{"route": "q", "against": [f"to: {address} is not *@y"]}, {"route": "s", "against": [f"not: to: {address} is *@{by}"]}]
        return recipient(address, tried=[*tried, {"route": "r", "against": []}], via=[by])

    assert [
        "to each of them",
        "    not q: to: they are not *@y",
        "to <a@x>, <b@x>",
        "    not s: not: to: they are *@a",
        "    route r, by a",
        "to <c@x>",
        "    not s: not: to: c@x is *@b",
        "    route r, by b",
    ] == list(explanations.lines(found(one("a@x"), one("b@x"), one("c@x", by="b"))))[4:]
    assert "    not q: to: a@x is not *@y" in list(explanations.lines(found(one("a@x"))))
