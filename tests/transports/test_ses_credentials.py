"""Keys of Amazon SES: from the configuration, and from where the AWS tools look, with the real botocore."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.errors import ConfigError
from relay.model import Verdict
from relay.transports.http import Http
from relay.transports.ses import Ses, SesSettings
from relay.transports.ses.aws import Botocore
from relay.transports.ses.credentials import Fixed, Found, NoKeys, credentials
from relay.transports.ses.sigv4 import Keys
from tests.jobs import job
from tests.servers import Act, HttpServer, Request, Response

SECRET = "canary/5ecret+0123456789ABCDEFGHIJKLMNOP"
SETTINGS = SesSettings("mail", "eu-west-1")


@pytest.fixture(autouse=True)
def nothing_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No keys of whoever runs the tests; no instance is asked."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    level = logging.getLogger("botocore").level
    yield
    assert level == logging.getLogger("botocore").level == logging.WARNING


def found(profile: str = "", seconds: float = 10.0) -> Found:
    """Keys that are looked for."""
    return Found(profile, "eu-west-1", seconds)


def temporary(number: int, minutes: float) -> Response:
    """Temporary keys as a container's or instance's service gives them."""
    until = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = {"AccessKeyId": f"AKID{number}", "SecretAccessKey": SECRET, "Token": f"token-{number}", "Expiration": until, "Code": "Success"}
    return Response(200, json.dumps(given).encode())


async def test_keys_of_the_configuration() -> None:
    """They are used as they stand, and botocore is not asked for."""
    source = credentials(dataclasses.replace(SETTINGS, access_key_id="AKIDEXAMPLE", secret_access_key=SECRET, session_token="t"))
    assert isinstance(source, Fixed)
    source.forget()
    assert (Keys("AKIDEXAMPLE", SECRET, "t"), "") == (await source.keys(), source.source)


async def test_keys_of_a_profile(tmp_path: Path) -> None:
    """The profile named; keys that were refused are read anew, because the file may have been mended."""
    file = tmp_path / "credentials"
    file.write_text(f"[relay]\naws_access_key_id = AKIDONE\naws_secret_access_key = {SECRET}\n")
    source = credentials(dataclasses.replace(SETTINGS, profile="relay"))
    assert (Keys("AKIDONE", SECRET), "profile relay") == (await source.keys(), source.source)
    file.write_text(f"[relay]\naws_access_key_id = AKIDTWO\naws_secret_access_key = {SECRET}\n")
    assert Keys("AKIDONE", SECRET) == await source.keys()
    source.forget()
    assert Keys("AKIDTWO", SECRET) == await source.keys()


async def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no profile is named the usual places are looked at in their order."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "env-token")
    assert Keys("AKIDENV", SECRET, "env-token") == await found().keys()


async def test_keys_of_a_container_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that soon expire are renewed before they do, by one look for all who ask; others are not asked for again."""
    async with HttpServer([temporary(1, 5), temporary(2, 5), temporary(3, 60)]) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/keys")
        source = found()
        assert "AKID2" == (await source.keys()).access_key_id, "the first keys were nearly over"
        again = await asyncio.gather(*(source.keys() for _ in range(10)))
        assert [Keys("AKID3", SECRET, "token-3")] * 10 == again
    assert 3 == len(server.requests)


async def test_keys_of_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The role of the host is found by the instance's metadata service."""

    def answer(request: Request) -> Response:
        if request.path.endswith("/api/token"):
            return Response(200, b"metadata-token")
        return temporary(3, 60) if request.path.endswith("/relay-role") else Response(200, b"relay-role")

    async with HttpServer(answer) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
        assert Keys("AKID3", SECRET, "token-3") == await found().keys()


def process(tmp_path: Path, command: str) -> None:
    """A profile whose keys a command gives."""
    (tmp_path / "config").write_text(f"[profile own]\ncredential_process = {command}\n")


def unknown_profile(tmp_path: Path) -> None:
    """No profile at all."""


def role_of_nobody(tmp_path: Path) -> None:
    """A role that is to be assumed with keys that are nowhere."""
    (tmp_path / "config").write_text("[profile own]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = gone\n")


@pytest.mark.parametrize(
    ("arrange", "why"),
    [
        (unknown_profile, "no AWS keys from profile own: The config profile (own) could not be found"),
        (role_of_nobody, 'no AWS keys from profile own: The source_profile "gone" referenced'),
        (lambda path: process(path, "false"), "no AWS keys from profile own: Error when retrieving credentials from custom-process"),
        (lambda path: process(path, f"echo {SECRET}"), "no AWS keys from profile own: JSONDecodeError"),
    ],
    ids=["no such profile", "a role of nobody", "a command that fails", "a command that talks"],
)
async def test_no_keys(tmp_path: Path, arrange: Callable[[Path], None], why: str) -> None:
    """Whatever fails pauses the provider, with a mend and without what was found."""
    arrange(tmp_path)
    ses = Ses(dataclasses.replace(SETTINGS, profile="own"), Http(base_url="http://127.0.0.1:1", timeout=5, concurrency=1))
    (one,) = await ses.prepare(job())
    (outcome,) = (await ses.attempt([one])).values()
    assert (Verdict.PAUSE, "4.7.8", True) == (outcome.verdict, outcome.status, outcome.own)
    assert outcome.reply.startswith(why)
    assert "aws sts get-caller-identity" in outcome.mend
    assert "canary" not in repr(outcome)


async def test_no_keys_anywhere(tmp_path: Path) -> None:
    """When keys turn up later, they are found."""
    source = found()
    with pytest.raises(NoKeys, match="no AWS keys in environment, files, container or instance"):
        await source.keys()
    (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = AKIDLATE\naws_secret_access_key = {SECRET}\n")
    assert "AKIDLATE" == (await source.keys()).access_key_id


async def test_a_service_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent source of keys does not hold up the queue."""
    async with HttpServer([Act.HANG]) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/keys")
        with pytest.raises(NoKeys, match="AWS keys: timed out; look why the places where the AWS tools look do not answer"):
            await found(seconds=0.2).keys()


async def test_a_command_that_waits_for_somebody(tmp_path: Path) -> None:
    """However often it is asked for keys meanwhile, one command runs, in a thread that the end of the process does not wait for;
    what it says in the end counts."""
    before = set(threading.enumerate())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process(tmp_path, f"cat {pipe}")
    source = Found("own", "eu-west-1", 0.2)
    for _ in range(3):
        with pytest.raises(NoKeys, match="AWS keys: timed out"):
            await source.keys()
    [thread] = set(threading.enumerate()) - before
    assert thread.daemon
    source._timeout = 10.0
    asked = [asyncio.create_task(source.keys()) for _ in range(3)]
    said = {"Version": 1, "AccessKeyId": "AKIDLATE", "SecretAccessKey": SECRET}
    await asyncio.to_thread(pipe.write_text, json.dumps(said))
    assert [Keys("AKIDLATE", SECRET)] * 3 == await asyncio.gather(*asked)


async def test_keys_that_are_refused_are_looked_for_again(tmp_path: Path) -> None:
    """The next probe after a refusal reads the profile anew."""
    file = tmp_path / "credentials"
    file.write_text(f"[own]\naws_access_key_id = AKIDOLD\naws_secret_access_key = {SECRET}\n")

    def answer(request: Request) -> Response:
        if "AKIDOLD" in request.headers["authorization"]:
            return Response(403, b'{"message":"expired"}', {"x-amzn-ErrorType": "ExpiredTokenException"})
        return Response(200, b'{"MessageId":"1"}')

    async with HttpServer(answer) as server:
        ses = Ses(dataclasses.replace(SETTINGS, profile="own"), Http(base_url=server.url, timeout=5, concurrency=1))
        (one,) = await ses.prepare(job())
        (outcome,) = (await ses.attempt([one])).values()
        assert (Verdict.PAUSE, "the keys come from profile own: look whether they are still valid there") == (outcome.verdict, outcome.mend)
        file.write_text(f"[own]\naws_access_key_id = AKIDNEW\naws_secret_access_key = {SECRET}\n")
        (outcome,) = (await ses.attempt([one])).values()
        assert Verdict.OK is outcome.verdict
        await ses.aclose()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where botocore is needed and not installed, the configuration is refused with the command that installs it."""
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(ConfigError) as caught:
        Ses(SETTINGS, Http(base_url=SETTINGS.url, timeout=5, concurrency=1))
    assert (
        "providers.mail: keys from a profile, the environment or a role need botocore: "
        f"{sys.executable} -m pip install botocore "
        "(or give access_key_id and secret_access_key)",
    ) == caught.value.problems


async def test_the_extra_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uninstalled under a running relay, the provider is paused with the same command."""
    monkeypatch.delitem(sys.modules, "relay.transports.ses.aws")
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(NoKeys) as caught:
        await found().keys()
    assert ("AWS keys: botocore is not installed", f"{sys.executable} -m pip install botocore") == (caught.value.text, caught.value.mend)


def test_nothing_is_fresh_before_it_is_loaded() -> None:
    """No keys can be had from a chain that has not looked."""
    assert not Botocore("", "eu-west-1").fresh
