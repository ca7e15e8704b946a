"""The configuration as it is in force, written out again, and its JSON Schema for editors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from relay import config
from relay.config import kinds, marks, values
from relay.config.model import LATER
from relay.config.problems import Report
from relay.config.section import Section, keys_of
from relay.config.whole import Config
from tests.configs import HOSTNAME, POSTMARK, certificate, written

EXAMPLE = (Path(__file__).parent.parent / "relay.yaml.example").read_text()
SCHEMA = config.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def data(text: str) -> Any:
    """A document as an editor sees it: references are not resolved."""
    report = Report("relay.yaml")
    found = marks.read(text.encode(), report)
    assert () == report.problems
    return found


def errors(text: str) -> list[str]:
    """Where the schema says that a document is wrong."""
    return sorted({".".join(map(str, error.absolute_path)) for error in VALIDATOR.iter_errors(data(text))})


def without_secrets(value: Any) -> Any:
    """The same, with every secret the same; and as plain data, so that how a value came about does not count."""
    if isinstance(value, SecretStr):
        return "[secret]"
    if isinstance(value, Section):
        return without_secrets(dict(value))
    if isinstance(value, dict):
        return {key: without_secrets(inner) for key, inner in value.items()}
    return tuple(without_secrets(inner) for inner in value) if isinstance(value, tuple) else value


def plain(found: Config) -> dict[str, Any]:
    """A Config without secrets and warnings."""
    return {name: without_secrets(getattr(found, name)) for name in replace(found).__slots__ if name != "warnings"}


FULL = """\
hostname: relay.example.com
listen:
  - {name: lan, address: "0.0.0.0:587", tls: required, cert: CRT, key: KEY, allow: 10.0.0.0/8, proxy: ["::1"], max_size: 1536kB}
  - {name: sock, address: "unix:/run/relay/smtp.sock", controls: []}
providers:
  a: {type: smtp, host: mail.example.net, username: "$${x} äöü: #", password: "canary-0000", timeout: 90s}
  b: {type: ses, region: eu-west-1, mode: smtp, access_key_id: AKIAFAKEFAKEFAKE0000, smtp_password: "canary-0001"}
  c: {type: postmark, token: "canary-0002", smtp_access_key: "canary-0003", smtp_secret_key: "canary-0004", track_opens: no}
  d: {type: mailtrap, mode: smtp, stream: sandbox, username: 012, password: "canary-0005"}
  e: {type: paubox, username: 007, api_key: "canary-0006", base_url: "http://[::1]:1/v1/{username}", auth_scheme: bearer, batch: {wait: 0s}}
  f: {type: ses, region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: "canary-0007", session_token: "canary-0008"}
  g: {type: mailtrap, token: "canary-0009", stream: sandbox, sandbox_id: 123, streams: {News-1: bulk, 2: transactional}}
  h: {type: ses, region: eu-west-1, profile: x, content_mode: simple, fips: true, dual_stack: true, tenant: t, streams: {outbound: set_1}}
  i: {type: lowcodeapi, token: "at_canary-0010", content_mode: raw, limits: {size: 512kB, rate: off, monthly: 7}, on_loss: warn}
  j: {type: smtp, host: mail.example.net, limits: {rate: [14/s, 150/10s, 7/90s, 1/100ms], daily: 50000, count: recipients}}
  k: {type: smtp, host: mail.example.net, limits: {rate: 1000/h}}
  l: {type: ses, region: eu-west-1, limits: {rate: auto, daily: off, monthly: 5}}
  capture:
routes:
  - {name: one, match: {from: "<>", header: {X-A: [a, "${env:NO}"]}, larger: 1GiB, client: 10.0.0.0/8}, via: [a, b], patience: 0s}
  - name: two
    match: {user: "$${x}*", directive: {stream: "b*", metadata.K: ["1"]}, smaller: 1MB, not: {to: "*@x", header_from: "*@x.org"}}
    split: {j: 80, k: 0.000001, l: 0}
    sticky: sender
    fallback: [a, b]
    overflow: spill
    priority: low
    allow_recipients: ["*@example.com"]
    redirect: qa@example.com
    shadow: d
  - {name: three, match: {to: "*@three.org"}, ramp: {from: 2026-12-01, over: 14d, j: 100..0, k: 0..12.5}, sticky: message, capture: d}
  - {name: four, match: {to: "*@four.org"}, ramp: {from: "2026-12-01 08:30", over: 36h, j: 1..0, k: 0..1, step_back: off}}
  - name: five
    match: {to: "*@five.org"}
    ramp: {from: "2026-12-01 08:30:01", over: 36h, j: 1..0, k: 0..1, step_back: {refused: 0.5%, deferred: 33.3%, least: 7, by: 90m}}
  - {name: rest, via: [c, d, e, f, g, h, i, capture]}
senders: {allow: ["*@example.com", "[[]*@x"], users: {app: ["*@x", "<>"]}, rewrite: {"root@*": alerts@example.com, "[[]*@x": b@example.com}}
tests:
  - {from: "<>", to: [postmaster, "a@three.org"], expect: c, header: {X-A: "$${x}: 1", Subject: 5}, client: unix, size: 1500kB}
  - {from: "a@example.com", to: "a@x.org", route: rest, user: app, listener: sock, header_from: b@x.org}
queue: {retry: [1.5s, 90m, 36h], keep_bodies: 1w}
bounce: {to: postmaster, postmaster: postmaster@example.com, via: a, delay_warning: 0s, alerts: true}
admin: {listen: ["unix:/run/relay/admin.sock", "127.0.0.1:8025"], metrics: false}
log: {level: debug, format: journald, mask: full}
"""


@pytest.fixture
def full(tmp_path: Path) -> Config:
    """A configuration with every kind of value."""
    cert, key = certificate(tmp_path)
    text = FULL.replace("CRT", str(cert)).replace("KEY", str(key)).replace("track_opens: no", "track_links: None, track_opens: false")
    return config.load(written(tmp_path, text), environ={"NO": "no"})


def test_what_is_shown_can_be_loaded_again(tmp_path: Path, full: Config) -> None:
    """All but the secrets survives, defaults among it, and showing it again changes nothing."""
    shown = config.show(full)
    again = config.load(written(tmp_path, shown), environ={})
    assert plain(full) == plain(again)
    assert shown == config.show(again)
    assert len(full.warnings) == len(again.warnings)
    assert [] == errors(shown)


def test_no_secret_is_shown(full: Config) -> None:
    """Each secret is known to the log, and stands nowhere in what is shown."""
    assert {f"canary-{number:04}" for number in range(11)} == {secret.removeprefix("at_") for secret in full.secrets()}
    shown = config.show(full)
    assert "canary" not in shown
    assert 11 == shown.count("'[secret]'")


def test_every_default_is_shown(tmp_path: Path) -> None:
    """A file of one line shows all that holds."""
    shown = data(config.show(config.load(written(tmp_path, HOSTNAME + POSTMARK), environ={})))
    assert {"name": "local", "address": "127.0.0.1:25", "tls": "off", "max_size": "40MB"}.items() <= shown["listen"][0].items()
    assert ["ses", "postmark", "mailtrap", "relay"] == shown["listen"][0]["controls"]
    budgets = {"rate": "off", "daily": "off", "monthly": "off", "count": "messages"}
    limits, batch = {"concurrency": 10, **budgets, "size": "10MiB"}, {"max": 500, "wait": "1s"}
    expected = {"token": "[secret]", "mode": "auto", "timeout": "1m", "limits": limits, "batch": batch}
    assert expected.items() <= shown["providers"]["postmark"].items()
    usual = {"sticky": "recipient", "patience": "15m", "overflow": "wait", "priority": "normal"}
    assert [{"name": "default", "via": ["postmark"], **usual}] == shown["routes"]
    assert {"to": "sender", "from": "mailer-daemon@relay.example.com", "delay_warning": "4h", "alerts": False} == shown["bounce"]
    assert {"level": "info", "format": "auto", "mask": "none"} == shown["log"]
    assert ["1m", "5m", "15m", "30m", "1h", "2h", "4h"] == shown["queue"]["retry"]


def test_the_development_set_up_can_be_shown(tmp_path: Path) -> None:
    """It has no file of its own, and would be one."""
    made = config.dev(tmp_path)
    assert plain(made) == plain(config.load(written(tmp_path, config.show(made)), environ={}))


@given(seconds=st.integers(0, 3650 * 86400 * 1000).map(lambda number: number / 1000))
def test_times_are_written_so_that_they_are_read_again(seconds: float) -> None:
    """To the millisecond, in one unit."""
    assert seconds == values.duration(kinds.written_duration(seconds))


@given(octets=st.integers(0, 10**12 - 1))
def test_sizes_are_written_so_that_they_are_read_again(octets: int) -> None:
    """To the octet, in one unit."""
    assert octets == values.size(kinds.written_size(octets))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.2, "200ms"),
        (0.0015, "0.0015s"),
        (1.5, "1.5s"),
        (60, "1m"),
        (90, "90s"),
        (5400, "90m"),
        (86400, "1d"),
        (7 * 86400, "7d"),
        (1e8, "100000000s"),
    ],
)
def test_times_are_written_in_their_largest_unit(seconds: float, text: str) -> None:
    """As an admin would write them."""
    assert text == kinds.written_duration(seconds)


@pytest.mark.parametrize(
    ("octets", "text"), [(0, "0B"), (40_000_000, "40MB"), (1_572_864, "1536KiB"), (2**30, "1GiB"), (1000, "1kB"), (1001, "1001B")]
)
def test_sizes_are_written_in_their_best_unit(octets: int, text: str) -> None:
    """As an admin would write them."""
    assert text == kinds.written_size(octets)


def test_the_schema_is_one() -> None:
    """It is a schema of draft 2020-12, and every key has its sentence."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert "https://json-schema.org/draft/2020-12/schema" == SCHEMA["$schema"]
    for model in LATER:
        properties = SCHEMA["properties"] if model.__name__ == "Root" else SCHEMA["$defs"][model.__name__]["properties"]
        assert {key: field.description for key, field in keys_of(model).items()} == {
            key: value.get("description") for key, value in properties.items()
        }


def test_the_example_fits_the_schema() -> None:
    """As it is, and with each line that is commented out in its place."""
    assert [] == errors(EXAMPLE)
    for line in re.finditer(r"(?m)^( *)# ([a-z_]+: (?:\S+|\[.*\]|\{.*\}))$", EXAMPLE):
        assert [] == errors(EXAMPLE[: line.start()] + line[1] + line[2] + EXAMPLE[line.end() :]), line[0]


GOOD = [
    POSTMARK,
    "providers: {capture: }\nlog:\nroutes:\nlisten:\n",
    'providers: {a: {type: "smtp", host: "${env:HOST}", port: "${env:PORT}", timeout: "${env:T}", tls: "${env:TLS}"}}',
    "providers: {postmark: {type: smtp, host: mail.example.net}}",
    "providers: {a: {type: smtp, host: '[::1]', username: 012, password: 12345, port: '25'}}",
    f"{POSTMARK}routes: [{{name: a, via: postmark}}]\nqueue: {{retry: 5m, min_free: 1.5gib, keep_bodies: 0 s}}",
    f"{POSTMARK}bounce: {{via: null, postmaster: null}}\nadmin: {{metrics: 'false'}}",
    f"{POSTMARK}routes: [{{name: a, match: {{to: [Postmaster, '*'], larger: 5MB, header: {{a: b}}}}, via: [postmark]}}]",
    "providers: {mailtrap: {token: x, batch: {max: '3', wait: 200 ms}, streams: {a: bulk}, limits: {size: 30MB}}}",
    "providers: {paubox: {api_key: ' a b ', username: 12, base_url: 'https://x/{username}', html: plain, allow_non_tls: 'false'}}",
    "providers: {lowcodeapi: {token: at_x, mode: api, content_mode: simple}, capture: }",
    "providers: {ses: {region: eu-west-1, streams: {a: b_c, d: '${env:Y}'}, tenant: 7, fips: true}}",
    f"{POSTMARK}listen: [{{name: a, address: '[::]:25', allow: [10.0.0.0/8, '::1'], controls: []}}]",
    "providers: {a: {type: smtp, host: x, limits: {rate: [14/s, 600 / 1.5 m], daily: 5, monthly: '7', count: recipients}}}",
    "providers: {ses: {region: eu-west-1, limits: {rate: off, daily: auto, monthly: off, count: '${env:C}'}}}",
    f"{POSTMARK}routes: [{{name: a, split: {{postmark: 0.5, b: '2'}}, sticky: sender, fallback: c, overflow: spill, priority: low}}]",
    f"{POSTMARK}routes: [{{name: a, ramp: {{from: 2026-12-01, over: 1d, postmark: 0..100, b: 1.5 .. 0, step_back: off}}}}]",
    f"{POSTMARK}routes: [{{name: a, ramp: {{from: 2026-12-01 08:00, over: 1d, b: 0..1, step_back: {{refused: 0.5 %, least: 5}}}}}}]",
    f"{POSTMARK}routes: [{{name: a, via: b, allow_recipients: '*@x', redirect: a@b.c, capture: null, shadow: d}}]",
    f"{POSTMARK}routes: [{{name: a, via: b, match: {{user: a*, directive: {{tag: [a, b]}}, smaller: 1MB, not: {{header_from: '*@x'}}}}}}]",
    f"{POSTMARK}senders: {{users: {{a: '*@x', b: ['<>']}}, rewrite: {{'root@*': a@b.c}}}}",
    f"{POSTMARK}bounce: {{alerts: true}}\ntests: [{{from: '<>', to: [postmaster, a@b.c], route: x, header: {{Subject: 5}}, client: unix}}]",
]
WRONG = {
    "": "",
    "nothing: 1\n" + POSTMARK: "",
    "providers: {}": "providers",
    "providers: []": "providers",
    "providers: {a: {host: x}}": "providers.a",
    "providers: {a: {type: smpt}}": "providers.a.type",
    "providers: {a b: {type: capture}}": "providers",
    "providers: {smtp: {}}": "providers.smtp",
    "providers: {smtp: }": "providers.smtp",
    "providers: {postmark: {type: capture, token: x}}": "providers.postmark",
    "providers: {a: {type: capture, token: x}}": "providers.a",
    "providers: {mailtrap: {token: x, mode: rest}}": "providers.mailtrap.mode",
    "providers: {mailtrap: {token: x, streams: {a: sandbox}}}": "providers.mailtrap.streams.a",
    "providers: {mailtrap: {token: x, sandbox_id: box}}": "providers.mailtrap.sandbox_id",
    "providers: {postmark: {token: x, batch: {max: 501}}}": "providers.postmark.batch.max",
    "providers: {postmark: {token: x, batch: {wait: 200}}}": "providers.postmark.batch.wait",
    "providers: {postmark: {token: x, limits: {size: 10}}}": "providers.postmark.limits.size",
    "providers: {paubox: {api_key: x, username: a/b}}": "providers.paubox.username",
    "providers: {paubox: {api_key: x, batch: {max: 51}}}": "providers.paubox.batch.max",
    "providers: {lowcodeapi: {token: at_x, mode: auto}}": "providers.lowcodeapi.mode",
    "providers: {lowcodeapi: }": "providers.lowcodeapi",
    "providers: {ses: {region: eu-west-1, batch: {max: 1}}}": "providers.ses",
    "providers: {ses: {region: Ireland}}": "providers.ses.region",
    "providers: {smtp: {host: x, port: 99999}}": "providers.smtp.port",
    "providers: {smtp: {host: x, timeout: 30}}": "providers.smtp.timeout",
    "providers: {smtp: {host: x, timeout: 30sec}}": "providers.smtp.timeout",
    "providers: {smtp: {host: x, tls: none, limits: {rat: 3/s}}}": "providers.smtp.limits",
    "providers: {smtp: {host: x, tls: none, limits: {rate: 3}}}": "providers.smtp.limits.rate",
    "providers: {smtp: {host: x, tls: none, limits: {rate: auto}}}": "providers.smtp.limits.rate",
    "providers: {smtp: {host: x, tls: none, limits: {daily: 0}}}": "providers.smtp.limits.daily",
    "providers: {ses: {region: eu-west-1, limits: {count: mails}}}": "providers.ses.limits.count",
    "providers: {postmark: {token: a b}}": "providers.postmark.token",
    "providers: {postmark: {token: }}": "providers.postmark.token",
    f"version: 2\n{POSTMARK}": "version",
    f"{POSTMARK}queue: {{retry: []}}": "queue.retry",
    f"{POSTMARK}queue: {{retry: [1m, 5]}}": "queue.retry",
    f"{POSTMARK}queue: {{min_free: 100}}": "queue.min_free",
    f"{POSTMARK}queue: {{spool: var}}": "queue.spool",
    f"{POSTMARK}listen: {{name: a}}": "listen",
    f"{POSTMARK}listen: [{{name: a}}]": "listen.0",
    f"{POSTMARK}listen: [{{name: a, address: 25}}]": "listen.0.address",
    f"{POSTMARK}listen: [{{name: a, address: 'x:25', tls: maybe}}]": "listen.0.address listen.0.tls",
    f"{POSTMARK}routes: [{{name: a, via: postmark, match: {{from: example.com}}}}]": "routes.0.match.from",
    f"{POSTMARK}routes: [{{name: a, via: postmark, stick: x}}]": "routes.0",
    f"{POSTMARK}routes: [{{name: a, via: postmark, sticky: x}}]": "routes.0.sticky",
    f"{POSTMARK}routes: [{{name: a, split: {{postmark: -1}}}}]": "routes.0.split.postmark",
    f"{POSTMARK}routes: [{{name: a, ramp: {{from: 2026-12-01, postmark: 0..100}}}}]": "routes.0.ramp",
    f"{POSTMARK}routes: [{{name: a, ramp: {{from: tomorrow, over: 1d, postmark: 0..100}}}}]": "routes.0.ramp.from",
    f"{POSTMARK}routes: [{{name: a, ramp: {{from: 2026-12-01, over: 1d, postmark: 100}}}}]": "routes.0.ramp.postmark",
    f"{POSTMARK}routes: [{{name: a, ramp: {{from: 2026-12-01, over: 1d, postmark: 0..1, step_back: no}}}}]": "routes.0.ramp.step_back",
    f"{POSTMARK}routes: [{{name: a, ramp: {{from: 2026-12-01, over: 1d, postmark: 0..1, step_back: {{refused: 5}}}}}}]": (
        "routes.0.ramp.step_back.refused"
    ),
    f"{POSTMARK}routes: [{{name: a, via: postmark, match: {{not: {{not: {{to: '*@x'}}}}}}}}]": "routes.0.match.not",
    f"{POSTMARK}routes: [{{name: a, via: postmark, capture: [x]}}]": "routes.0.capture",
    f"{POSTMARK}senders: {{rewrite: {{'root@*': alerts}}}}": "senders.rewrite.root@*",
    f"{POSTMARK}tests: [{{from: a@b.c, expect: postmark}}]": "tests.0",
    f"{POSTMARK}tests: [{{from: a, to: b@b.c, expect: postmark}}]": "tests.0.from",
    f"{POSTMARK}bounce: {{from: nobody}}": "bounce.from",
    f"{POSTMARK}admin: {{metrics: yes}}": "admin.metrics",
    f"{POSTMARK}log: {{level: inf}}": "log.level",
    f"{POSTMARK}log: []": "log",
}


@pytest.mark.parametrize("text", GOOD)
def test_what_can_be_loaded_fits_the_schema(text: str) -> None:
    """No editor underlines what relay takes."""
    assert [] == errors(text)


@pytest.mark.parametrize("text", WRONG)
def test_the_schema_finds_what_is_wrong(text: str) -> None:
    """An editor underlines these before `relay check` is asked."""
    expected = WRONG[text].split() or [""]
    deepest = [leaf for error in VALIDATOR.iter_errors(data(text) if text else {}) for leaf in _deepest(error)]
    assert set(expected) <= set(deepest)


def _deepest(error: jsonschema.ValidationError) -> list[str]:
    """The places a finding is about: its own, and those of the branches that were tried."""
    here = ".".join(map(str, error.absolute_path))
    return [here, *(leaf for inner in error.context or () for leaf in _deepest(inner))]


MISTAKES = (Path(__file__).parent / "data/config/mistakes.txt").read_text()


def test_a_provider_without_its_type_is_told_of_once() -> None:
    """An editor says that the type is missing, not what every type would want."""
    errors = VALIDATOR.iter_errors({"providers": {"news": {"token": "fake-token-0000"}}})
    assert ["'type' is a required property"] == [error.message for error in errors]


def test_an_unknown_key_is_unknown_to_the_schema_too() -> None:
    """Wherever `load` says "unknown key", so does the schema."""
    blocks = [block.partition("\n")[2].partition("\n----\n") for block in re.split(r"(?m)^#### ", MISTAKES)[1:]]
    unknown = [text for text, _, answer in blocks if ": unknown key" in answer.splitlines()[0]]
    assert len(unknown) > 10
    assert [] == [text for text in unknown if not errors(text)]
