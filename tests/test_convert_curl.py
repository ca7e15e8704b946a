"""`relay convert --curl`: commands that really send what was shown, run here against local servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli import exits, previews
from relay.cli.main import main
from relay.transports.base import Preview
from tests.servers import HttpServer, Request, Response, SmtpServer, ca_file, server_tls
from tests.test_convert import MAIL, TO, configuration, file

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


@pytest.fixture
def mail(tmp_path: Path) -> str:
    """A file with MAIL in it."""
    return file(tmp_path, MAIL)


needs_curl = pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs bash and curl")


async def bash(script: str, **environment: str) -> None:
    """Run a script; it must succeed and say nothing on standard error."""
    assert (0, "") == (await ran(script, **environment))[::2]


async def ran(script: str, **environment: str) -> tuple[int | None, str, str]:
    """Exit code, output and standard error of a script."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
    )
    out, said = await asyncio.wait_for(process.communicate(script.encode()), 30)
    return process.returncode, out.decode(), said.decode()


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
    assert script.startswith(
        "# for ann@example.net\n# lost (cosmetic): To and Cc show only the recipients of each request\ncurl -sS --fail-with-body "
    )


@needs_curl
async def test_a_command_that_fails_says_so(tmp_path: Path, mail: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """A refusal ends it with an error, and what was said is printed; a variable that is not set is named, and nothing is sent."""
    async with HttpServer(lambda _: Response(422, b'{"ErrorCode":300,"Message":"no"}')) as server:
        config = configuration(tmp_path, f'{{postmark: {{token: fake-token-0000, base_url: "{server.url}"}}}}')
        assert exits.OK == await asyncio.to_thread(main, ["convert", mail, "-c", config, "--provider", "postmark", *TO, "--curl"])
        script = capsysbinary.readouterr().out.decode()
        code, out, said = await ran(script, POSTMARK_TOKEN="fake-token-0000")
        assert (22, '{"ErrorCode":300,"Message":"no"}', True) == (code, out, "422" in said)
        for environment in ({}, {"POSTMARK_TOKEN": ""}):
            code, out, said = await ran(script, **environment)
            assert (True, "", True) == (code != 0, out, "POSTMARK_TOKEN: " in said)
        assert 1 == len(server.requests)


@needs_curl
@pytest.mark.parametrize(
    ("section", "shown", "user", "variables"),
    [
        ("mailtrap: {token: canary-0", "api:${MAILTRAP_TOKEN:?}", "api", {"MAILTRAP_TOKEN": "fake"}),
        (
            "mailtrap: {stream: sandbox, username: u, password: canary-0",
            "${MAILTRAP_USERNAME:?}:${MAILTRAP_PASSWORD:?}",
            "u",
            {"MAILTRAP_USERNAME": "u", "MAILTRAP_PASSWORD": "fake"},
        ),
        ("paubox: {api_key: canary-0", "apikey:${PAUBOX_API_KEY:?}", "apikey", {"PAUBOX_API_KEY": "fake"}),
        ("postmark: {token: canary-0", "${POSTMARK_TOKEN:?}:${POSTMARK_TOKEN:?}", "fake", {"POSTMARK_TOKEN": "fake"}),
        (
            'postmark: {smtp_access_key: "${env:NOT_SET}", smtp_secret_key: "${env:NOT_SET}"',
            "${POSTMARK_SMTP_ACCESS_KEY:?}:${POSTMARK_SMTP_SECRET_KEY:?}",
            "k",
            {"POSTMARK_SMTP_ACCESS_KEY": "k", "POSTMARK_SMTP_SECRET_KEY": "fake"},
        ),
        (
            "ses: {region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: canary-0",
            "${AWS_ACCESS_KEY_ID:?}:${SES_SMTP_PASSWORD:?}",
            "AKIAFAKEFAKEFAKE0000",
            {"AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKE0000", "SES_SMTP_PASSWORD": "fake"},
        ),
    ],
)
async def test_the_command_logs_in_at_a_providers_door(
    section: str,
    shown: str,
    user: str,
    variables: dict[str, str],
    tmp_path: Path,
    mail: str,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """A name that is the same for everybody is printed, a secret is a variable called after it; ca_file is what curl trusts."""
    trusted = tmp_path / "a '$dir"
    trusted.mkdir()
    async with SmtpServer(users={user: "fake"}, starttls=server_tls()) as server:
        where = f'mode: smtp, host: localhost, port: {server.port}, ca_file: "{ca_file(trusted)}"'
        config = configuration(tmp_path, f"{{{section}, {where}}}}}")
        provider = section.partition(":")[0]
        assert exits.OK == await asyncio.to_thread(main, ["convert", mail, "-c", config, "--provider", provider, *TO, "--curl"])
        script = capsysbinary.readouterr().out.decode()
        assert f'--user "{shown}"' in script
        await bash(script, **variables)
    assert [(True, user)] == [(received.encrypted, received.username) for received in server.mails]
    assert "canary" not in script


@needs_curl
async def test_a_session_token_is_needed_only_by_temporary_keys() -> None:
    """Without one the field is left out; keys that relay finds by itself may be either."""
    async with HttpServer() as server:
        login = ("-H", "X-Amz-Security-Token: $AWS_SESSION_TOKEN")
        shown = Preview("POST", f"{server.url}/x", {}, b"{}", "", ("a@b.example",), login=login)
        await bash(previews.curl(shown))
        await bash(previews.curl(shown), AWS_SESSION_TOKEN="fake-session")
    assert [None, "fake-session"] == [request.headers.get("x-amz-security-token") for request in server.requests]


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
    """Under TLS, by the certificates that the configuration trusts, with name and password from the environment."""
    async with SmtpServer(users={"app": "fake \"$x' password"}, starttls=server_tls()) as server:
        where = f'type: smtp, host: localhost, port: {server.port}, username: app, password: "${{env:NOT_SET}}"'
        config = configuration(tmp_path, f"{{smarthost: {{{where}, ca_file: {ca_file(tmp_path)}}}}}")
        assert exits.OK == await asyncio.to_thread(main, ["convert", mail, "-c", config, "--provider", "smarthost", *TO, "--curl"])
        script = capsysbinary.readouterr().out.decode()
        login = {"SMTP_USERNAME": "app", "SMTP_PASSWORD": "fake \"$x' password"}
        await bash(script, **login)
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
    needed = f"${{{variable[1:]}:?}}"
    assert 1 == quoted.count(needed)
    assert option == re.sub(r'\\([\\"`$])', r"\1", quoted[1:-1].replace(needed, variable))
