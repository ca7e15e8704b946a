"""`relay explain`: which route takes a message, and what would become of it."""

from __future__ import annotations

import contextlib
import io
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from relay import users
from relay.cli import door, exits, unobeyed
from relay.cli.main import main
from relay.config.kinds import Controls
from relay.edits import CONTROL_PREFIXES
from tests.commands import Relay, write
from tests.served import Provider, Ramp
from tests.test_mime import CORPUS, corpus

MAIL = b"""From: App <app@example.com>
To: Ann <ann@example.net>, bob@example.org
Bcc: boss@example.com
Subject: hello
X-PM-Tag: welcome
Date: Fri, 20 Nov 2026 17:57:01 +0000

Hello.
"""
CONFIG = """\
hostname: relay.example.com
listen:
  - {name: local, address: "127.0.0.1:2525"}
  - {name: lan, address: "10.0.0.5:25", allow: [10.0.0.0/8], max_size: 1kB}
  - {name: app, address: "unix:/run/relay/smtp.sock"}
admin: {listen: "unix:/nowhere/admin.sock"}
providers:
  postmark: {token: "${env:NOT_SET_HERE}"}
  keep: {type: capture}
routes:
  - {name: patients, match: {from: "*@clinic.example.com"}, via: keep}
  - {name: newsletter, match: {header: {List-Unsubscribe: "*"}, client: 10.0.0.0/8}, via: postmark}
  - {name: bob, match: {to: "bob@*"}, via: [keep, postmark]}
  - {name: rest, via: postmark}
senders: {allow: ["*@example.com"]}
"""

NOT_ASKED = "the daemon was not asked: pauses, what is used of budgets and steps back of ramps are not known"


@pytest.fixture(autouse=True)
def _environment(nothing_of_this_host: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONFIG and no other."""
    monkeypatch.setenv("RELAY_CONFIG", write(tmp_path / "relay.yaml", CONFIG))


def file(directory: Path, data: bytes = MAIL) -> str:
    """A file with these octets."""
    path = directory / "mail.eml"
    path.write_bytes(data)
    return str(path)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The object printed."""
    assert exits.OK == main(["explain", *arguments, "--json"]), capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_one_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The listener's verdict, the edits, each recipient's route and why no other, each provider."""
    assert exits.OK == main(["explain", file(tmp_path), "--from", "app@example.com", "--to", "ann@example.net", "--to", "bob@example.org"])
    printed = capsys.readouterr()
    assert "" == printed.err
    assert [
        "from <app@example.com>, 180 B, from client 127.0.0.1",
        "listener local (127.0.0.1:2525): takes it (at most 40.0 MB); obeys control headers of ses, postmark, mailtrap, relay",
        "edits: Received, Message-ID added; bcc, x-pm-tag removed",
        "",
        "to each of them",
        "    not patients: from: app@example.com is not *@clinic.example.com",
        "    not newsletter: client: 127.0.0.1 is not in 10.0.0.0/8",
        "        and header: there is no list-unsubscribe",
        "to <ann@example.net>",
        "    not bob: to: ann@example.net is not bob@*",
        "    route rest, by postmark",
        "to <bob@example.org>",
        "    route bob, by keep, then postmark",
        "        postmark: when the one before is paused, cannot carry it, or has deferred it for 15m",
        "",
        "postmark: 1 request, nothing is lost",
        "keep (capture): 1 request, nothing is lost",
        "",
        NOT_ASKED,
    ] == printed.out.splitlines()


def test_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object with everything; what is left out on the command line is taken from the header."""
    found = as_json(capsys, file(tmp_path))
    assert [
        *("reverse_path", "message_size", "client", "user", "listener", "edits", "rewritten", "daemon", "recipients", "providers")
    ] == list(found)
    assert [("ann@example.net", "rest"), ("bob@example.org", "bob")] == [(one["address"], one["route"]) for one in found["recipients"]]
    unlimited: dict[str, object] = {"count": "messages", "rates": [], "daily": None, "monthly": None, "asked": []}
    shown = {"name": "keep", "type": "capture", "shadow": False, "requests": 1, "losses": [], "cannot": []}
    assert {**shown, "budget": unlimited, "standing": None} in found["providers"]


@pytest.mark.parametrize(
    ("arguments", "refusals"),
    [
        (["--listener", "lan", "--client", "10.1.2.3"], ["1,181 octets are more than max_size, 1,000"]),
        (["--listener", "lan", "--client", "::ffff:10.1.2.3"], ["1,181 octets are more than max_size, 1,000"]),
        (
            ["--listener", "lan", "--from", "x@other.example"],
            [
                "127.0.0.1 is in none of the networks of allow",
                "the reverse-path x@other.example is none of senders.allow: *@example.com",
                "1,181 octets are more than max_size, 1,000",
            ],
        ),
        (["--from", "<>"], []),
        (["--from", "APP@EXAMPLE.COM"], []),
    ],
)
def test_what_a_listener_would_refuse(
    arguments: list[str], refusals: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Networks, senders and size; the null reverse-path is always allowed."""
    path = file(tmp_path, MAIL + b"x" * 999)
    sender = [] if "--from" in arguments else ["--from", "app@example.com"]
    assert refusals == as_json(capsys, path, *arguments, *sender, "--to", "a@example.net")["listener"]["refusals"]
    assert exits.OK == main(["explain", path, *arguments, *sender, "--to", "a@example.net"])
    assert bool(refusals) == (": refuses it\n" in capsys.readouterr().out)


@pytest.mark.parametrize(
    ("head", "body", "recipients", "refusal"),
    [
        (b"Received: by x\n" * 51, b"", 1, "51 Received fields are more than 50: the mail goes in a circle"),
        (b"X-Long: x\n" * 120_000, b"", 1, "a header of 1,320,029 octets is more than 1,048,576"),
        (b"", b"x" * 65_537, 1, "a line of 65,537 octets is more than 65,536"),
        (b"", b"", 1001, "1,001 recipients are more than 1,000 in one transaction"),
        (b"Received: by x\n" * 50, b"x" * 65_536, 1000, ""),
    ],
)
def test_what_every_listener_would_refuse(
    head: bytes, body: bytes, recipients: int, refusal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loops, endless headers and lines, and too many recipients, with the limits that the listener has."""
    path = file(tmp_path, head + b"From: app@example.com\nX: y\n\n" + body + b"\n")
    to = [word for number in range(recipients) for word in ("--to", f"a{number}@example.net")]
    found = as_json(capsys, path, "--from", "app@example.com", *to)
    assert ([refusal] if refusal else []) == found["listener"]["refusals"]


def test_a_unix_socket_has_clients_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --client the client is who uses the listener."""
    found = as_json(capsys, file(tmp_path), "--listener", "app")
    assert ("unix", []) == (found["client"], found["listener"]["refusals"])


def test_control_headers_that_a_listener_does_not_obey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each dialect is named with its fields and what would have them obeyed; nobody is told that nothing is lost."""
    path = file(tmp_path, b"X-SES-Configuration-Set: a\nX-MT-Category: b\nX-Relay-Id: c\n" + MAIL)
    given = (path, "--from", "app@example.com", "--to", "bob@example.org", "--client", "10.1.2.3", "--listener", "lan")
    config = CONFIG.replace('"10.0.0.5:25"', '"10.0.0.5:25", controls: [mailtrap]')
    monkeypatch.setenv("RELAY_CONFIG", write(tmp_path / "relay.yaml", config))
    what = [
        "x-ses-configuration-set: listener lan obeys no control headers of ses; with controls: [ses, postmark, mailtrap] it would",
        "x-pm-tag: listener lan obeys no control headers of postmark; with controls: [ses, postmark, mailtrap] it would",
    ]
    assert [{"grade": "cosmetic", "what": one} for one in what] == as_json(capsys, *given)["listener"]["losses"]
    assert exits.OK == main(["explain", *given])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("; obeys control headers of mailtrap")
    assert " ".join(f"lost (cosmetic): {one}" for one in what) == " ".join(line.strip() for line in lines[2:6])
    assert "keep (capture): 1 request, nothing else is lost" in lines
    assert [] == as_json(capsys, *given[:-1], "local")["listener"]["losses"]


def test_what_is_lost_with_control_headers() -> None:
    """Many fields are counted; mail without its template is another mail; what asks for nothing is no loss."""
    block = b"".join(b"X-PM-Metadata-%d: x\r\n" % number for number in range(12)) + b"X-Relay-Template: 7\r\nX-PM-KeepID: true\r\n"
    metadata, template = unobeyed.losses(block, "l", [])
    assert ("cosmetic", True) == (metadata.grade, "x-pm-metadata-9 and 2 more: listener l obeys" in metadata.what)
    assert ("hard", True) == (template.grade, template.what.startswith("x-relay-template: "))
    assert [] == list(unobeyed.losses(block, "l", ["relay", "postmark"]))


def test_every_dialect_is_known_here() -> None:
    """As the configuration and the edits know it."""
    assert get_args(Controls) == tuple(unobeyed.PREFIXES)
    assert set(CONTROL_PREFIXES) == set(unobeyed.PREFIXES.values())


SIGNED = b"Content-Type: multipart/signed; boundary=b\n\n--b\n\nx\n--b\n\ny\n--b--\n"
WHY = "the signature of multipart/signed would break"


def test_a_provider_that_cannot_carry_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every reason is named."""
    monkeypatch.setenv("RELAY_CONFIG", write(tmp_path / "relay.yaml", CONFIG.replace("postmark: {", "postmark: {mode: api, ")))
    path = file(tmp_path, b"From: app@example.com\n" + SIGNED)
    assert exits.OK == main(["explain", path, "--from", "app@example.com", "--to", "bob@example.org"])
    lines = capsys.readouterr().out.splitlines()
    assert ["keep (capture): 1 request, nothing is lost", "postmark: cannot carry it", f"    {WHY}"] == lines[-5:-2]


def test_a_provider_that_takes_it_by_smtp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With mode: auto, and why not by its API."""
    path = file(tmp_path, b"From: app@example.com\n" + SIGNED)
    given = (path, "--from", "app@example.com", "--to", "bob@example.org")
    assert exits.OK == main(["explain", *given])
    assert [
        "postmark: 1 request, nothing is lost",
        f"    by SMTP and not by the API: {WHY}",
    ] == capsys.readouterr().out.splitlines()[-4:-2]
    shown = next(one for one in as_json(capsys, *given)["providers"] if one["name"] == "postmark")
    assert (1, 1, [f"by SMTP and not by the API: {WHY}"]) == (shown["requests"], shown["by_smtp"], shown["why"])


def test_header_fields_instead_of_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Enough for the routes; what providers would do is not told."""
    given = ["--header", "List-Unsubscribe: <x>", "--header", "Subject: grüße", "--client", "10.1.2.3", "--to", "a@example.net"]
    assert exits.OK == main(["explain", *given, "--from", "app@example.com"])
    lines = capsys.readouterr().out.splitlines()
    assert "from <app@example.com>, from client 10.1.2.3" == lines[0]
    assert "    route newsletter, by postmark" in lines
    assert "a header alone says neither the size (for larger, smaller) nor what the providers would do; name the whole message" == lines[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], exits.USAGE, "name a message, or give header fields"),
        (["/x.eml", "--header", "A: b"], exits.USAGE, "name a message, or give header fields"),
        (["--header", "no colon"], exits.USAGE, "--header wants a field such as 'Subject: hello', not 'no colon'"),
        (["--header", "A: b\nBcc: c"], exits.USAGE, "--header wants a field"),
        (["--header", "A: b", "--client", "10.1"], exits.USAGE, "--client wants an IP address, not '10.1'"),
        (["--header", "A: b", "--listener", "lna"], exits.USAGE, 'no listener is named "lna"; configured: local, lan, app'),
        (["--header", "A: b"], exits.USAGE, "say who gets it: --to B"),
        (["/no/such.eml"], exits.NO_INPUT, "/no/such.eml: No such file or directory"),
    ],
)
def test_what_cannot_be_explained(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, and its exit code."""
    assert code == main(["explain", *arguments])
    assert said in capsys.readouterr().err


def test_without_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """66; the development set-up is one."""
    monkeypatch.delenv("RELAY_CONFIG")
    assert exits.NO_INPUT == main(["explain", file(tmp_path)])
    assert "name one: relay explain -c FILE" in capsys.readouterr().err
    found = as_json(capsys, file(tmp_path), "--dev")
    assert ["default", "default"] == [one["route"] for one in found["recipients"]]


def test_any_mail_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Real and broken mail: 0, or 65 for what is no mail."""
    for path in corpus():
        code = main(["explain", str(path), "--from", "app@example.com", "--to", "bob@example.org"])
        printed = capsys.readouterr()
        assert (code, bool(printed.out)) in ((exits.OK, True), (exits.DATA, False)), (path, printed.err)


RULES = """\
hostname: relay.example.com
listen: [{name: local, address: "127.0.0.1:2525"}]
admin: {listen: "unix:/nowhere/admin.sock"}
providers:
  ses: {region: eu-west-1, access_key_id: "${env:NOT_SET_ID}", secret_access_key: "${env:NOT_SET}", limits: {rate: 14/s, daily: 50000}}
  postmark: {token: "${env:NOT_SET}"}
  mailtrap: {token: "${env:NOT_SET}"}
  sandbox: {type: mailtrap, token: "${env:NOT_SET}", stream: sandbox, sandbox_id: 12345}
  smarthost: {type: smtp, host: mail.example.net}
  keep: {type: capture}
routes:
  - name: bulk
    match: {header: {List-Unsubscribe: "*"}}
    split: {ses: 80, mailtrap: 20}
    fallback: smarthost
    priority: low
    overflow: spill
  - {name: staging, match: {to: "*@staging.example.com"}, via: ses, redirect: qa@example.com, allow_recipients: "ann@*"}
  - {name: caught, match: {to: "*@test.example.com"}, via: postmark, capture: keep}
  - {name: refused, match: {to: "*@old.example.com"}, via: postmark, allow_recipients: "ann@*"}
  - name: moving
    match: {to: "*@example.net", not: {larger: 5MB}}
    ramp: {from: 2020-01-01, over: 14d, postmark: 100..0, ses: 0..100}
    fallback: smarthost
    patience: 36h
    priority: high
    shadow: sandbox
  - {name: rest, via: [postmark, smarthost], shadow: mailtrap}
senders: {rewrite: {"root@*": "alerts@example.com"}, users: {app1: "*@shop.example.com"}}
"""


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES in place of CONFIG."""
    monkeypatch.setenv("RELAY_CONFIG", write(tmp_path / "relay.yaml", RULES))


@pytest.mark.usefixtures("rules")
def test_all_that_rules_can_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ramp, staging guard, shadow, priority, budgets and rewritten senders; once for all what is against routes that take nobody."""
    path = file(tmp_path, b"From: Root <root@web1.example.com>\nSubject: hello\nX-PM-Tag: x\nDate: x\nMessage-ID: <x>\n\nhi\n")
    to = ("a@example.net", "b@staging.example.com", "ann@staging.example.com", "x@test.example.com", "o@old.example.com", "z@example.org")
    assert exits.OK == main(["explain", path, "--from", "root@web1.example.com", *(word for one in to for word in ("--to", one))])
    assert [
        "from <root@web1.example.com>, 97 B, from client 127.0.0.1",
        "listener local (127.0.0.1:2525): takes it (at most 40.0 MB); obeys control headers of ses, postmark, mailtrap, relay",
        "edits: Received added; x-pm-tag removed",
        "rewritten: reverse-path is <alerts@example.com>, From is Root <alerts@example.com>",
        "",
        "to each of them",
        "    not bulk: header: there is no list-unsubscribe",
        "to <a@example.net>",
        "    not staging: to: a@example.net is not *@staging.example.com",
        "    not caught: to: a@example.net is not *@test.example.com",
        "    not refused: to: a@example.net is not *@old.example.com",
        "    route moving, by ses, then smarthost",
        "        ramp by recipient: postmark 0 %, ses 100 %; here ses",
        "        the ramp is over since 2020-01-15",
        "        smarthost: when the one before is paused, cannot carry it, or has deferred it for 36h",
        "        high priority: 4 turns at a busy provider for 1 of normal mail",
        "        shadow: built for sandbox, too; sent to it, which delivers to nobody",
        "to <b@staging.example.com>",
        "    route staging, by ses",
        "        staging guard: <qa@example.com> gets it instead (not ann@*)",
        "to <ann@staging.example.com>",
        "    route staging, by ses",
        "        staging guard: let through, as ann@*",
        "to <x@test.example.com>",
        "    not staging: to: x@test.example.com is not *@staging.example.com",
        "    route caught, by keep",
        "        staging guard: captured by keep (nobody is let through)",
        "to <o@old.example.com>",
        "    not staging: to: o@old.example.com is not *@staging.example.com",
        "    not caught: to: o@old.example.com is not *@test.example.com",
        "    route refused",
        "        staging guard: refused, and its sender told (not ann@*)",
        "to <z@example.org>",
        "    not staging: to: z@example.org is not *@staging.example.com",
        "    not caught: to: z@example.org is not *@test.example.com",
        "    not refused: to: z@example.org is not *@old.example.com",
        "    not moving: to: z@example.org is not *@example.net",
        "    route rest, by postmark, then smarthost",
        "        smarthost: when the one before is paused, cannot carry it, or has deferred it for 15m",
        "        shadow: built for mailtrap, too; nothing of it is sent",
        "",
        "ses: 2 requests, nothing is lost",
        "    budget in recipients: 14/s, 50,000 daily",
        "smarthost (smtp): 1 request",
        "    lost (cosmetic): the tag 'x' is left out",
        "keep (capture): 1 request, nothing is lost",
        "postmark: 1 request, nothing is lost",
        "    by SMTP and not by the API: 6 recipients whom no field shows would have a request each",
        "sandbox (mailtrap, the shadow): 1 request, nothing is lost",
        "    budget in requests: 150/10s",
        "mailtrap (the shadow): 1 request, nothing is lost",
        "    budget in requests: 150/10s",
        "",
        NOT_ASKED,
    ] == capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("rules")
def test_the_rules_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is printed, and what is not worth a line."""
    path = file(tmp_path, b"From: root@x.example\nList-Unsubscribe: <x>\n\nhi\n")
    found = as_json(capsys, path, "--from", "app@example.com", "--to", "a@example.net", "--to", "x@test.example.com")
    first, second = found["recipients"]
    assert (None, "remove", "from") == (found["rewritten"]["reverse_path"], *found["rewritten"]["edits"][0].values())
    assert {"sticky": "recipient", "chosen": "ses", "shares": {"ses": 0.8, "mailtrap": 0.2}} == first.pop("split")
    assert "mailtrap" == second["split"]["chosen"]
    assert {
        "address": "a@example.net",
        "route": "bulk",
        "via": ["ses", "smarthost"],
        "tried": [{"route": "bulk", "against": []}],
        "order": [{"provider": "ses", "why": "split"}, {"provider": "smarthost", "why": "fallback"}],
        "ramp": None,
        "patience": 900.0,
        "priority": "low",
        "overflow": "spill",
        "guard": None,
        "shadow": None,
    } == first
    budgets = {one["name"]: one["budget"] for one in found["providers"]}
    assert {"count": "recipients", "rates": ["14/s"], "daily": 50000, "monthly": None, "asked": []} == budgets["ses"]
    assert ["150/10s"] == budgets["mailtrap"]["rates"]


@pytest.mark.usefixtures("rules")
def test_a_ramp_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it stands, and who is new."""
    found = as_json(capsys, "--header", "From: a@x.example", "--from", "<>", "--to", "a@example.net", "--to", "a@test.example.com")
    moving, caught = found["recipients"]
    assert {
        **{"from": "2020-01-01T00:00:00.000Z", "over": 14 * 86400.0, "until": "2020-01-15T00:00:00.000Z", "done": 1.0, "begun": True},
        **{"behind": 0.0, "held_until": None, "reason": "", "newcomers": ["ses"]},
    } == moving["ramp"]
    assert [{"provider": "ses", "why": "ramp"}, {"provider": "smarthost", "why": "fallback"}] == moving["order"]
    assert {"provider": "sandbox", "sends": True} == moving["shadow"]
    assert [{"provider": "keep", "why": "capture"}] == caught["order"]
    assert {"allow": [], "lets": False, "redirect": "", "capture": "keep", "refused": ""} == caught["guard"]


@pytest.mark.usefixtures("rules")
def test_who_is_logged_in(capsys: pytest.CaptureFixture[str]) -> None:
    """A user has senders of its own, and logs in where that can be done."""
    found = as_json(capsys, "--header", "A: b", "--user", "app1", "--from", "x@example.com", "--to", "a@example.net")
    assert "app1" == found["user"]
    assert [
        "nobody can log in there, app1 neither: it has no auth",
        "the reverse-path x@example.com is none of senders.users.app1: *@shop.example.com",
    ] == found["listener"]["refusals"]
    assert exits.OK == main(["explain", "--header", "A: b", "--user", "app1", "--from", "x@shop.example.com", "--to", "a@example.net"])
    assert "from <x@shop.example.com>, from client 127.0.0.1, logged in as app1" == capsys.readouterr().out.splitlines()[0]
    found = as_json(capsys, "--header", "A: b", "--user", "0f1e2d3c-aaaa-bbbb-cccc-0123456789ab", "--to", "a@example.net")
    assert users.shown("0f1e2d3c-aaaa-bbbb-cccc-0123456789ab") == found["user"] != "0f1e2d3c-aaaa-bbbb-cccc-0123456789ab"


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("shop", []),
        ("apikey", ["nobody who logs in there is known as apikey: that login is known as shop"]),
        ("app2", ["nobody who logs in there is known as app2"]),
    ],
)
def test_a_user_is_who_the_listener_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str], user: str, told: list[str]) -> None:
    """By an identity, where a login has one: the name alone is known nowhere else."""
    hashed = users.hashed("not-a-real-password", salt=b"sixteen octets..")
    write(tmp_path / "users", f"apikey:{hashed}:shop\n")
    write(tmp_path / "relay.yaml", CONFIG.replace('127.0.0.1:2525"', f'127.0.0.1:2525", auth: {tmp_path}/users'))
    found = as_json(capsys, "--header", "A: b", "--user", user, "--from", "x@example.com", "--to", "a@example.net")
    assert told == found["listener"]["refusals"]


async def test_what_only_the_daemon_knows(relay: Relay, tmp_path: Path) -> None:
    """How the providers fare; a provider that is not in force yet is new."""
    relay.served.providers = [Provider("capture", "paused", "moving away", waiting=3, by_admin=True)]
    path = file(tmp_path, MAIL)
    printed = await relay("explain", path, "--from", "app@example.com", "--to", "ann@example.net")
    assert [
        "capture: 1 request, nothing is lost",
        "    now paused; 3 wait for it: paused by an admin: moving away",
    ] == printed.out.splitlines()[-2:]
    relay.served.providers = []
    (shown,) = await relay.json("explain", path, "--from", "app@example.com", "--to", "ann@example.net")
    standing = {"state": "new", "reason": "the daemon does not know it yet: relay reload", "usage": []}
    assert (True, standing) == (shown["daemon"], shown["providers"][0]["standing"])


async def test_a_ramp_that_stepped_back(relay: Relay, tmp_path: Path) -> None:
    """Where it really stands, the daemon knows: the shares and the choice follow that, not the dates."""
    now = time.time()
    config = RULES.replace("unix:/nowhere/admin.sock", f"unix:{relay.served.unix}")
    begin = time.strftime("%Y-%m-%d", time.gmtime(now - 7 * 86400))
    write(relay.config, config.replace("from: 2020-01-01", f"from: {begin}"))
    held = now + 86400
    until = datetime.fromisoformat(f"{begin}T00:00Z").timestamp() + 24 * 86400
    relay.served.ramps = [
        Ramp("moving", {"postmark": 1.0, "ses": 0.0}, until=until, behind=10 * 86400.0, held_until=held, why="ses refused")
    ]
    given = ("explain", "--header", "A: b", "--from", "<>", "--to", "a@example.net")
    (shown,) = await relay.json(*given)
    (recipient,) = shown["recipients"]
    assert {"postmark": 1.0, "ses": 0.0} == recipient["split"]["shares"]
    assert (0.0, 10 * 86400.0, "ses refused") == tuple(recipient["ramp"][key] for key in ("done", "behind", "reason"))
    assert ["postmark", "smarthost"] == recipient["via"]
    printed = await relay(*given)
    assert "10.0 days behind its dates, rests until" in printed.out
    relay.config.write_text(relay.config.read_text().replace(f"from: {begin}", "from: 2021-01-01"))  # not reloaded yet
    (shown,) = await relay.json(*given)
    ramp = shown["recipients"][0]["ramp"]
    assert ("2021-01-15T00:00:00.000Z", 1.0, 0.0, "") == tuple(ramp[key] for key in ("until", "done", "behind", "reason"))


def test_a_daemon_that_may_not_be_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error says why; all else is told."""

    def refuse(_: door.Live) -> bool:
        raise exits.Stop(exits.PERMISSION, "you may not")

    monkeypatch.setattr(door.Live, "reachable", refuse)
    assert exits.OK == main(["explain", "--header", "A: b", "--from", "<>", "--to", "a@example.net"])
    printed = capsys.readouterr()
    assert ("relay: how the providers fare is not known: you may not\n", True) == (printed.err, "route rest" in printed.out)


KINDS = (
    "ruby-mail/multi_charset--japanese_shift_jis.eml",
    "enmime/testdata--dsn_with_multipart_alternative.eml",
    "php-mime-mail-parser/mails--m0015.eml",
    "flanker/messages--signed.eml",
    "spamscope/mails--mail_test_15.eml",
)
"""An old character set, a bounce, a newsletter, a signed mail, one with attachments."""


@pytest.mark.skipif(not CORPUS, reason="RELAY_CORPUS is not set")
@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize("name", KINDS)
def test_real_mail_on_one_screen(name: str) -> None:
    """At most 40 lines of 120 columns; with -s it is shown."""
    given = [str(Path(CORPUS or "") / name), "--from", "app@example.com", "--to", "ann@example.net", "--to", "bob@staging.example.com"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert exits.OK == main(["explain", *given])
    print(f"\n$ relay explain {name}\n{printed.getvalue()}")
    lines = printed.getvalue().splitlines()
    assert (True, True) == (len(lines) <= 40, max(map(len, lines)) <= 120)
    assert any(line.startswith("    route ") for line in lines)
