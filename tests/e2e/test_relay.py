"""The whole: `python -m relay` as processes, an app in front, a provider behind."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import smtplib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.processes import DEADLINE, Host, host, send
from tests.servers import Act, Answer, HttpServer, Request, Response, SmtpServer, Trickle, ca_file, server_tls

pytestmark = pytest.mark.e2e

MAIL = (
    b"From: app@example.com\r\nTo: a@example.net\r\nBcc: b@example.net\r\nSubject: hello\r\nDate: Fri, 20 Nov 2026 17:57:01 +0000\r\n"
    b"Message-ID: <one@web1>\r\n\r\nThe text.\r\n..two dots\r\n"
)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with an empty directory."""
    async with host(tmp_path) as result:
        yield result


class Answers:
    """A script's answer that tells when it was asked for."""

    def __init__(self, answer: Answer) -> None:
        self.asked = asyncio.Event()
        self._answer = answer

    def __call__(self, line: bytes) -> Answer:
        self.asked.set()
        return self._answer


def smarthost(server: SmtpServer) -> str:
    """A provider section for a server without TLS on this host."""
    return f"{{smarthost: {{type: smtp, host: 127.0.0.1, port: {server.port}, tls: none}}}}"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as trial:
        return int(trial.getsockname()[1])


def hand_in(port: int, count: int) -> None:
    """So many messages over one connection."""
    with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
        for _ in range(count):
            client.sendmail("app@example.com", ["a@example.net"], MAIL)


async def test_mail_is_captured_and_seen(here: Host) -> None:
    """In by SMTP, kept by capture, told by `relay log`, shown by `relay queue show --raw` byte for byte."""
    here.configure("{capture: {}}")
    daemon = await here.serve()
    await send(await daemon.port(), MAIL, ["a@example.net", "b@example.net"])
    queue_id = (await daemon.line(r"(\w{14}): removed"))[1]
    story = (await here.relay("log", "one@web1")).text
    assert story.startswith(f"{queue_id}  accepted ")
    assert ["  to <a@example.net>: relayed", "  to <b@example.net>: relayed"] == [line for line in story.splitlines() if "  to <" in line]
    assert MAIL == (await here.relay("queue", "show", queue_id[:10], "--raw")).out
    kept = (here.capture / f"{queue_id}.eml").read_bytes()
    assert kept.startswith(b"Received: from ")
    assert b"Bcc" not in kept
    assert kept.endswith(MAIL.partition(b"\r\n\r\n")[2])
    assert 0 == await daemon.end()


async def test_mail_goes_out_by_smtp_with_tls_and_a_login(here: Host, tmp_path: Path) -> None:
    """Each recipient once, over STARTTLS, with the configured account."""
    async with SmtpServer(users={"relay": "not-a-real-password"}, starttls=server_tls()) as server:
        login = f'username: relay, password: "not-a-real-password", ca_file: "{ca_file(tmp_path)}"'
        here.configure(f"{{smarthost: {{type: smtp, host: localhost, port: {server.port}, {login}}}}}")
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, ["a@example.net", "b@example.net"])
        await daemon.line("removed")
        [mail] = server.mails
        assert (True, "relay", [b"<a@example.net>", b"<b@example.net>"]) == (mail.encrypted, mail.username, mail.rcpts)
        assert mail.message.endswith(MAIL.partition(b"\r\n\r\n")[2])
        assert not [line for line in daemon.lines if "not-a-real-password" in line]


async def test_mail_goes_out_by_a_rest_api(here: Host) -> None:
    """The provider gets JSON with the configured token, and its message id is found by `relay log`."""

    def answer(request: Request) -> Response:
        return Response(200, json.dumps({"ErrorCode": 0, "Message": "OK", "MessageID": "b7bc2f4a-fake", "To": "a@example.net"}).encode())

    async with HttpServer(answer) as server:
        here.configure(f'{{postmark: {{token: "fake-server-token", base_url: "{server.url}"}}}}')
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, ["a@example.net"])
        await daemon.line("removed")
        [request] = server.requests
        assert ("/email", "fake-server-token") == (request.path, request.headers["x-postmark-server-token"])
        assert "hello" == json.loads(request.body)["Subject"]
        assert "remote id b7bc2f4a-fake" in (await here.relay("log", "b7bc2f4a-fake")).text
        assert not [line for line in daemon.lines if "fake-server-token" in line]


async def test_the_queue_by_hand(here: Host) -> None:
    """A deferred message is listed with its reason, retried, deleted; every command against the running daemon."""
    async with SmtpServer({"rcpt": "450 4.2.0 mailbox busy"}) as server:
        here.configure(smarthost(server))
        daemon = await here.serve()
        port = await daemon.port()
        await send(port, MAIL, ["a@example.net"])
        await daemon.line("status=deferred")
        [entry] = (await here.relay("queue", "list", "--json", "--state", "deferred")).objects
        [recipient] = entry["recipients"]
        assert ("deferred", "queued", "smarthost", 1, False) == (
            entry["queue_name"],
            recipient["state"],
            recipient["provider"],
            recipient["attempts"],
            recipient["maybe_relayed"],
        )
        assert "450 4.2.0 mailbox busy" in recipient["delay_reason"]
        [status] = (await here.relay("status", "--json")).objects
        assert (True, 1) == (status["accepting"], status["queue"]["entries"])
        server.script.clear()
        printed = await here.relay("queue", "retry", entry["queue_id"])
        assert (0, "1 recipient due now\n") == (printed.code, printed.text)
        await daemon.line(f"{entry['queue_id']}: removed")
        server.script["rcpt"] = "450 4.2.0 mailbox busy"
        await send(port, MAIL, ["z@example.net"])
        await daemon.line("to=<z@example.net>.*status=deferred")
        printed = await here.relay("queue", "delete", "--to", "z@*", "--yes")
        assert (0, "1 recipient deleted\n") == (printed.code, printed.text)
        assert "nothing in the queue\n" == (await here.relay("queue")).text
        assert 64 == (await here.relay("queue", "delete")).code


async def test_a_test_message_is_waited_for(here: Host) -> None:
    """`relay test TO --wait` prints accepted and sent; with a refusal it ends with 69."""
    async with SmtpServer() as server:
        here.configure(smarthost(server))
        daemon = await here.serve()
        await daemon.port()
        printed = await here.relay("test", "me@example.net", "--wait")
        assert 0 == printed.code
        assert ["accepted", "sent"] == [line.split()[0] for line in printed.text.splitlines()]
        server.script["rcpt"] = "550 5.1.1 unknown"
        printed = await here.relay("test", "me@example.net", "--wait", "--via", "smarthost")
        assert 69 == printed.code
        assert "550 5.1.1 unknown" in printed.text


async def test_a_stop_lets_the_attempt_under_way_end(here: Host) -> None:
    """SIGTERM in the middle of the provider's answer: the answer is recorded, the exit code is 0."""
    answers = Answers(Trickle(b"250 2.0.0 taken at last\r\n", 0.02))
    async with SmtpServer({"dot": answers}) as server:
        here.configure(smarthost(server))
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, ["a@example.net"])
        await answers.asked.wait()
        assert 0 == await daemon.end()
        assert [line for line in daemon.lines if "status=sent (250 2.0.0 taken at last" in line]
        assert "stopped: " in daemon.lines[-1]
        assert "  to <a@example.net>: relayed" in (await here.relay("log", "one@web1")).text.splitlines()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGHUP, "reloaded: nothing changed"),
        (signal.SIGUSR1, "SIGUSR1: this signal means nothing to relay"),
        (signal.SIGUSR2, "SIGUSR2: this signal means nothing to relay"),
    ],
)
async def test_a_signal_for_something_else_gets_a_line_and_no_more(here: Host, number: signal.Signals, said: str) -> None:
    """The daemon goes on: mail comes in afterwards as before."""
    here.configure("{capture: {}}")
    daemon = await here.serve()
    port = await daemon.port()
    daemon.process.send_signal(number)
    await daemon.line(said)
    await send(port, MAIL, ["a@example.net"])
    await daemon.line("removed")
    assert 0 == await daemon.end()
    assert 1 == sum(said in line for line in daemon.lines)


async def test_without_standard_streams_it_serves(here: Host) -> None:
    """All three closed: the log goes nowhere, mail goes through, and none of its files gets their numbers."""
    here.configure("{capture: {}}", port=(port := free_port()))
    line = f"exec {shlex.quote(sys.executable)} -m relay serve -c {shlex.quote(str(here.config))} <&- >&- 2>&-"
    process = await asyncio.create_subprocess_shell(line)
    try:
        while not json.loads((await here.relay("status", "--json")).out or "{}").get("running"):
            assert process.returncode is None
        assert {"/dev/null"} == {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)}
        await send(port, MAIL, ["a@example.net"])
    finally:
        process.terminate()
        assert 0 == await process.wait()
    assert "  to <a@example.net>: " in (await here.relay("log", "one@web1")).text


async def test_a_log_that_nobody_reads_stops_no_mail(here: Host) -> None:
    """More lines than a pipe takes, and nobody reads: every message is accepted all the same, and the daemon can be stopped."""
    here.configure("{capture: {}}", port=(port := free_port()))
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb") as writer:
        arguments = (sys.executable, "-m", "relay", "serve", "-c", str(here.config))
        process = await asyncio.create_subprocess_exec(*arguments, stdout=writer, stderr=writer)
        try:
            while b"ready: " not in await asyncio.to_thread(reader.readline):
                assert process.returncode is None
            await asyncio.to_thread(hand_in, port, 400)
        finally:
            process.terminate()
            assert 0 == await process.wait()


async def test_what_was_accepted_survives_kill_9(here: Host) -> None:
    """Mail that waits for a provider is there after a kill, and goes out when both are back."""
    async with SmtpServer({"greeting": "421 4.3.2 closed"}) as server:
        here.configure(smarthost(server))
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, ["a@example.net"])
        await daemon.line("status=deferred")
        assert -signal.SIGKILL == await daemon.end(signal.SIGKILL)
        server.script.clear()
        daemon = await here.serve()
        await daemon.line("status=sent")
        assert [[b"<a@example.net>"]] == [mail.rcpts for mail in server.mails]


async def test_the_spool_of_a_stopped_daemon_can_be_read(here: Host) -> None:
    """The same answers without the daemon; what changes something needs it."""
    async with SmtpServer({"rcpt": "450 4.2.0 busy"}) as server:
        here.configure(smarthost(server))
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, ["a@example.net"])
        await daemon.line("status=deferred")
        alive = (await here.relay("queue", "list", "--json")).objects
        await daemon.end()
        printed = await here.relay("queue", "list", "--json")
        assert (0, alive) == (printed.code, printed.objects)
        assert "the daemon is not running" in printed.err
        assert MAIL == (await here.relay("queue", "show", alive[0]["queue_id"], "--raw")).out
        printed = await here.relay("queue", "retry")
        assert (69, b"") == (printed.code, printed.out)


async def test_the_first_run_says_how_to_go_on(here: Host) -> None:
    """`serve --dev`: where things are, `ready`, a mail to send and the command to see it; both work as printed."""
    for port in (1025, 8025):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port} is in use on this host: `serve --dev` was NOT tested")
    directory = here.directory / "dev"
    daemon = await here.serve("--dev", "--directory", str(directory))
    await daemon.line("^see it: ")
    lines = [line for line in daemon.lines if "relay/" not in line]
    assert "dev: SMTP 127.0.0.1:1025, admin http://127.0.0.1:8025, everything is captured in" in lines[0]
    assert "ready" == lines[1]
    await here.python(lines[2].partition(":")[2])
    await daemon.line("removed")
    printed = await here.python(lines[3].partition(":")[2])
    assert "  to <you@example.com>: relayed" in printed.text.splitlines()
    assert 0o700 == directory.stat().st_mode & 0o777


# What an admin gets wrong.


async def test_a_wrong_configuration_is_told_in_full(here: Host) -> None:
    """78, every mistake with a caret, no traceback."""
    here.config.write_text("providers:\n  smarthost: {type: smpt}\nlog: {levle: info}\n")
    here.config.chmod(0o600)
    daemon = await here.serve()
    assert 78 == await daemon.wait()
    assert 2 == sum("^" in line for line in daemon.lines)
    assert not [line for line in daemon.lines if "Traceback" in line]


async def test_a_taken_port_names_its_holder(here: Host) -> None:
    """69, with the pid that has it; nothing is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        here.configure("{capture: {}}", port=port)
        daemon = await here.serve()
        assert 69 == await daemon.wait()
    assert f"relay: cannot listen on 127.0.0.1:{port}: pid " in daemon.lines[-1]
    assert not (here.directory / "admin.sock").exists()


async def test_a_second_daemon_on_the_spool_is_refused(here: Host) -> None:
    """69, with the pid of the first one, which goes on."""
    here.configure("{capture: {}}")
    first = await here.serve()
    port = await first.port()
    second = await here.serve()
    assert 69 == await second.wait()
    assert str(first.process.pid) in second.lines[-1]
    await send(port, MAIL, ["a@example.net"])
    await first.line("removed")


async def test_a_second_signal_ends_at_once(here: Host) -> None:
    """A provider that never answers does not keep an impatient admin waiting; the mail stays in the spool."""
    answers = Answers(Act.HANG)
    async with SmtpServer({"dot": answers}) as server:
        here.configure(smarthost(server))
        daemon = await here.serve()
        await send(await daemon.port(), MAIL, ["a@example.net"])
        await answers.asked.wait()
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.line("stopping: ")
        assert 130 == await daemon.end(signal.SIGINT)
        assert 1 == len((await here.relay("queue", "list", "--json")).objects)
