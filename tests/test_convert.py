"""`relay convert`: what a message becomes, as JSON, as lines for people, and as commands that really send it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli import door, exits, previews
from relay.cli.main import main
from relay.cli.verbs.mail import message
from relay.fidelity import Loss
from relay.transports.base import Preview
from tests.servers import HttpServer, Request, SmtpServer, ca_file, server_tls
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
        assert f"by SMTP, because the API cannot carry it: {why}" in capsys.readouterr().out
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
    assert "postmark cannot carry the message: by API: there is no From address" in capsys.readouterr().err


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


# Commands for a shell.

needs_curl = pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs bash and curl")


async def bash(script: str, **environment: str) -> None:
    """Run a script; it must succeed and say nothing on standard error."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
    )
    _, said = await asyncio.wait_for(process.communicate(script.encode()), 30)
    assert (0, "") == (process.returncode, said.decode())


@needs_curl
async def test_the_command_sends_what_was_shown(tmp_path: Path, mail: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """bash and curl send what relay itself would, once the named variable is set."""
    async with HttpServer() as server:
        config = configuration(tmp_path, f'{{postmark: {{token: "${{env:NOT_SET}}", base_url: "{server.url}"}}}}')
        assert exits.OK == await asyncio.to_thread(main, ["convert", mail, "-c", config, "--provider", "postmark", *TO, "--curl"])
        script = capsysbinary.readouterr().out.decode()
        await bash(script, POSTMARK_TOKEN="fake token \"'$x`\\")
    [request] = server.requests
    assert ("POST", "/email", "fake token \"'$x`\\") == (request.method, request.path, request.headers["x-postmark-server-token"])
    assert "application/json" == request.headers["content-type"]
    assert 'Dear "Ann", it\'s $HOME and `ls` \\ and !x.\nEOF\n.' == json.loads(request.body)["TextBody"].rstrip("\n")
    assert script.startswith("# for ann@example.net\n# lost (cosmetic): To and Cc show only the recipients of each request\ncurl -sS ")


@needs_curl
async def test_the_command_signs_for_ses(tmp_path: Path, mail: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """curl makes the signature itself, of the same request."""
    async with HttpServer() as server:
        keys = "region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKEFAKE, secret_access_key: not-a-real-secret"
        config = configuration(tmp_path, f'{{ses: {{{keys}, base_url: "{server.url}"}}}}')
        for form in ("--curl", "--json"):
            assert exits.OK == await asyncio.to_thread(main, ["convert", mail, "-c", config, "--provider", "ses", *TO, form])
        script, _, shown = capsysbinary.readouterr().out.decode().rpartition("EOF\n")
        await bash(f"{script}EOF\n", AWS_ACCESS_KEY_ID="AKIAFAKEFAKEFAKEFAKE", AWS_SECRET_ACCESS_KEY="not-a-real-secret")
    [request] = server.requests
    assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAFAKEFAKEFAKEFAKE/")
    assert "/eu-west-1/ses/aws4_request" in request.headers["authorization"]
    assert json.loads(shown)["body"].keys() == json.loads(request.body).keys()
    assert json.loads(shown)["url"] == server.url + request.path
    assert "not-a-real-secret" not in script + shown


@needs_curl
async def test_the_command_logs_in_by_smtp(tmp_path: Path, mail: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Under TLS, with name and password from the environment."""
    async with SmtpServer(users={"app": "fake \"$x' password"}, starttls=server_tls()) as server:
        where = f'type: smtp, host: localhost, port: {server.port}, username: app, password: "${{env:NOT_SET}}"'
        config = configuration(tmp_path, f"{{smarthost: {{{where}, ca_file: {ca_file(tmp_path)}}}}}")
        assert exits.OK == await asyncio.to_thread(main, ["convert", mail, "-c", config, "--provider", "smarthost", *TO, "--curl"])
        script = capsysbinary.readouterr().out.decode()
        login = {"SMTP_USERNAME": "app", "SMTP_PASSWORD": "fake \"$x' password"}
        await bash(script, CURL_CA_BUNDLE=ca_file(tmp_path), **login)
    [received] = server.mails
    assert (True, "app", [b"<ann@example.net>"]) == (received.encrypted, received.username, received.rcpts)


async def sent(preview: Preview) -> Request:
    """The request that the command for a preview makes of a local server."""
    async with HttpServer() as server:
        await bash(previews.curl(replace(preview, url=f"{server.url}/x")))
    [request] = server.requests
    return request


@needs_curl
async def test_a_body_with_the_delimiter_in_it() -> None:
    """No body ends its here-document, and nothing in a header is special."""
    body = b'{"a":\n"EOF"}\nEOF\nEOF_\n'
    request = await sent(Preview("POST", "", {"X-It": "a 'b' \"c\" $d `e` \\f"}, body, "", ("a'b@x.example\nls",)))
    assert body + b"\n" == request.body
    assert "a 'b' \"c\" $d `e` \\f" == request.headers["x-it"]


@needs_curl
async def test_a_transaction_by_curl() -> None:
    """The message arrives octet for octet, whatever it holds, with its envelope; the null path too."""
    message = b"Subject: x\r\n\r\n.dot\r\n\xff\x00 'EOF' $x\r\nEOF\r\n"
    async with SmtpServer() as server:
        shown = Preview("SMTP", f"smtp://127.0.0.1:{server.port}", {}, message, "app@example.com", ("a'b@x.example", "c@x.example"))
        await bash(previews.curl(shown))
        await bash(previews.curl(replace(shown, reverse_path="")))
    first, second = server.mails
    assert (message, [b"<a'b@x.example>", b"<c@x.example>"]) == (first.message, first.rcpts)
    assert (b"<app@example.com>", b"<>") == (first.mail.partition(b" ")[0], second.mail.partition(b" ")[0])


@needs_curl
async def test_a_secret_in_the_address() -> None:
    """The address is then one of the options that log in; it stands there once, with a variable in place of the secret."""
    async with HttpServer() as server:
        login = ("--url", f"{server.url}/x?api_token=$API_TOKEN")
        shown = Preview("POST", f"{server.url}/x?api_token=[secret]", {}, b"{}", "", ("a@b.example",), login=login)
        await bash(previews.curl(shown), API_TOKEN="at_fake")
    assert ["/x?api_token=at_fake"] == [request.path for request in server.requests]


def test_why_a_request_leaves_as_it_is() -> None:
    """Where an API takes messages in parts or whole, parts come first."""
    shown = Preview("POST", "https://x/", {}, b"{}", "", ("a@b.example",), why="16 header fields")
    assert "as it is (raw), because it cannot be taken apart: 16 header fields" in list(previews.lines(shown))
    assert "16 header fields" == previews.as_json(shown)["why"]


def test_what_is_kept_is_not_sent(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no command for a capture."""
    assert exits.USAGE == main(["convert", mail, "--dev", "--provider", "capture", *TO, "--curl"])
    assert "capture keeps mail on this host; there is no request" in capsys.readouterr().err


@given(st.text(), st.sampled_from(["$TOKEN", "$A_1"]), st.text())
def test_nothing_but_variables_is_special_in_a_login(before: str, variable: str, after: str) -> None:
    """What stands around a variable reaches curl as it is written."""
    option = before.replace("$", "") + variable + "." + after.replace("$", "")
    quoted = previews.quoted(option)
    assert '""' == quoted[:1] + quoted[-1:]
    assert not re.search(r'(?<!\\)(?:\\\\)*["`]', quoted[1:-1])
    assert option == re.sub(r'\\([\\"`$])', r"\1", quoted[1:-1])


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
