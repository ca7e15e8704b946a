"""Routes in the configuration: what arrives in the rooms that route, and what may surprise."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from relay import config, ramps, routing, users
from relay.budgets import Allowance, Rate
from relay.config import amounts
from relay.rewriting import Rewriting
from tests.configs import HOSTNAME, POSTMARK, headlines_of, warnings_of, written

SES = "ses: {region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: fake-secret-0000}"
SANDBOX = "{type: mailtrap, token: fake-token-0000, stream: sandbox, sandbox_id: 7}"
PROVIDERS = f"""{HOSTNAME}providers:
  a: {{type: smtp, host: a.example.net}}
  b: {{type: smtp, host: b.example.net}}
  hole: {{type: capture}}
  box: {SANDBOX}
  postmark: {{token: fake-token-0000}}
  mailtrap: {{token: fake-token-0000}}
  {SES}
  paubox: {{api_key: fake-key-0000, username: clinic}}
  lowcodeapi: {{token: at_fake-token-0000}}
"""


def routes(directory: Path, *items: str, more: str = "") -> Path:
    """A configuration with these routes, and a last one that takes the rest by all other providers."""
    listed = "".join(f"  - {{{item}}}\n" for item in items)
    return written(directory, f"{PROVIDERS}routes:\n{listed}{more}")


def said(path: Path, about: str = "routes.0") -> list[str]:
    """The warnings about one place of the file."""
    return [warning for warning in warnings_of(path) if warning.startswith(about)]


FULL = """
routes:
  - name: one
    match:
      from: ["<>", "*@Example.com"]
      header_from: "*@example.com"
      to: [postmaster, "*@b.c"]
      client: [10.0.0.0/8, "::1"]
      user: "app*"
      listener: local
      header: {List-Id: "*", X-A: [a, b]}
      directive: {stream: "broadcast*", metadata.Order: ["1", "2"]}
      larger: 1MB
      smaller: 10MB
      not: {to: "x@b.c", larger: 5MB}
    split: {a: 80, b: 0.5, hole: 0}
    sticky: sender
    fallback: [b, a, ses]
    patience: 0s
    overflow: spill
    priority: high
    allow_recipients: ["*@b.c"]
    redirect: qa@example.com
    shadow: box
  - name: two
    match: {to: "x@y.z"}
    ramp: {from: 2026-12-01 08:00, over: 14d, a: 100..0, b: 0..99.5, step_back: {refused: 2.5%, least: 10}}
    sticky: message
    capture: hole
  - {name: three, match: {to: "x@z.z"}, ramp: {from: 2026-12-01, over: 1d, a: 1..0, b: 0..1, step_back: off}}
  - {name: rest, via: a, fallback: [b], allow_recipients: "*@example.com", priority: low}
"""


def test_routes_arrive_as_written(tmp_path: Path) -> None:
    """Every key, in the records of the room that routes."""
    one, two, three, rest = config.load(written(tmp_path, PROVIDERS + FULL), environ={}).route_table()
    match = routing.Match(
        from_=("<>", "*@Example.com"),
        header_from=("*@example.com",),
        to=("postmaster", "*@b.c"),
        client=(ip_network("10.0.0.0/8"), ip_network("::1")),
        user=("app*",),
        listener=("local",),
        header={"list-id": ("*",), "x-a": ("a", "b")},
        directive={"stream": ("broadcast*",), "metadata.Order": ("1", "2")},
        larger=1_000_000,
        smaller=10_000_000,
        not_=routing.Match(to=("x@b.c",), larger=5_000_000),
    )
    assert one == routing.Route(
        "one",
        ("a", "b", "hole", "ses"),
        match,
        0.0,
        routing.Split((("a", 80.0), ("b", 0.5), ("hole", 0.0)), "sender"),
        None,
        ("b", "a", "ses"),
        routing.Guard(("*@b.c",), "qa@example.com"),
        "box",
        "high",
        True,
    )
    start = datetime(2026, 12, 1, 8, tzinfo=UTC).timestamp()
    ramp = ramps.Ramp(start, 14 * 86400.0, (("a", 100.0, 0.0), ("b", 0.0, 99.5)), ramps.StepBack(0.025, 0.2, 10, 2 * 86400.0), "message")
    assert (ramp, routing.Guard(capture="hole"), ("a", "b", "hole"), None) == (two.ramp, two.guard, two.providers, two.split)
    assert three.ramp
    assert (None, None) == (three.ramp.step_back, three.guard)
    assert routing.Route("rest", ("a", "b"), fallback=("b",), guard=routing.Guard(("*@example.com",)), priority="low") == rest


def test_limits_arrive_as_written(tmp_path: Path) -> None:
    """Defaults as the providers document them; off is none; auto is asked for."""
    text = f"""{HOSTNAME}providers:
  a: {{type: smtp, host: a.example.net, limits: {{rate: [150/10s, 600/m], daily: 5000, monthly: 100000, count: recipients}}}}
  hole: {{type: capture}}
  mailtrap: {{token: fake-token-0000}}
  slow: {{type: mailtrap, token: fake-token-0000, limits: {{rate: off}}}}
  {SES}
  sober: {{type: ses, region: eu-west-1, limits: {{rate: 14/s, daily: off}}}}
  lowcodeapi: {{token: at_fake-token-0000}}
routes: [{{name: default, via: [a, mailtrap, slow, ses, sober, lowcodeapi]}}]
"""
    loaded = config.load(written(tmp_path, text), environ={})
    assert {
        "a": Allowance((Rate(150, 10), Rate(600, 60)), 5000, 100000, "recipients"),
        "hole": Allowance(),
        "mailtrap": Allowance((Rate(150, 10),), count="requests"),
        "slow": Allowance(count="requests"),
        "ses": Allowance(count="recipients", ask_rate=True, ask_daily=True),
        "sober": Allowance((Rate(14, 1),), count="recipients"),
        "lowcodeapi": Allowance((Rate(1, 1),), count="requests"),
    } == {name: loaded.allowance(name) for name in loaded.providers}


def test_what_else_the_rooms_want(tmp_path: Path) -> None:
    """Rules for senders, providers that deliver to nobody, dialects by listener."""
    text = """routes: [{name: default, via: a}]
listen: [{name: lan, address: "127.0.0.1:25"}, {name: deaf, address: "127.0.0.1:26", controls: []}]
senders: {rewrite: {"root@*": alerts@example.com, "*@old.example.com": new@example.com}}
"""
    loaded = config.load(written(tmp_path, PROVIDERS + text), environ={})
    assert Rewriting((("root@*", "alerts@example.com"), ("*@old.example.com", "new@example.com"))) == loaded.rewriting()
    assert frozenset({"hole", "box"}) == loaded.sandboxes()
    assert {"lan": ("ses", "postmark", "mailtrap", "relay"), "deaf": ()} == loaded.controls()


GOOD = [
    "name: x, split: {a: 80, b: 20}, fallback: [a, b]",
    "name: x, split: {a: 80, postmark: 20}, fallback: [a, postmark]",
    "name: x, split: {hole: 50, box: 50}, fallback: hole",
    "name: x, split: {a: 50, b: 50, hole: 0}",
    "name: x, via: a, redirect: qa@example.com",
    "name: x, via: a, allow_recipients: '*@example.com', redirect: qa@example.com",
    "name: x, via: a, allow_recipients: '*@example.com', capture: box",
    "name: x, via: a, allow_recipients: ['qa@example.com', '*@*.example.com', 'u[0-9]@example.com', 'u?@EXAMPLE.com'], capture: box",
    "name: x, via: paubox, capture: hole",
    "name: x, via: paubox, shadow: hole",
    "name: x, via: [a, b], overflow: spill",
    "name: x, split: {a: 1, b: 1}, fallback: [a, b], overflow: spill, sticky: message",
    "name: x, match: {smaller: 10MB}, split: {mailtrap: 1, ses: 1}",
]


@pytest.mark.parametrize("route", GOOD)
def test_a_good_route_is_taken_without_a_word(tmp_path: Path, route: str) -> None:
    """No warning where nothing may surprise, but for mail that is delivered to nobody."""
    rest = "name: rest, via: [a, b]"
    path = routes(tmp_path, route.replace("name: x,", "name: x, match: {to: '*@x.org'},") if "match" not in route else route, rest)
    assert [] == [warning for warning in said(path) if "what goes there" not in warning]


WARNED = {
    "name: x, split: {a: 100, b: 0}": 'split: "a" is the only provider of this split that has a weight: it gets all mail (write via: a)',
    "name: x, split: {a: 100}": 'split: "a" is the only provider of this split that has a weight: it gets all mail (write via: a)',
    "name: x, ramp: {from: 2099-12-01, over: 1d, a: 5..5, b: 10..10}": "ramp: no share changes on this ramp (write split: {a: 5, b: 10})",
    "name: x, ramp: {from: 2026-01-01, over: 1d, a: 100..0, b: 0..100}": (
        "ramp: this ramp was over on 2026-01-02 (write via: b, unless it stepped back and still goes on)"
    ),
    "name: x, ramp: {from: 2026-01-01, over: 1d, a: 100..25, b: 0..75}": (
        "ramp: this ramp was over on 2026-01-02 (write split: {a: 25, b: 75}, unless it stepped back and still goes on)"
    ),
    "name: x, via: a, allow_recipients: ['*']": (
        "allow_recipients: lets mail out to everybody: this guards nothing (name the recipients of your own)"
    ),
    "name: x, via: a, allow_recipients: '*@example.com', redirect: qa@example.org": (
        "redirect: qa@example.org is none of allow_recipients itself, and gets the mail of all others "
        "(look whether it is the address you mean)"
    ),
    "name: x, via: a, shadow: box": (
        'shadow: "box" is a sandbox of Mailtrap: what goes there is delivered to nobody; '
        "every message of this route leaves for it too, whole"
    ),
    "name: x, via: paubox, shadow: box": (
        'shadow: "box" is a sandbox of Mailtrap: what goes there is delivered to nobody; but every message of this route leaves for it, '
        "whole: what paubox keeps of patients is then kept there too (name a provider that delivers: then messages are only built for it)"
    ),
    "name: x, ramp: {from: 2206-12-01, over: 1d, a: 100..0, b: 0..100}": (
        "ramp.from: this ramp begins on 2206-12-01 only (look at the year)"
    ),
    "name: x, via: a, patience: 1h": "patience: not used: there is no other provider to try after it (add fallback: …)",
    "name: x, via: a, allow_recipients: '*@*'": (
        "allow_recipients: lets mail out to everybody: this guards nothing (name the recipients of your own)"
    ),
    "name: x, via: a, allow_recipients: '*example.com'": (
        'allow_recipients.0: "*example.com" lets mail out to u@notexample.com, too (write whole domains: *@example.com)'
    ),
    "name: x, via: a, allow_recipients: ['*@example.org', '*@example.*']": (
        'allow_recipients.1: "*@example.*" lets mail out to u@example.example.net, too (write whole domains: *@example.com)'
    ),
    "name: x, via: a, allow_recipients: 'qa*'": (
        'allow_recipients.0: "qa*" lets mail out to qa@example.net, too (write whole domains: *@example.com)'
    ),
    "name: x, via: a, allow_recipients: '*@*.com'": (
        'allow_recipients.0: "*@*.com" lets mail out to u@not.com, too (write whole domains: *@example.com)'
    ),
    "name: x, match: {larger: 15MB}, via: [a, mailtrap]": (
        'via.1: "mailtrap" carries nothing of this route: it takes 10MB at most, and all mail here is larger than 15MB '
        "(name a provider that carries larger mail, or remove it)"
    ),
    "name: x, match: {larger: 15MB}, split: {a: 1, b: 1}, fallback: mailtrap": (
        'fallback.0: "mailtrap" carries nothing of this route: it takes 10MB at most, and all mail here is larger than 15MB '
        "(name a provider that carries larger mail, or remove it)"
    ),
    "name: x, via: a, sticky: sender": "sticky: not used: nothing is split here",
    "name: x, via: a, overflow: spill": "overflow: there is no other provider here to spill over to (add fallback: …)",
    "name: x, split: {a: 1, b: 1}, overflow: spill": "overflow: a split spills over to its fallback, and there is none (add fallback: …)",
    "name: x, via: [paubox, lowcodeapi]": (
        '"paubox" and "lowcodeapi" in one route: mail of patients would go through LowCodeAPI too (give each a route of its own)'
    ),
    "name: x, split: {lowcodeapi: 1, paubox: 1}, fallback: a": (
        '"paubox" and "lowcodeapi" in one route: mail of patients would go through LowCodeAPI too (give each a route of its own)'
    ),
    "name: x, via: paubox, capture: box": (
        'capture: "box" keeps what it gets: mail of this route, which is for "paubox", is then kept there (name a provider of type capture)'
    ),
    "name: x, split: {mailtrap: 20, a: 80}": (
        'split.mailtrap: "mailtrap" carries 10MB at most, and messages here may have 40MB: larger ones come back '
        "(add a fallback that carries them, or a route for them: match: {larger: …})"
    ),
    "name: x, match: {user: 'app*'}, via: a": "match.user: never holds: nobody logs in at any listener (add auth: to the listener)",
    "name: x, match: {not: {user: 'app*'}}, via: a": (
        "match.not.user: never holds: nobody logs in at any listener (add auth: to the listener)"
    ),
    "name: x, match: {listener: deaf, directive: {stream: broadcast}}, via: a": (
        "match.directive: never holds: no control headers are obeyed at listener deaf (name the dialects: controls: [relay], say)"
    ),
    "name: x, match: {larger: 40MB}, via: a": "match.larger: never holds: no larger message than 40MB is taken at any listener (max_size)",
}


@pytest.mark.parametrize("route", WARNED)
def test_what_may_surprise_is_a_warning(tmp_path: Path, route: str) -> None:
    """One warning, at its key, with the mend."""
    whole = route if "match:" in route else route.replace("name: x,", "name: x, match: {to: '*@x.org'},")
    listen = 'listen: [{name: a, address: "127.0.0.1:25"}, {name: deaf, address: "127.0.0.1:26", controls: []}]\n'
    expected = WARNED[route]
    assert [f"routes.0{'' if expected.startswith(chr(34)) else '.'}{expected}".replace('routes.0"', 'routes.0: "')] == said(
        routes(tmp_path, whole, "name: rest, via: [a, b]", more=listen)
    )


def test_a_ramp_under_way_is_nothing_to_warn_of(tmp_path: Path) -> None:
    """Its dates count as they are today."""
    now = time.time()
    ramp = f"{{from: {amounts.written_moment(now - 86400)}, over: 2d, a: 100..0, b: 0..100}}"
    assert [] == said(routes(tmp_path, f"name: x, ramp: {ramp}"))


def test_bounces_of_a_split_leave_by_its_providers(tmp_path: Path) -> None:
    """`bounce.via` is another door where the route names it nowhere."""
    items = (
        "name: x, match: {to: '*@x.org'}, split: {a: 1, b: 1}, fallback: ses",
        "name: y, match: {to: '*@y.org'}, via: b",
        "name: z, via: a",
    )
    more = "bounce: {via: %s}\n"
    assert ['bounce.via: "ses" is no provider of y, z: bounces of their mail, with its header, leave by it'] == said(
        routes(tmp_path, *items, more=more % "ses"), "bounce"
    )
    assert ['bounce.via: "b" is no provider of z: bounces of their mail, with its header, leave by it'] == said(
        routes(tmp_path, *items, more=more % "b"), "bounce"
    )


def test_a_provider_is_used_wherever_a_route_names_it(tmp_path: Path) -> None:
    """In a split, a ramp, a fallback, as a capture or a shadow."""
    path = routes(
        tmp_path,
        "name: x, match: {to: '*@x.org'}, split: {a: 1, b: 0}, fallback: ses, capture: hole, shadow: box",
        "name: y, ramp: {from: 2099-01-01, over: 1d, postmark: 1..0, mailtrap: 0..1}",
    )
    assert [f"providers.{name}: no route uses this provider" for name in ("paubox", "lowcodeapi")] == said(path, "providers")


LIMITS = {
    "[14/s, 1000/m]": "rate.1: 1000/m is never reached: 14/s holds first (remove it, or look which figure is right)",
    "[100/s, 50/m]": "rate.0: 100/s is never reached: 50/m holds first (remove it, or look which figure is right)",
    "[5/s, 6/s]": "rate.1: another rate has the same window; the smaller one holds (keep one of them)",
    "off, daily: 50000, monthly: 10000": "daily: 50000 a day are never reached: monthly is 10000",
}


@pytest.mark.parametrize("rate", LIMITS)
def test_a_limit_that_is_never_reached_is_a_warning(tmp_path: Path, rate: str) -> None:
    """It may be mistyped."""
    text = f"{HOSTNAME}providers: {{a: {{type: smtp, host: a.example.net, limits: {{rate: {rate}}}}}}}\n"
    assert [f"providers.a.limits.{LIMITS[rate]}"] == warnings_of(written(tmp_path, text))


def test_the_quota_of_an_account_is_in_recipients(tmp_path: Path) -> None:
    """Counted otherwise it would be passed."""
    text = HOSTNAME + "providers: {" + SES.replace("}", ", limits: {rate: 14/s, count: requests}}") + "}\n"
    assert [
        "providers.ses.limits.daily: auto asks for what Amazon SES counts in recipients, and count is requests: mail to many would pass it "
        "(remove count, or give the figures)"
    ] == warnings_of(written(tmp_path, text))


def test_a_listener_that_takes_what_nobody_carries_is_a_warning(tmp_path: Path) -> None:
    """Where somebody asked for it; a smarthost may carry anything."""
    listen = 'listen: [{name: a, address: "127.0.0.1:25", max_size: 45MB}]\n'
    text = "no provider carries more than 10MiB: what is larger is taken, and comes back to its sender"
    mend = "write max_size: 10MiB, and clients are told at once"
    assert [f"listen.0.max_size: {text} ({mend})"] == warnings_of(written(tmp_path, HOSTNAME + POSTMARK + listen))
    smarthost = "providers: {a: {type: smtp, host: a.example.net}}\n"
    assert [] == warnings_of(written(tmp_path, HOSTNAME + smarthost + listen))
    assert [] == warnings_of(written(tmp_path, HOSTNAME + POSTMARK))


def test_senders_that_do_nothing_are_a_warning(tmp_path: Path) -> None:
    """Users whom nobody knows, rules that are never used, addresses that apps may not use themselves."""
    text = HOSTNAME + POSTMARK + "senders: {allow: '*@example.com', users: {shop: '*@example.com'}, rewrite: {'root@*': x@example.com%s}}\n"
    assert ["senders.users: not used: no listener has users who log in (add auth: to a listener)"] == warnings_of(
        written(tmp_path, text % "")
    )
    more = ", 'root@a.example': y@example.com, 'cron@*': cron@example.org"
    assert [
        "senders.users: not used: no listener has users who log in (add auth: to a listener)",
        'senders.rewrite.root@a.example: never used: "root@*" above it takes all that it would (move it up)',
        "senders.rewrite.cron@*: cron@example.org is none of senders.allow: mail leaves with a sender that apps may not use",
    ] == warnings_of(written(tmp_path, text % more))


def test_users_who_are_in_no_file_are_a_warning(tmp_path: Path) -> None:
    """By what a login is known: its identity, where it has one."""
    users.set_password(tmp_path / "users", "app1", "not-a-real-password")
    users.set_password(tmp_path / "users", "apikey", "not-a-real-password", "shop")
    text = f"""{HOSTNAME}{POSTMARK}listen: [{{name: a, address: "127.0.0.1:25", auth: {tmp_path}/users}}]
senders: {{users: {{shop: "*@example.com", app2: "*@example.com"}}}}
routes:
  - {{name: x, match: {{user: ["s*", apikey]}}, via: postmark}}
  - {{name: y, via: postmark}}
"""
    assert [
        'senders.users.app2: not used: no listener has a user of this name (did you mean "app1"?)',
        'routes.0.match.user.1: "apikey" fits no user of any listener',
    ] == warnings_of(written(tmp_path, text))


def test_a_token_nobody_sees_here_is_no_mistake(tmp_path: Path) -> None:
    """Whether Postmark's token is the one for tests cannot be told without it."""
    text = """providers: {postmark: {token: "${env:POSTMARK_TOKEN}"}, a: {type: smtp, host: a.example.net}}
routes: [{name: x, via: a, capture: postmark}]
"""
    path = written(tmp_path, text)
    assert config.load(path, environ={}, for_sending=False)
    assert config.load(path, environ={"POSTMARK_TOKEN": "POSTMARK_API_TEST"})
    assert ['2:37: routes.0.capture: "postmark" delivers what it gets: the guard would let mail out'] == headlines_of(
        path, POSTMARK_TOKEN="fake-token-0000"
    )
