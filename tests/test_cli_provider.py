"""`relay provider list`, `test`, `pause` and `resume`, with real servers in the providers' place."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.budgets import Usage
from relay.cli import absent, exits, providers
from relay.cli.main import main
from relay.cli.show import Paint
from relay.cli.verbs import provider
from relay.config import load
from relay.errors import SpoolError
from tests.commands import Relay, write
from tests.served import NOW, Provider, Ramp, Shadow
from tests.servers import Act, HttpServer, Request, Response, SmtpServer, ca_file, server_tls

CANARY = "canary-5ecret-0123456789"
CONFIG = """\
hostname: relay.example.com
providers:
  smarthost: {type: smtp, host: mail.example.net, username: relay, password: "${cred:smarthost}"}
  postmark: {token: "${env:NOT_SET_HERE}", limits: {concurrency: 4}}
  mock: {type: postmark, token: canary-0000, base_url: "http://127.0.0.1:9"}
  ses: {region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: canary-0000}
  keep: {type: capture, directory: /var/mail/kept}
routes:
  - {name: newsletter, match: {header: {List-Unsubscribe: "*"}}, via: [postmark, ses]}
  - {name: default, via: [smarthost, postmark]}
bounce: {via: keep}
"""

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


def objects(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """The objects printed, one for each line."""
    main(["provider", *arguments, "--json"])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# list


def test_a_list_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each way of each provider with its place, protection and limits, who uses it, and no secret; none is needed."""
    path = write(tmp_path / "relay.yaml", f"{CONFIG}admin: {{listen: unix:{tmp_path}/admin.sock}}\n")
    assert exits.OK == main(["provider", "list", "-c", path])
    printed = capsys.readouterr()
    assert [
        "provider   type      mode     state      waiting  routes",
        "smarthost  smtp      smtp     -                -  default",
        "    by SMTP mail.example.net:587 (STARTTLS required, certificate checked): 20 connections at once",
        "postmark   postmark  auto     -                -  newsletter, default",
        "    by API https://api.postmarkapp.com (TLS, certificate checked): 4 requests at once, at most 10.5 MB,"
        " batches of up to 500 messages",
        "    by SMTP smtp.postmarkapp.com:587 (STARTTLS required, certificate checked): 2 connections at once, at most 10.5 MB",
        "mock       postmark  auto     -                -  none",
        "    by API http://127.0.0.1:9 (no TLS): 10 requests at once, at most 10.5 MB, batches of up to 500 messages",
        "    no SMTP: base_url leads elsewhere, and no host says where SMTP would go",
        "ses        ses       auto     -                -  newsletter",
        "    by API https://email.eu-west-1.amazonaws.com (TLS, certificate checked): 20 requests at once, at most 41.9 MB",
        "    no SMTP: Amazon SES takes messages as they are by its API",
        "keep       capture   capture  -                -  none",
        "    keeps mail in /var/mail/kept",
    ] == printed.out.splitlines()
    assert (
        f"relay: the daemon is not running (cannot reach unix:{tmp_path}/admin.sock): how the providers fare is not known\n" == printed.err
    )
    assert "canary" not in printed.out


def test_a_list_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object for each provider; what only a daemon knows is null."""
    found = {one["name"]: one for one in objects(capsys, "list", "-c", write(tmp_path / "relay.yaml", CONFIG))}
    assert {
        "name": "mock",
        "type": "postmark",
        "mode": "auto",
        "no_smtp": "base_url leads elsewhere, and no host says where SMTP would go",
        "no_delivery": "",
        "ways": [
            {
                "by": "api",
                "urls": ["http://127.0.0.1:9"],
                "tls": "none",
                "concurrency": 10,
                "size": 10 * 1024 * 1024,
                "batch": {"max": 500, "wait": 1.0},
            }
        ],
        "on_loss": "refuse",
        "unknown_outcome": "retry",
        "routes": [],
        "bounces": False,
        "state": None,
        "reason": None,
        "mend": None,
        "waiting": None,
        "active": None,
        "since": None,
        "until": None,
        "by_admin": None,
        "suspect": None,
        "usage": None,
        "ramps": None,
        "shadows": None,
    } == found["mock"]
    assert [["api", "smtp"], ["api"], ["capture"]] == [[way["by"] for way in found[name]["ways"]] for name in ("postmark", "ses", "keep")]
    assert (True, ["newsletter", "default"]) == (found["keep"]["bounces"], found["postmark"]["routes"])


@pytest.mark.parametrize(
    ("section", "urls"),
    [
        ("mailtrap: {token: canary-0000}", ["https://send.api.mailtrap.io", "https://bulk.api.mailtrap.io"]),
        ("mailtrap: {token: canary-0000, stream: sandbox, sandbox_id: 7}", ["https://sandbox.api.mailtrap.io"]),
        ("paubox: {api_key: canary-0000, username: clinic}", ["https://api.paubox.net/v1/clinic"]),
        ("lowcodeapi: {token: at_canary-0000}", ["https://api.lowcodeapi.com/awsses"]),
        (
            "ses: {region: us-east-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: x, fips: true}",
            ["https://email-fips.us-east-1.amazonaws.com"],
        ),
    ],
)
def test_where_each_api_is(section: str, urls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every host that requests may go to; no token is part of it."""
    [found] = objects(capsys, "list", "-c", write(tmp_path / "relay.yaml", f"providers: {{{section}}}\n"))
    assert urls == found["ways"][0]["urls"]


async def test_a_list_beside_a_daemon(relay: Relay) -> None:
    """How each fares, in the daemon's words; one that a reload has not brought yet is told apart."""
    relay.served.providers = [
        Provider("ses", "paused", "401 no", "mend it", NOW - 5, NOW + 60, 214, 0),
        Provider("keep", "up", "", "", 0, 0, 0, 2),
    ]
    write(relay.config, f"{CONFIG}admin: {{listen: unix:{relay.served.unix}}}\n")
    printed = await relay("provider", "list")
    assert (exits.OK, "") == (printed.code, printed.err)
    lines = printed.out.splitlines()
    at = lines.index("ses        ses       auto     paused         214  newsletter")
    assert ["next try 2026-11-20 17:58:01", "    401 no", "    to mend it: mend it"] == [
        lines[at + 1].partition(", ")[2],
        *lines[at + 2 : at + 4],
    ]
    assert "keep       capture   capture  up               0  none" in lines
    assert "mock       postmark  auto     new              0  none" in lines
    assert "    the daemon does not know it yet: relay reload" in lines
    found = {one["name"]: one for one in await relay.json("provider", "list")}
    assert ("paused", "401 no", "mend it", 214, 0) == tuple(found["ses"][key] for key in ("state", "reason", "mend", "waiting", "active"))


async def test_a_daemon_that_may_not_be_asked(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is whole but for how they fare, and says why."""

    def refused(self: Any) -> bool:
        raise exits.Stop(exits.PERMISSION, "you may not use it")

    monkeypatch.setattr("relay.cli.door.Live.reachable", refused)
    printed = await relay("provider", "list")
    assert (exits.OK, "relay: how the providers fare is not known: you may not use it\n") == (printed.code, printed.err)


def test_a_list_without_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """66; the development set-up is one."""
    for verb in ("list", "test"):
        assert exits.NO_INPUT == main(["provider", verb])
        assert f"name one: relay provider {verb} -c FILE" in capsys.readouterr().err
    assert exits.OK == main(["provider", "list", "--dev"])
    assert "capture   capture  capture" in capsys.readouterr().out


async def test_a_list_tells_budgets_ramps_and_shadows(relay: Relay) -> None:
    """What the daemon knows of each stands below it: why it is paused, what is spent, its share, what a shadow showed."""
    relay.served.providers = [
        Provider(
            "ses", suspect="403 no", usage=[Usage("daily", 200, 50_000, None, "recipients"), Usage("learned", 90, 95, NOW, "messages")]
        ),
        Provider("keep", "paused", "moving", "x", NOW, 0.0, by_admin=True),
    ]
    relay.served.ramps = [Ramp("default", {"ses": 0.71, "postmark": 0.29}, NOW, 7200.0, NOW, "postmark refused 10 %")]
    relay.served.shadows = [Shadow("default", "keep", 5, 1, 2, 0, "687E7641C64007: no header X-A")]
    write(relay.config, f"{CONFIG}admin: {{listen: unix:{relay.served.unix}}}\n")
    lines = (await relay("provider", "list", "ses", "keep")).out.splitlines()
    assert [
        "    suspect: one message met: 403 no; one more pauses it",
        "    budget daily: 200 of 50,000 recipients",
        "    pace learned from its refusals: 95 messages in 10 s, until 2026-11-20 17:57:01",
        "    ramp of route default: ses 71 %, postmark 29 %; ends 2026-11-20 17:57:01",
        "    stepped back, 2h behind its dates, rests until 2026-11-20 17:57:01: postmark refused 10 %",
    ] == lines[2:7]
    at = next(number for number, line in enumerate(lines) if line.startswith("keep"))
    assert [
        "    paused by an admin: moving",
        "    to end it: relay provider resume keep",
        "    shadow keep of route default: 5 as they are, 1 with losses, 2 refused, 0 failed",
        "    last: 687E7641C64007: no header X-A",
    ] == lines[at + 2 : at + 6]
    found = {one["name"]: one for one in await relay.json("provider", "list")}
    assert (True, 1, 1) == (found["keep"]["by_admin"], len(found["keep"]["shadows"]), len(found["ses"]["ramps"]))


# pause and resume


async def test_a_provider_is_left_alone_until_it_is_resumed(relay: Relay) -> None:
    """Each answer names the next step; to say it twice is no error."""
    relay.served.providers = [Provider("ses"), Provider("b")]
    printed = await relay("provider", "pause", "ses", "--why", "invoice is late")
    assert (exits.OK, "") == (printed.code, printed.err)
    assert [
        "ses is paused by an admin: invoice is late; 0 recipients wait for it",
        "new mail goes to the next provider of its route, or waits where there is none",
        "to move what waits: relay queue reroute --provider ses --via NAME",
        "to end the pause: relay provider resume ses",
    ] == printed.out.splitlines()
    assert (await relay("provider", "pause", "ses")).out.startswith("ses was already paused by an admin; 0 recipients wait")
    assert "ses resumed: what waits for it goes\n" == (await relay("provider", "resume", "ses")).out
    assert "ses was not paused\n" == (await relay("provider", "resume", "ses")).out


async def test_a_pause_tells_what_is_under_way(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts are not cut off."""

    async def pause(name: str, why: str) -> None:
        relay.served.providers = [Provider("ses", "paused", why, active=2, waiting=1, by_admin=True)]

    relay.served.providers = [Provider("ses")]
    monkeypatch.setattr(relay.served, "pause", pause)
    lines = (await relay("provider", "pause", "ses")).out.splitlines()
    assert ["ses is paused by an admin; 1 recipient waits for it", "2 attempts are under way, which end as they began"] == lines[:2]


async def test_a_resumed_provider_may_be_in_trouble_again(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is told, in its own words."""

    async def resume(name: str) -> None:
        relay.served.providers = [Provider("ses", "throttled", "429 slow down")]

    relay.served.providers = [Provider("ses", "paused", "401 no")]
    monkeypatch.setattr(relay.served, "resume", resume)
    assert ["ses resumed: what waits for it goes", "    it is throttled: 429 slow down"] == (
        await relay("provider", "resume", "ses")
    ).out.splitlines()


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_a_pause_wants_a_provider_and_a_daemon(relay: Relay, verb: str) -> None:
    """A name that was typed wrong is 64 with a guess; without the daemon nothing can be done, which is 69."""
    relay.served.providers = [Provider("postmark"), Provider("ses")]
    printed = await relay("provider", verb, "postmrak")
    assert (exits.USAGE, 'relay: no provider is named "postmrak" (did you mean "postmark"?); configured: postmark, ses\n') == (
        printed.code,
        printed.err,
    )
    assert exits.USAGE == (await relay("provider", "pause", "ses", "--why", "two\nlines")).code
    await relay.served.admin.stop()
    await relay.served.store("a@example.net")
    printed = await relay("provider", verb, "ses")
    assert exits.UNAVAILABLE == printed.code
    assert "only the daemon can do that. Start it: relay serve" in printed.err


async def test_trouble_of_the_spool_is_no_wrong_name(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that cannot be kept is 75."""

    async def pause(name: str, why: str) -> None:
        raise SpoolError("disk trouble")

    relay.served.providers = [Provider("ses")]
    monkeypatch.setattr(relay.served, "pause", pause)
    printed = await relay("provider", "pause", "ses")
    assert (exits.TRY_LATER, "relay: disk trouble\n") == (printed.code, printed.err)


# test


async def run(capsys: pytest.CaptureFixture[str], path: str, *names: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and checks of `relay provider test`, beside this loop."""
    code = await asyncio.to_thread(main, ["provider", "test", *names, "-c", path, "--json"])
    printed = capsys.readouterr()
    assert CANARY not in printed.out + printed.err
    return code, [json.loads(line) for line in printed.out.splitlines()]


def brief(checks: Sequence[dict[str, Any]]) -> list[tuple[str, str, bool | None]]:
    """Whose, what, and whether it is well."""
    return [(check["provider"], check["check"], check["ok"]) for check in checks]


def smarthost(server: SmtpServer, directory: Path, password: str = CANARY, tls: str = "starttls") -> str:
    """A configuration with the server as a provider, and one that needs no network."""
    text = f'host: {server.host}, port: {server.port}, tls: {tls}, username: relay, password: "{password}", ca_file: {ca_file(directory)}'
    keep = f"keep: {{type: capture, directory: {directory}/kept}}"
    return write(
        directory / "relay.yaml", f"providers: {{one: {{type: smtp, {text}}}, {keep}}}\nroutes: [{{name: all, via: [one, keep]}}]\n"
    )


async def test_a_door_that_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each check is well, and no mail was sent."""
    async with SmtpServer(users={"relay": CANARY}, starttls=server_tls()) as server:
        code, checks = await run(capsys, smarthost(server, tmp_path))
    assert exits.OK == code
    assert {("one", "connect", True), ("one", "login", True), ("keep", "directory", True)} <= set(brief(checks))
    assert not any(line.upper().startswith(b"MAIL") for line in server.lines)
    assert not (tmp_path / "kept").exists()


async def test_a_door_with_another_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """69, and what to do about it; the others are asked all the same. One that is not asked decides nothing."""
    async with SmtpServer(users={"relay": "other"}, starttls=server_tls()) as server:
        path = smarthost(server, tmp_path)
        code, checks = await run(capsys, path)
        assert exits.UNAVAILABLE == code
        assert {("one", "connect", True), ("one", "login", False), ("keep", "directory", True)} <= set(brief(checks))
        [failed] = [check for check in checks if check["ok"] is False]
        assert ("535" in failed["text"], "username and password" in failed["mend"]) == (True, True)
        assert await asyncio.to_thread(main, ["provider", "test", "-c", path]) == exits.UNAVAILABLE
        assert "          to mend it: correct username and password" in capsys.readouterr().out
        assert (exits.OK, [("keep", "directory", True)]) == ((found := await run(capsys, path, "keep"))[0], brief(found[1]))


@pytest.mark.parametrize("quoted", [CANARY, f"{CANARY} is wrong, app {CANARY}"])
async def test_a_server_that_quotes_the_password(quoted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not shown."""
    script = {"auth": f"535 5.7.8 no such password: {quoted}"}
    async with SmtpServer(script, users={"relay": CANARY}, starttls=server_tls()) as server:
        code, checks = await run(capsys, smarthost(server, tmp_path))
    assert (exits.UNAVAILABLE, True) == (code, any("no such password" in check["text"] for check in checks))


async def test_both_ways_of_a_provider(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checks of each begin with its name; one token that both take is refused by one of them."""

    def server(request: Request) -> Response:
        good = request.headers.get("x-postmark-server-token") == CANARY
        return Response(200, b'{"ID":1,"Name":"shop","DeliveryType":"Live"}') if good else Response(401, b'{"ErrorCode":10,"Message":"no"}')

    async with HttpServer(server) as api, SmtpServer(users={CANARY: "other"}, starttls=server_tls()) as door:
        section = f'token: "{CANARY}", base_url: "{api.url}", host: {door.host}, port: {door.port}, ca_file: {ca_file(tmp_path)}'
        path = write(tmp_path / "relay.yaml", f"providers: {{postmark: {{{section}}}}}\n")
        code, checks = await run(capsys, path)
    assert exits.UNAVAILABLE == code
    assert {("postmark", "API connect", True), ("postmark", "API login", True), ("postmark", "SMTP login", False)} <= set(brief(checks))
    assert {"GET"} == {request.method for request in api.requests}


@pytest.mark.parametrize(
    ("status", "body", "code", "mend"),
    [
        (200, b"<html>welcome to nginx</html>", exits.UNAVAILABLE, "this is no answer of the API: check base_url (http://127.0.0.1:"),
        (404, b"<html>not found</html>", exits.UNAVAILABLE, "this is no answer of the API: check base_url (http://127.0.0.1:"),
        (404, b'{"message":"no Route matched"}', exits.UNAVAILABLE, "this is no answer of the API: check base_url (http://127.0.0.1:"),
        (503, b"oops", exits.TRY_LATER, "try again later: "),
        (429, b"", exits.TRY_LATER, "try again later: "),
    ],
)
async def test_something_else_in_the_providers_place(
    status: int, body: bytes, code: int, mend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page of another server is no provider that could be used, and trouble that passes is no good news: each with a mend."""
    async with HttpServer(lambda request: Response(status, body, {"Content-Type": "text/html"})) as server:
        sections = (
            ("mailtrap", f'token: "{CANARY}"'),
            ("postmark", f'token: "{CANARY}"'),
            ("paubox", f'username: clinic, api_key: "{CANARY}"'),
            ("lowcodeapi", f'token: "at_{CANARY}"'),
            ("ses", f'region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: "{CANARY}"'),
        )
        text = ", ".join(f'{name}: {{{keys}, base_url: "{server.url}"}}' for name, keys in sections)
        found = await run(capsys, write(tmp_path / "relay.yaml", f"providers: {{{text}}}\nroutes: [{{name: all, via: ses}}]\n"))
    assert code == found[0]
    logins = [check for check in found[1] if "login" in check["check"]]
    assert [(name, code == exits.UNAVAILABLE) for name, _ in sections] == [(check["provider"], check["ok"] is False) for check in logins]
    others = "the API is not at this address: check base_url"
    assert [] == [check for check in logins if not check["mend"].startswith((mend, others))]


async def test_one_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """75 when the time for all is over; what the others say is told."""
    monkeypatch.setattr(provider, "LIMIT", 0.2)
    async with SmtpServer({"greeting": Act.HANG}) as server:
        code, checks = await run(capsys, smarthost(server, tmp_path))
    assert exits.TRY_LATER == code
    assert [("one", "time", None), ("keep", "directory", True)] == brief(checks)


async def test_a_secret_that_is_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """That provider cannot be tested here, and the keys are named; with the credentials it can."""
    async with SmtpServer(users={"relay": CANARY}, starttls=server_tls()) as server:
        path = smarthost(server, tmp_path, "${cred:smarthost}")
        code, checks = await run(capsys, path)
        assert (exits.UNAVAILABLE, [("one", "secrets", False), ("keep", "directory", True)]) == (code, brief(checks))
        assert "password: a credential, which only the service has" == checks[0]["text"]
        assert "as root: CREDENTIALS_DIRECTORY=/etc/relay/credentials relay provider test" == checks[0]["mend"]
        assert [] == server.lines
        (tmp_path / "smarthost").write_text(CANARY)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        assert exits.OK == (await run(capsys, path))[0]


def test_secrets_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each reference is named, with why and the mend; nobody is asked, and a provider with its secrets is not held up."""
    text = (
        '{postmark: {token: "${env:POSTMARK_TOKEN_X}"}, paubox: {username: clinic, api_key: "${file:/no/such/paubox}"},'
        ' ses: {region: eu-west-1, access_key_id: "${env:KEY_X}", secret_access_key: "${env:SECRET_X}"},'
        f" keep: {{type: capture, directory: {tmp_path}/kept}}}}"
    )
    path = write(tmp_path / "relay.yaml", f"providers: {text}\nroutes: [{{name: all, via: [postmark, paubox, ses, keep]}}]\n")
    monkeypatch.setenv("KEY_X", "AKIAFAKEFAKEFAKE0000")
    assert exits.UNAVAILABLE == main(["provider", "test", "-c", path])
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("postmark")
    assert [
        "  FAILED  secrets    token: the environment variable POSTMARK_TOKEN_X is not set",
        "          to mend it: export POSTMARK_TOKEN_X=…",
    ] == lines[at + 1 : at + 3]
    at = lines.index("  FAILED  secrets    api_key: cannot read file (/no/such/paubox): No such file or directory")
    assert lines[at + 1].startswith("          to mend it: ")
    at = lines.index("ses")
    assert ["  FAILED  secrets    secret_access_key: the environment variable SECRET_X is not set"] == lines[at + 1 : at + 2]
    assert any(line.startswith("  ok      directory  ") for line in lines)
    assert exits.OK == main(["provider", "test", "keep", "-c", path])


async def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    """Where the reference is not found again, the provider is not asked with what stands in its place."""
    path = Path(write(tmp_path / "relay.yaml", 'providers: {postmark: {token: "${env:NOT_SET_HERE}"}}\n'))
    settings = load(path, environ={}, inside_service=False, for_sending=False)
    write(path, "providers: {postmark: {token: fake-token-0000}}\n")
    [check] = absent.secrets(settings, ["postmark"], path, {})["postmark"]
    assert ("secrets", False, "a secret cannot be had here") == (check.what, check.ok, check.text)


def test_texts_without_placeholders() -> None:
    """An address that nobody learnt is left out, and so is a colon that nothing follows; a remote's own words stay."""
    assert "api.example.com:443" == provider._tidy("api.example.com[unknown]:443")
    assert "404: not an answer of Postmark" == provider._tidy("404: not an answer of Postmark:")
    assert "550 no [unknown]: x" == provider._tidy("550 no [unknown]: x")


async def test_a_smarthost_without_a_login(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the configuration does not ask for is no open question: a dash."""
    async with SmtpServer() as server:
        text = f"providers: {{one: {{type: smtp, host: {server.host}, port: {server.port}, tls: none}}}}\n"
        path = write(tmp_path / "relay.yaml", text)
        assert exits.OK == await asyncio.to_thread(main, ["provider", "test", "-c", path])
        lines = capsys.readouterr().out.splitlines()
        _, checks = await run(capsys, path)
    assert ["  -       tls         not used: tls is none", "  -       login       none is configured"] == lines[2:4]
    assert [True, False, False, True] == [check["configured"] for check in checks]


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ('mailtrap: {token: "%s", mode: smtp, ', "token (for a sandbox username and password)"),
        ('paubox: {api_key: "%s", mode: smtp, ', "api_key"),
        (
            'ses: {region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: "%s", mode: smtp, ',
            "access_key_id, region and secret_access_key (or smtp_password)",
        ),
        ('postmark: {token: "%s", mode: smtp, ', "token (or smtp_access_key and smtp_secret_key)"),
    ],
)
async def test_a_refused_login_names_the_keys_that_there_are(
    section: str, keys: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A provider's section has no username and password."""
    async with SmtpServer({"auth": "535 5.7.8 go away"}, users={"x": "y"}, starttls=server_tls()) as server:
        where = f"host: {server.host}, port: {server.port}, ca_file: {ca_file(tmp_path)}}}"
        code, checks = await run(capsys, write(tmp_path / "relay.yaml", f"providers: {{{section % CANARY}{where}}}\n"))
    assert exits.UNAVAILABLE == code
    [failed] = [check for check in checks if check["ok"] is False]
    assert ("login", f"correct {keys} in the configuration, then: relay reload") == (failed["check"], failed["mend"])


async def test_a_door_without_starttls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A provider's section has no tls: the port decides."""
    async with SmtpServer(users={"x": "y"}) as server:
        where = f"mode: smtp, host: {server.host}, port: {server.port}"
        code, checks = await run(capsys, write(tmp_path / "relay.yaml", f'providers: {{paubox: {{api_key: "{CANARY}", {where}}}}}\n'))
    assert exits.UNAVAILABLE == code
    assert ["the server must offer STARTTLS; where it speaks TLS from the start, set port: 465"] == [
        check["mend"] for check in checks if check["ok"] is False
    ]


def test_a_list_of_those_that_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order given; one that there is not is 64."""
    path = write(tmp_path / "relay.yaml", CONFIG)
    assert ["keep", "ses"] == [one["name"] for one in objects(capsys, "list", "keep", "ses", "-c", path)]
    assert exits.USAGE == main(["provider", "list", "kep", "-c", path])
    assert 'no provider is named "kep"; did you mean "keep"?' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("postmrak", 'no provider is named "postmrak"; did you mean "postmark"?'),
        ("zzz", 'no provider is named "zzz"; configured: smarthost, postmark, mock, ses, keep'),
    ],
)
def test_a_provider_that_there_is_not(name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """64 and what was perhaps meant; nobody is asked."""
    assert exits.USAGE == main(["provider", "test", "keep", name, "-c", write(tmp_path / "relay.yaml", CONFIG)])
    printed = capsys.readouterr()
    assert ("", f"relay: {said}\n") == (printed.out, printed.err)


def test_the_example_without_an_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/operate.md shows what is really printed."""
    document = (Path(__file__).parent.parent / "docs" / "operate.md").read_text()
    [shown] = re.findall(r"```\n\$ relay provider test --dev\n(.*?)```", document, re.DOTALL)
    assert exits.OK == main(["provider", "test", "--dev"])
    assert shown.replace("/home/ann/.local/state", str(tmp_path / "state")) == capsys.readouterr().out


def test_checks_for_people() -> None:
    """Below each provider; what could not be told is a question mark, and nothing moves a cursor."""
    check = {"provider": "ses", "check": "connect", "ok": True, "configured": True, "text": "there\x1b[2J", "mend": ""}
    more = [
        {**check, "check": "account", "ok": None, "text": "not allowed to look"},
        {**check, "check": "login", "ok": None, "configured": False, "text": "none"},
        {**check, "provider": "b", "ok": False, "mend": "mend it"},
    ]
    assert [
        "ses",
        "  ok      connect  there?[2J",
        "  ?       account  not allowed to look",
        "  -       login    none",
        "b",
        "  FAILED  connect  there?[2J",
        "          to mend it: mend it",
    ] == list(providers.checks([check, *more]))
    assert [] == list(providers.checks([]))


def test_colours_of_a_list() -> None:
    """A state has its own on a terminal. That nothing is delivered is said."""
    shown: dict[str, Any] = {
        "name": "a",
        "type": "smtp",
        "mode": "smtp",
        "no_smtp": "",
        "no_delivery": "is a sandbox",
        "ways": [],
        "routes": [],
        "reason": "",
        "mend": "",
        "waiting": 0,
        "state": "paused",
        "by_admin": False,
        "suspect": "",
        "usage": [],
        "ramps": [],
        "shadows": [],
    }
    _, line, sandbox = providers.listing([shown], NOW, Paint(True))
    assert "\033[31mpaused   \033[0m" in line
    assert "    is a sandbox" == sandbox
