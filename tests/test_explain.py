"""`relay explain`: which route takes a message, and what would become of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from relay.cli import exits, explanations, unobeyed
from relay.cli.main import main
from relay.config.kinds import Controls
from relay.edits import CONTROL_PREFIXES
from tests.commands import write
from tests.test_mime import corpus

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
        "to <ann@example.net>",
        "    not patients: from: app@example.com is not *@clinic.example.com",
        "    not newsletter: client: 127.0.0.1 is not in 10.0.0.0/8",
        "        and header: there is no list-unsubscribe",
        "    not bob: to: ann@example.net is not bob@*",
        "    route rest, by postmark",
        "to <bob@example.org>",
        "    not patients: from: app@example.com is not *@clinic.example.com",
        "    not newsletter: client: 127.0.0.1 is not in 10.0.0.0/8",
        "        and header: there is no list-unsubscribe",
        "    route bob, by keep, then postmark",
        "",
        "postmark: 1 request, nothing is lost",
        "keep (capture): 1 request, nothing is lost",
    ] == printed.out.splitlines()


def test_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object with everything; what is left out on the command line is taken from the header."""
    found = as_json(capsys, file(tmp_path))
    assert {"reverse_path", "message_size", "client", "listener", "edits", "recipients", "providers"} == set(found)
    assert [("ann@example.net", "rest"), ("bob@example.org", "bob")] == [(one["address"], one["route"]) for one in found["recipients"]]
    assert {"name": "keep", "type": "capture", "requests": 1, "losses": [], "cannot": []} in found["providers"]


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
    assert [f"    lost (cosmetic): {one}" for one in what] == lines[2:4]
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
    assert ["keep (capture): 1 request, nothing is lost", "postmark: cannot carry it", f"    {WHY}"] == lines[-3:]


def test_a_provider_that_takes_it_by_smtp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With mode: auto, and why not by its API."""
    path = file(tmp_path, b"From: app@example.com\n" + SIGNED)
    given = (path, "--from", "app@example.com", "--to", "bob@example.org")
    assert exits.OK == main(["explain", *given])
    assert [
        "postmark: 1 request, nothing is lost",
        f"    by SMTP and not by the API: {WHY}",
    ] == capsys.readouterr().out.splitlines()[-2:]
    shown = {
        "name": "postmark",
        "type": "postmark",
        "requests": 1,
        "losses": [],
        "cannot": [],
        "by_smtp": 1,
        "why": [f"by SMTP and not by the API: {WHY}"],
    }
    assert shown in as_json(capsys, *given)["providers"]


def test_header_fields_instead_of_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Enough for the routes; what providers would do is not told."""
    given = ["--header", "List-Unsubscribe: <x>", "--header", "Subject: grüße", "--client", "10.1.2.3", "--to", "a@example.net"]
    assert exits.OK == main(["explain", *given, "--from", "app@example.com"])
    lines = capsys.readouterr().out.splitlines()
    assert "from <app@example.com>, from client 10.1.2.3" == lines[0]
    assert "    route newsletter, by postmark" in lines
    assert "a header alone says neither the size nor what the providers would do; name the whole message for that" == lines[-1]


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


def test_those_who_fare_alike_are_told_of_once() -> None:
    """A few names and the number of the others; what a listener wants beside the mail."""
    recipient = {"route": "r", "via": ["a", "b"], "tried": [{"route": "r", "against": []}]}
    found = {
        "reverse_path": "\x1b",
        "message_size": 10,
        "client": "10.0.0.1",
        "listener": {
            **{"name": "l", "address": "x", "max_size": 1000, "wants": ["TLS", "a login"], "controls": [], "refusals": []},
            "losses": [],
        },
        "edits": [
            {"kind": "prepend", "text": "Received: x\r\n\tby y\r\n"},
            {"kind": "remove", "text": "from "},
            {"kind": "append", "text": "Date: x\r\n\r\n"},
        ],
        "recipients": [{**recipient, "address": f"{number}@x"} for number in range(7)],
        "providers": [{"name": "a", "type": "smtp", "requests": 2, "losses": [{"grade": "hard", "what": "x"}], "cannot": []}],
    }
    assert [
        "from <?>, 10 B, from client 10.0.0.1",
        "listener l (x): takes it (at most 1.0 kB, wants TLS and a login); obeys no control headers",
        "edits: Received, Date, the empty line below the header added; the mbox line removed",
        "",
        "to <0@x>, <1@x>, <2@x>, <3@x>, <4@x> and 2 more",
        "    route r, by a, then b",
        "",
        "a (smtp): 2 requests",
        "    lost (hard): x",
    ] == list(explanations.lines(found))
