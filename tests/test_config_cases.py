"""The tests that stand in a configuration: where each mail would go, and why not where it was expected."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay import config, users
from relay.errors import ConfigError
from tests.configs import HOSTNAME, written

FILE = """providers:
  a: {type: smtp, host: a.example.net}
  b: {type: smtp, host: b.example.net}
  c: {type: smtp, host: c.example.net}
  hole: {type: capture}
listen:
  - {name: local, address: "127.0.0.1:25", max_size: 30MB, auth: USERS}
  - {name: lan, address: "10.0.0.5:25", allow: 10.0.0.0/8}
  - {name: sock, address: "unix:/run/relay/smtp.sock", auth: USERS}
senders: {allow: ["*@example.com", "*@clinic.example.com", "*@old.example.org"], users: {shop: "*@example.com"}}
routes:
  - {name: patients, match: {from: "*@clinic.example.com"}, via: [a, b]}
  - {name: bounces, match: {from: "<>"}, via: b}
  - {name: news, match: {directive: {stream: "news*"}}, via: b}
  - {name: authors, match: {header_from: "*@press.example.com"}, via: b}
  - {name: lan, match: {client: 10.1.0.0/16}, via: b}
  - {name: sock, match: {listener: sock, user: "app*"}, via: b}
  - {name: big, match: {larger: 10MB, not: {to: "*@small.example.net"}}, via: b}
  - {name: split, match: {to: "*@split.example.net"}, split: {a: 1, b: 0}, fallback: [b]}
  - {name: each, match: {to: "*@each.example.net"}, split: {a: 1, b: 1}, sticky: message}
  - {name: ramp, match: {to: "*@ramp.example.net"}, ramp: {from: 2026-12-01, over: 10d, a: 100..0, b: 0..100}}
  - {name: staging, match: {to: "*@staging.example.net"}, via: a, allow_recipients: "qa@*", capture: hole}
  - {name: closed, match: {to: "*@closed.example.net"}, via: a, allow_recipients: "qa@*"}
  - {name: diverted, match: {to: "*@diverted.example.net"}, via: a, redirect: qa@example.com}
  - {name: default, via: c}
"""
USERS = "".join(f"{name}:{users.hashed('not-a-real-password', salt=b'sixteen octets..')}\n" for name in ("app1", "shop"))
BEGIN = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
DAY = 86400.0


def whole(directory: Path, tests: str) -> Path:
    """FILE with these tests, and its users."""
    (directory / "users").write_text(USERS)
    (directory / "users").chmod(0o600)
    return written(directory, f"{HOSTNAME}{FILE}{tests}".replace("USERS", str(directory / "users")))


def failures(directory: Path, case: str, now: float = BEGIN) -> list[str]:
    """What is said of this one test, without its place and lines of the file."""
    path = whole(directory, f"tests:\n  - {{{case}}}\n")
    try:
        config.load(path, environ={}, tests_at=now)
    except ConfigError as error:
        lines = [line.strip() for problem in error.problems for line in problem.splitlines()]
        return [lines[0].partition(" tests.0.")[2], *(line.removeprefix("= ") for line in lines if line.startswith("= "))]
    return []


GOOD = [
    "from: x@example.com, to: y@example.net, expect: c, route: default",
    "from: x@clinic.example.com, to: [y@example.net, z@example.net], expect: a",
    'from: "<>", to: y@example.net, expect: b, route: bounces',
    "from: x@example.com, to: y@example.net, route: news, header: {X-Relay-Stream: newsletter}",
    "from: x@example.com, to: y@example.net, route: authors, header_from: ann@press.example.com",
    "from: x@example.com, to: y@example.net, route: authors, header: {From: 'Ann <ann@press.example.com>'}",
    "from: x@example.com, to: y@example.net, route: lan, client: 10.1.2.3, listener: lan",
    "from: x@example.com, to: y@example.net, route: sock, user: app1, listener: sock",
    "from: x@example.com, to: y@example.net, route: big, size: 11MB",
    "from: x@example.com, to: y@small.example.net, route: default, size: 11MB",
    "from: x@example.com, to: y@split.example.net, expect: a",
    "from: x@example.com, to: y@each.example.net, route: each",
    "from: x@example.com, to: qa@staging.example.net, expect: a",
    "from: x@example.com, to: y@staging.example.net, expect: hole",
    "from: x@example.com, to: y@closed.example.net, route: closed",
    "from: x@example.com, to: y@diverted.example.net, expect: a",
    "from: x@example.com, to: postmaster, expect: c, user: shop",
]


@pytest.mark.parametrize("case", GOOD)
def test_a_mail_that_goes_where_it_is_expected_says_nothing(tmp_path: Path, case: str) -> None:
    """By every condition of a match, and past every guard."""
    assert [] == failures(tmp_path, case)


FAILED = {
    "from: x@example.com, to: y@example.net, expect: a": [
        "expect: expected a; for y@example.net it is c, by route default",
        "not patients: from: x@example.com is not *@clinic.example.com",
    ],
    "from: x@clinic.example.com, to: y@example.net, route: default": [
        "route: expected route default; for y@example.net it is patients",
        "patients takes it",
    ],
    "from: x@example.com, to: [qa@staging.example.net, y@staging.example.net], expect: a": [
        "expect: expected a; for y@staging.example.net it is hole, by route staging",
        "its staging guard keeps it from y@staging.example.net",
    ],
    "from: x@example.com, to: y@closed.example.net, expect: a": [
        "expect: expected a; nobody gets it: the staging guard of route closed does not let mail go to y@closed.example.net: "
        "it is none of allow_recipients",
        "closed takes it",
    ],
    "from: x@example.com, to: y@diverted.example.net, expect: b": [
        "expect: expected b; for y@diverted.example.net it is a, by route diverted",
        "its staging guard sends it to qa@example.com instead",
    ],
    "from: x@example.com, to: y@each.example.net, expect: a": [
        "expect: cannot be told: route each splits by message, so that each mail goes its own way",
        "expect the route alone: route: each",
    ],
    "from: x@example.org, to: y@example.net, expect: c": [
        "expect: listener local would not take it: x@example.org is none of senders.allow"
    ],
    "from: x@old.example.org, to: y@example.net, route: default, user: shop": [
        "route: listener local would not take it: x@old.example.org is none of the senders.users of shop"
    ],
    "from: x@example.com, to: y@example.net, expect: c, size: 31MB": [
        "expect: listener local would not take it: 31,000,000 octets are more than its max_size, 30,000,000"
    ],
    "from: x@example.com, to: y@example.net, expect: c, listener: lan, user: app1": [
        "expect: listener lan would not take it: nobody can log in there, app1 neither: it has no auth"
    ],
    "from: x@example.com, to: y@example.net, expect: c, listener: lan, client: 192.0.2.1": [
        "expect: listener lan would not take it: 192.0.2.1 is in none of the networks of allow"
    ],
    "from: x@example.com, to: y@example.net, route: news, listener: lan, header: {X-Relay-Stream: newsletter}": [
        "route: expected route news; for y@example.net it is default",
        "not news: directive: listener lan obeys no control headers",
    ],
}


@pytest.mark.parametrize("case", FAILED)
def test_a_mail_that_goes_elsewhere_is_told_with_the_reason(tmp_path: Path, case: str) -> None:
    """What was expected, what came, and each route that was looked at."""
    first, *more = failures(tmp_path, case)
    assert FAILED[case][0] == first
    assert set(FAILED[case][1:]) <= set(more)


@pytest.mark.parametrize(("days", "expected"), [(-300, "a"), (0, "a"), (10, "b"), (300, "b")])
def test_a_ramp_counts_as_its_dates_have_it(tmp_path: Path, days: int, expected: str) -> None:
    """Before it, and when it is over; a file that was right yesterday may be wrong today."""
    case = "from: x@example.com, to: y@ramp.example.net, expect: %s"
    assert [] == failures(tmp_path, case % expected, BEGIN + days * DAY)
    other = "b" if expected == "a" else "a"
    first, *more = failures(tmp_path, case % other, BEGIN + days * DAY)
    assert f"expect: expected {other}; for y@ramp.example.net it is {expected}, by route ramp" == first
    assert f"ramp takes it; {expected} by recipient: a {'100 %, b 0 %' if expected == 'a' else '0 %, b 100 %'}" == more[-1]


def test_a_failing_test_stands_with_its_line(tmp_path: Path) -> None:
    """As every other mistake: place, key, text, line, caret, and the reason below; all that fail are told, in their order."""
    text = """providers: {a: {type: smtp, host: a.example.net}}
tests:
  - {from: x@example.com, to: y@example.net, expect: a}
  - {from: x@example.com, to: y@example.net, route: default}
"""
    good = written(tmp_path, text)
    assert 2 == len(config.load(good, environ={}, tests_at=BEGIN).tests)
    more = "  - {from: x@example.com, to: y@example.net, expect: a, size: 50MB}\n"
    path = written(tmp_path, text + more * 2)
    with pytest.raises(ConfigError) as caught:
        config.load(path, environ={}, tests_at=BEGIN)
    first, second = caught.value.problems
    assert (
        f"""{path}:5:54: tests.2.expect: listener local would not take it: 50,000,000 octets are more than its max_size, 40,000,000
   4 |   - {{from: x@example.com, to: y@example.net, route: default}}
   5 |   - {{from: x@example.com, to: y@example.net, expect: a, size: 50MB}}
     |                                                      ^"""
        == first
    )
    assert second.startswith(f"{path}:6:54: tests.3.expect")


def test_tests_are_run_where_somebody_asks_for_it(tmp_path: Path) -> None:
    """The daemon starts with a file whose tests fail: they are about expectations, not about what can be done."""
    path = whole(tmp_path, "tests: [{from: x@example.com, to: y@example.net, expect: a}]\n")
    assert 1 == len(config.load(path, environ={}).tests)
