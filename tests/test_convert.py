"""`relay convert`: what a message becomes, as JSON and as lines for people."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.cli import door, exits, previews
from relay.cli.main import main
from relay.cli.verbs.mail import message
from relay.fidelity import Loss
from relay.transports.base import Preview
from tests.test_mime import corpus

MAIL = b"""From: App <app@example.com>
To: Ann <ann@example.net>, bob@example.org
Bcc: boss@example.com
Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=
X-PM-Tag: welcome

Dear "Ann", it's $HOME and `ls` \\ and !x.
EOF
.
"""
SIGNED = b"Content-Type: multipart/signed; boundary=b\n\n--b\n\nx\n--b\n"
TO = ("--from", "app@example.com", "--to", "ann@example.net")

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


@pytest.fixture
def mail(tmp_path: Path) -> str:
    """A file with MAIL in it."""
    return file(tmp_path, MAIL)


def file(directory: Path, data: bytes) -> str:
    """A file with these octets."""
    path = directory / "mail.eml"
    path.write_bytes(data)
    return str(path)


def configuration(directory: Path, providers: str) -> str:
    """A configuration with these providers."""
    path = directory / "relay.yaml"
    path.write_text(f"hostname: relay.example.com\nproviders: {providers}\n")
    path.chmod(0o600)
    return str(path)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """The objects printed, one for each line."""
    assert exits.OK == main(["convert", *arguments, "--json"]), capsys.readouterr().err
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# JSON.


def test_a_request_as_json(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any configuration, for a type of provider: these keys are a contract."""
    [found] = as_json(capsys, mail, "--provider", "postmark", *TO)
    body = found.pop("body")
    assert {
        "method": "POST",
        "url": "https://api.postmarkapp.com/email",
        "headers": {"X-Postmark-Server-Token": "[secret]", "Accept": "application/json", "Content-Type": "application/json"},
        "recipients": ["ann@example.net"],
        "losses": [{"grade": "cosmetic", "what": "To and Cc show only the recipients of each request"}],
    } == found
    assert ("welcome", "grüße", "Ann <ann@example.net>") == (body["Tag"], body["Subject"], body["To"])
    assert "Bcc" not in body


def test_a_captured_mail_as_json(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no request is the message as it would leave, beside its envelope; the file's line ends do not matter."""
    [found] = as_json(capsys, mail, "--dev", "--provider", "capture", *TO, "--to", "<bob@example.org>")
    assert {"reverse_path": "app@example.com", "recipients": ["ann@example.net", "bob@example.org"]} == found["envelope"]
    message = base64.b64decode(found["body_base64"])
    assert message.startswith(b"Received: from ")
    assert b"Bcc" not in message
    assert b'\r\n\r\nDear "Ann"' in message


def test_a_transaction_as_json(mail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An SMTP provider has an address, an envelope and the edited message."""
    config = configuration(tmp_path, '{smarthost: {type: smtp, host: mail.example.net, username: u, password: "${cred:smarthost}"}}')
    [found] = as_json(capsys, mail, "-c", config, "--provider", "smarthost", *TO)
    assert ("SMTP", "smtp://mail.example.net:587") == (found["method"], found["url"])
    assert {"reverse_path": "app@example.com", "recipients": ["ann@example.net"]} == found["envelope"]
    assert b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n" in base64.b64decode(found["body_base64"])


@pytest.mark.parametrize("provider", ["postmark", "ses"])
def test_the_mode_may_be_another_than_the_configured_one(provider: str, mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same message by the provider's SMTP door."""
    [found] = as_json(capsys, mail, "--provider", provider, "--mode", "smtp", *TO)
    assert "SMTP" == found["method"]
    [found] = as_json(capsys, mail, "--provider", provider, "--mode", "api", *TO)
    assert "POST" == found["method"]


@pytest.mark.parametrize("provider", ["postmark", "mailtrap", "paubox"])
def test_what_the_api_cannot_carry_goes_by_smtp(provider: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With mode: auto, and every form says why; the API alone cannot carry it, and SMTP alone has no reason to tell."""
    why = "the signature of multipart/signed would break"
    path = file(tmp_path, b"From: app@example.com\nSubject: x\n" + SIGNED + b"\ny\n--b--\n")
    [found] = as_json(capsys, path, "--provider", provider, *TO)
    assert ("SMTP", why, []) == (found["method"], found["why"], found["losses"])
    for form in ([], ["--curl"]):
        assert exits.OK == main(["convert", path, "--provider", provider, *TO, *form])
        assert f"by SMTP and not by the API: {why}" in capsys.readouterr().out
    assert exits.DATA == main(["convert", path, "--provider", provider, "--mode", "api", *TO])
    assert f"cannot carry {path}: {why}" in capsys.readouterr().err
    [found] = as_json(capsys, path, "--provider", provider, "--mode", "smtp", *TO)
    assert "why" not in found


@pytest.mark.parametrize(
    ("provider", "mode", "said"),
    [
        ("lowcodeapi", "smtp", "--mode smtp: lowcodeapi is spoken to by api only"),
        ("smtp", "api", "--mode api: smtp is spoken to by smtp only"),
        ("capture", "smtp", "--mode smtp: capture is spoken to by capture only"),
    ],
)
def test_a_mode_that_there_is_not(provider: str, mode: str, said: str, mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """64 and the modes that there are."""
    assert exits.USAGE == main(["convert", mail, "--provider", provider, "--mode", mode, *TO])
    assert said in capsys.readouterr().err


def test_a_listener_that_obeys_nothing(mail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --listener every dialect is obeyed; with one, what it leaves unread is a loss, of a type without a section too."""
    config = configuration(tmp_path, '{keep: {type: capture}}\nlisten: [{name: lan, address: "10.0.0.5:25", allow: 10.0.0.0/8}]')
    [found] = as_json(capsys, mail, "-c", config, "--provider", "postmark", *TO)
    assert "welcome" == found["body"]["Tag"]
    [found] = as_json(capsys, mail, "-c", config, "--provider", "postmark", *TO, "--listener", "lan")
    assert "Tag" not in found["body"]
    what = "x-pm-tag: listener lan obeys no control headers of postmark; with controls: [postmark] it would"
    assert {"grade": "cosmetic", "what": what} == found["losses"][-1]
    assert exits.USAGE == main(["convert", mail, "-c", config, "--provider", "postmark", *TO, "--listener", "lna"])
    assert 'no listener is named "lna"; configured: lan' in capsys.readouterr().err


def test_no_secret_is_shown_and_none_is_needed(mail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that cannot be had here is no mistake, and one in the file is masked in every form."""
    forms: list[list[str]] = [[], ["--json"], ["--curl"]]
    for token in ("${env:NOT_SET_HERE}", "canary-000000"):
        config = configuration(tmp_path, f'{{postmark: {{token: "{token}"}}}}')
        for form in forms:
            assert exits.OK == main(["convert", mail, "-c", config, "--provider", "postmark", *TO, *form])
    printed = capsys.readouterr()
    assert "canary" not in printed.out + printed.err


# The envelope.


def test_the_envelope_may_be_left_out(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From, To and Cc of the header stand in, and that is said."""
    assert exits.OK == main(["convert", mail, "--provider", "postmark", "--json"])
    printed = capsys.readouterr()
    assert ["ann@example.net", "bob@example.org"] == json.loads(printed.out)["recipients"]
    assert [
        "relay: no --from: the reverse-path is <app@example.com>, by the From field",
        "relay: no --to: for ann@example.net, bob@example.org, by To and Cc",
    ] == printed.err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "app@example.com", "--to", "nobody"], "--to 'nobody': "),
        (["--from", "a b@example.com", "--to", "a@example.net"], "--from 'a b@example.com': "),
        (["--from", "a@example.com> SIZE=1", "--to", "a@example.net"], "--from 'a@example.com> SIZE=1': not one address"),
        (["--from", "a@example.com", "--to", "a@example.net, b@example.net"], "syntax; give each address by itself: --to A --to B"),
    ],
)
def test_an_address_that_is_none(arguments: list[str], said: str, mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """64 and what was given."""
    assert exits.USAGE == main(["convert", mail, "--provider", "postmark", *arguments])
    assert said in capsys.readouterr().err


def test_a_message_that_names_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """64: somebody must get it."""
    assert exits.USAGE == main(["convert", file(tmp_path, b"From: a@example.com\n\nx\n"), "--provider", "postmark"])
    assert "say who gets it: --to B" in capsys.readouterr().err


def test_the_null_path_and_other_scripts(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`<>` is a reverse-path; a domain is written with A-labels, as the listener stores it. Who is named twice gets it once."""
    given = ("--from", "<>", "--to", "a@bücher.example", "--to", "<a@bücher.example>")
    [found] = as_json(capsys, mail, "--dev", "--provider", "capture", *given)
    assert {"reverse_path": "", "recipients": ["a@xn--bcher-kva.example"]} == found["envelope"]


# What cannot be converted.


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "mail.eml is empty"),
        (b" \r\n\n", "mail.eml is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "mail.eml is no mail: it does not begin with a header field"),
        (b"hello\n", "mail.eml is no mail: it does not begin with a header field"),
        (b"Subject: no From\n\nx\n", "postmark cannot carry "),
        (b"From: a@b.example\n" + SIGNED + b"Content-Type: application/zip; name=run.exe\n\ny\n--b--\n", "by API: the signature of "),
    ],
)
def test_what_is_no_mail_or_cannot_be_carried(data: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """65 and one sentence."""
    assert exits.DATA == main(["convert", file(tmp_path, data), "--provider", "postmark", *TO])
    printed = capsys.readouterr()
    assert "" == printed.out
    assert said in printed.err
    assert 1 == len(printed.err.splitlines())


def test_a_file_that_is_too_large(mail: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody reads an endless file."""
    monkeypatch.setattr("relay.cli.verbs.mail.LARGEST", 10)
    assert exits.DATA == main(["convert", mail, "--provider", "postmark", *TO])
    assert "has more than 10 octets" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["/no/such.eml", ".", "a\0b"])
def test_a_file_that_is_not_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """66 names the file."""
    assert exits.NO_INPUT == main(["convert", name, "--provider", "postmark", *TO])
    assert f"relay: {name}: " in capsys.readouterr().err


def refusing(path: str) -> Any:
    """Path.open that may not open this one file: the system's answer, played."""
    real = Path.open

    def opens(self: Path, *arguments: Any, **more: Any) -> Any:
        if str(self) == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **more)

    return opens


def test_a_file_one_may_not_read(mail: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """77 names the file."""
    monkeypatch.setattr(Path, "open", refusing(mail))
    assert exits.PERMISSION == main(["convert", mail, "--provider", "postmark", *TO])
    assert f"relay: {mail}: Permission denied\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("postmrak", 'no provider is named "postmrak", and no type of provider; did you mean "postmark"?'),
        ("zzz", "known: mine, smtp, ses, postmark, mailtrap, paubox, lowcodeapi, capture"),
    ],
)
def test_a_provider_that_there_is_not(name: str, said: str, mail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """64 and what was perhaps meant."""
    config = configuration(tmp_path, "{mine: {type: capture}}")
    assert exits.USAGE == main(["convert", mail, "-c", config, "--provider", name, *TO])
    assert said in capsys.readouterr().err


def test_a_configuration_out_of_reach_hides_no_type(
    mail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An ordinary user may ask for a type although the system's configuration is for relay alone. One that was named, or that
    has mistakes, is not passed over."""
    config = configuration(tmp_path, "{mine: {type: capture}}")
    monkeypatch.setattr(door, "CONFIG_FILE", Path(config))
    with monkeypatch.context() as played:
        played.setattr(Path, "open", refusing(config))
        assert exits.OK == main(["convert", mail, "--provider", "postmark", *TO])
        assert exits.PERMISSION == main(["convert", mail, "--provider", "postmark", *TO, "-c", config])
    configuration(tmp_path, "{mine: {type: captrue}}")
    assert exits.CONFIG == main(["convert", mail, "--provider", "postmark", *TO])
    assert "captrue" in capsys.readouterr().err


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`-` reads it, and mistakes name it."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MAIL)))
    [found] = as_json(capsys, "-", "--provider", "postmark", *TO)
    assert "grüße" == found["body"]["Subject"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Subject: no From\n\n")))
    assert exits.DATA == main(["convert", "-", "--provider", "postmark", *TO])
    assert "postmark cannot carry the message: there is no From address" in capsys.readouterr().err


@pytest.mark.parametrize("provider", ["postmark", "ses", "mailtrap", "paubox", "lowcodeapi"])
@pytest.mark.parametrize("form", ["--json", "--curl", ""])
def test_any_mail_is_converted_or_refused(provider: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Real and broken mail: 0 and something to read, or 65 and a reason, and nothing else."""
    for path in corpus():
        code = main(["convert", str(path), "--provider", provider, *TO, *([form] if form else [])])
        printed = capsys.readouterr()
        assert code in (exits.OK, exits.DATA), (path, printed.err)
        assert (code == exits.OK, code == exits.DATA) == (bool(printed.out), bool(printed.err)), path
        if form == "--json":
            assert all(json.loads(line)["recipients"] for line in printed.out.splitlines())


async def test_a_message_from_a_file_can_be_read_in_pieces() -> None:
    """As a stored one can."""
    found = message(MAIL * 5000)
    pieces = [piece async for piece in found.chunks()]
    assert len(pieces) > 1
    assert await found.read() == b"".join(pieces)


# Lines for people.


def test_lines_for_people() -> None:
    """The request line, headers, the body with long base64 shortened, for whom, and what is lost: the grave first."""
    body = {"a": "x" * 10_000, "b": [{"c": "QUJD" * 100 + "QQ=="}], "d": "\x1b[2J\x9b1m", "e": 1, "f": "ü" * 300}
    losses = (Loss("cosmetic", "no colour"), Loss("hard", "no\x1bsignature"))
    shown = list(previews.lines(Preview("POST", "https://x/", {"A": "b"}, json.dumps(body).encode(), "", ("a@b.example",), losses)))
    assert ["POST https://x/", "A: b", "", "{"] == shown[:4]
    assert '  "a": "… 10.0 kB of base64",' in shown
    assert '      "c": "… 404 B of base64"' in shown
    assert '  "d": "\\u001b[2J?1m",' in shown
    assert ["for a@b.example", "lost (hard): no?signature", "lost (cosmetic): no colour"] == shown[-3:]


def test_a_mail_for_people() -> None:
    """Envelope and message, what is encoded shortened, nothing that moves a cursor."""
    message = b"Subject: x\r\n\r\n\x1b[2J\r\n" + base64.encodebytes(bytes(300)).replace(b"\n", b"\r\n") + b"end\r\n"
    shown = list(previews.lines(Preview("SMTP", "smtp://mx:25", {}, message, "", ("a@b.example",))))
    assert [
        "SMTP smtp://mx:25",
        "MAIL FROM:<>",
        "RCPT TO:<a@b.example>",
        "",
        "Subject: x",
        "",
        "?[2J",
        "… 405 B of base64",
        "end",
        "",
        "for a@b.example",
        "nothing is lost",
    ] == shown


def test_several_requests_stand_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hidden recipients have a request each."""
    path = file(tmp_path, b"From: a@example.com\nSubject: x\n\ntext\n")
    to = ("--from", "<>", "--to", "x@example.net", "--to", "y@example.net")
    assert exits.OK == main(["convert", path, "--provider", "postmark", *to])
    lines = capsys.readouterr().out.splitlines()
    assert 2 == lines.count("POST https://api.postmarkapp.com/email")
    assert "" == lines[lines.index("POST https://api.postmarkapp.com/email", 1) - 1]


def test_why_a_request_leaves_as_it_is() -> None:
    """Where an API takes messages in parts or whole, parts come first."""
    shown = Preview("POST", "https://x/", {}, b"{}", "", ("a@b.example",), why="16 header fields")
    assert "as it is (raw), because it cannot be taken apart: 16 header fields" in list(previews.lines(shown))
    assert "16 header fields" == previews.as_json(shown)["why"]


# What is written about it.

DOCUMENT = (Path(__file__).parent.parent / "docs" / "convert.md").read_text()
SHOWN = re.findall(r"```\n\$ ([^\n]*)\n(.*?)```", DOCUMENT, re.DOTALL)
FILES = {typed.removeprefix("cat "): text for typed, text in SHOWN if typed.startswith("cat ")}
EXAMPLES = [(typed, text) for typed, text in SHOWN if not typed.startswith("cat ")]


@pytest.mark.parametrize(("typed", "shown"), EXAMPLES, ids=lambda text: text[:60])
def test_the_examples_of_the_document(
    typed: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/convert.md shows what is really printed, but for ids and times."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    said, _, command = typed.rpartition(" | ")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said.removeprefix("echo ").encode())))
    main(shlex.split(command)[1:])
    printed = capsys.readouterr()
    err = "".join(line for line in printed.err.splitlines(keepends=True) if "no --from" not in line and "no --to" not in line)
    assert always_alike(shown) == always_alike(printed.out + err)


def always_alike(text: str) -> str:
    """The text with every queue id and time replaced."""
    text = re.sub(r"\b[0-9A-F]{14}\b", "ID", text)
    return re.sub(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME", text)
