"""The door to HTTP against real local servers: how far a request came, and what never happens."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from relay.transports import net
from relay.transports.bodies import Body
from relay.transports.http import MAX_ANSWER, Answer, Http, HttpTrouble
from tests.servers import Act, HttpServer, Response, SmtpServer, Trickle, ca_file, server_tls

TOKEN = "canary-0123456789"


def door(base_url: str, *, timeout: float = 5.0, concurrency: int = 2, ca: str | None = None) -> Http:
    """A door with short deadlines."""
    return Http(base_url=base_url, timeout=timeout, concurrency=concurrency, ca_file=ca)


async def post(http: Http, body: bytes = b"{}") -> Answer:
    """One POST with a token in its headers; the door is closed afterwards."""
    try:
        return await http.post("/email", {"X-Token": TOKEN, "Content-Type": "application/json"}, body)
    finally:
        await http.aclose()


async def trouble(http: Http, body: bytes = b"{}") -> HttpTrouble:
    """The trouble that one POST ends in."""
    with pytest.raises(HttpTrouble) as caught:
        await post(http, body)
    assert TOKEN not in f"{caught.value} {caught.value.text} {caught.value.remote}"
    return caught.value


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3_000_000])
async def test_complete_answer(size: int) -> None:
    """A body of any size arrives octet for octet with its length, and the whole answer comes back."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with HttpServer([Response(422, b'{"ErrorCode":406}', {"Retry-After": "7"})]) as server:
        answer = await post(door(server.url + "/v1/"), body)
    request = server.requests[0]
    assert ("POST", "/v1/email", body) == (request.method, request.path, request.body)
    assert (TOKEN, "identity", str(size)) == tuple(request.headers[name] for name in ("x-token", "accept-encoding", "content-length"))
    assert "transfer-encoding" not in request.headers
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (422, b'{"ErrorCode":406}', "7")
    assert f"127.0.0.1[127.0.0.1]:{server.port}" == answer.remote
    assert answer.connect_s >= 0
    assert answer.send_s > 0


@pytest.mark.parametrize("parts", [(), (b"",), (b"", b"ab", b"", b"c"), (b"x" * 100_000, b"y", b"z" * 64 * 1024)])
async def test_a_body_in_parts(parts: tuple[bytes, ...]) -> None:
    """Parts arrive one after the other, with the length of the whole; empty ones leave no trace."""
    async with HttpServer() as server:
        http = door(server.url)
        await http.post("/", {}, Body(parts))
        await http.aclose()
    (request,) = server.requests
    assert (b"".join(parts), str(sum(map(len, parts)))) == (request.body, request.headers["content-length"])


async def test_a_get_has_no_body() -> None:
    """A question leaves without a body and without a length, its query as it was given."""
    async with HttpServer() as server:
        http = door(server.url)
        await http.get("/receipt?id=1", {"Accept": "application/json"})
        await http.aclose()
    (request,) = server.requests
    assert ("GET", "/receipt?id=1", b"") == (request.method, request.path, request.body)
    assert "content-length" not in request.headers


async def test_what_a_signature_covers_is_what_is_sent() -> None:
    """Host field and path of a request are told before it is sent; the usual port is no part of the host."""
    async with HttpServer() as server:
        http = door(f"{server.url}/v1/")
        assert (f"127.0.0.1:{server.port}", "/v1/mail") == http.target("/mail")
        await http.post("/mail", {}, b"x")
        await http.aclose()
    assert http.target("/mail") == (server.requests[0].headers["host"], server.requests[0].path)
    assert ("mail.example.com", "/mail") == door("https://Mail.Example.com:443").target("/mail")
    assert ("[::1]:8080", "/a%20b/mail") == door("http://[::1]:8080/a b").target("/mail")


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Fri, 20 Nov 2026 12:00:00 GMT", 1_795_176_000.0),
        ("Fri, 20 Nov 2026 12:00:00 -0000", None),
        ("Fri, 20 Nov 2026 12:00:00 +99999999999999", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_date_of_an_answer(date: str, expected: float | None) -> None:
    """In Unix seconds, or nothing where it has none that can be read."""
    assert expected == Answer(200, {"date": date}, b"", "x", 0.0, 0.0).date()


async def test_connections_are_reused() -> None:
    """Requests one after the other use one connection; more at once use no more than `concurrency`."""
    async with HttpServer() as server:
        http = door(server.url)
        for _ in range(3):
            await http.post("/", {}, b"x")
        assert server.connections == 1
        await asyncio.gather(*(http.post("/", {}, b"x") for _ in range(10)))
        await http.aclose()
    assert server.connections == 2
    assert len(server.requests) == 13


async def test_stale_connection_is_replaced() -> None:
    """A kept connection that the server closed meanwhile is not used again."""
    async with HttpServer() as server:
        http = door(server.url)
        await http.post("/", {}, b"x")
        for task in list(server._tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        assert (await http.post("/", {}, b"x")).status == 200
        await http.aclose()
    assert server.connections == 2


async def test_tls_is_verified(tmp_path: Path) -> None:
    """Over TLS the certificate must come from a trusted authority and carry the host's name."""
    trusted = ca_file(tmp_path)
    async with HttpServer(tls=server_tls()) as server:
        assert (await post(door(server.url, ca=trusted))).status == 200
        unknown = await trouble(door(server.url))
    async with HttpServer(tls=server_tls("other.example")) as server:
        wrong = await trouble(door(server.url, ca=trusted))
    assert [unknown.stage, wrong.stage] == ["tls", "tls"]
    assert unknown.text.startswith("cannot connect: certificate not accepted: unable to get local issuer certificate")
    assert wrong.text.startswith("cannot connect: certificate not accepted: IP address mismatch")


async def test_ca_file_missing(tmp_path: Path) -> None:
    """A ca_file that cannot be read is trouble before anything is sent, in plain words."""
    found = await trouble(door("https://127.0.0.1:1", ca=str(tmp_path / "none.pem")))
    assert (found.stage, found.text) == ("tls", "cannot use ca_file: No such file or directory")


async def test_not_tls() -> None:
    """A server that does not speak TLS at all is trouble at `tls`."""
    async with SmtpServer() as server:
        found = await trouble(door(f"https://127.0.0.1:{server.port}"))
    assert (found.stage, found.text) == ("tls", "cannot connect: TLS failed: wrong version number")


async def test_refused() -> None:
    """A refused connection is trouble at `connect` and names the cause."""
    async with HttpServer() as server:
        pass
    found = await trouble(door(server.url))
    assert (found.stage, found.text) == ("connect", "cannot connect: Connection refused")
    assert f"127.0.0.1[unknown]:{server.port}" == found.remote


@pytest.mark.parametrize(
    "act", [Act.CUT, Act.RESET, Act.HANG, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", b"nonsense\r\n\r\n", b"HTTP/1.1 2"]
)
async def test_after_the_body_nobody_knows(act: Act | bytes) -> None:
    """Cut, silence, half an answer or garbage after the whole body was sent is trouble at `answer`."""
    async with HttpServer([act]) as server:
        found = await trouble(door(server.url, timeout=0.3))
    assert found.stage == "answer"
    assert found.text.startswith("no complete answer after the request was sent: ")


@pytest.mark.parametrize(
    ("act", "body"),
    [
        (b"HTTP/1.1 401 X\r\nContent-Length: 99\r\n\r\n{", b"(incomplete: cut, or not HTTP)"),
        (
            b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nX-Code: Bad\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
            b"(incomplete: cut, or not HTTP)",
        ),
        (Trickle(b"HTTP/1.1 404 X\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999, 0.001), b"(incomplete: timed out)"),
        (Response(413, b"y" * (MAX_ANSWER + 1)), f"(incomplete: answer larger than {MAX_ANSWER} octets)".encode()),
    ],
    ids=["cut", "cut in a chunk", "slow", "large"],
)
async def test_a_refusal_that_is_not_complete(act: Act | bytes | Response | Trickle, body: bytes) -> None:
    """A status line that refuses is an answer: nobody took the message. Of the rest only header fields that blame nobody
    are kept, and the connection is not used again."""
    async with HttpServer([act, Response(200, b"{}")]) as server:
        http = door(server.url, timeout=0.5)
        answer = await http.post("/", {}, b"x")
        assert (200, 2) == ((await http.post("/", {}, b"x")).status, server.connections)
        await http.aclose()
    assert body == answer.body
    assert answer.status // 100 == 4
    assert {"retry-after"} >= answer.headers.keys() - {"content-type", "date"}
    assert (7.0 if answer.status == 429 else None) == answer.retry_after()


async def test_who_answered() -> None:
    """The address is known once somebody answered, also where the connection is gone."""
    async with HttpServer([b"HTTP/1.1 401 X\r\nContent-Length: 99\r\n\r\n{"]) as server:
        http = door(server.url)
        assert f"127.0.0.1[unknown]:{server.port}" == http.peer
        await http.get("/", {})
        assert f"127.0.0.1[127.0.0.1]:{server.port}" == http.peer
        await http.aclose()


async def test_cut_before_the_body_ended() -> None:
    """A connection cut while the body still leaves is trouble at `send`: surely not taken."""
    async with HttpServer([Act.EARLY]) as server:
        found = await trouble(door(server.url), b"x" * 30_000_000)
    assert found.stage == "send"
    assert found.text.startswith("connection failed before the request was sent: ")


async def test_total_deadline() -> None:
    """An answer that trickles in is cut at the total deadline, however often an octet comes."""
    async with HttpServer([Trickle(Response(200, b"x" * 1000).encode(), 0.01)]) as server:
        found = await trouble(door(server.url, timeout=0.3))
    assert (found.stage, found.text) == ("answer", "no complete answer after the request was sent: timed out")


async def test_answer_is_capped() -> None:
    """A huge answer is not read to its end."""
    async with HttpServer([Response(200, b"x" * (MAX_ANSWER + 100_000))]) as server:
        found = await trouble(door(server.url))
    assert ("answer", f"answer larger than {MAX_ANSWER} octets") == (found.stage, found.text)


async def test_no_redirect_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirects are answers like any other, and a proxy in the environment is not used."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with HttpServer([Response(302, b"", {"Location": "http://127.0.0.1:1/"})]) as server:
        assert (await post(door(server.url))).status == 302
    assert len(server.requests) == 1


async def test_encoding_is_left_alone() -> None:
    """An answer that is compressed although nobody asked comes back as it is: no bomb goes off here."""
    async with HttpServer([Response(200, b"\x1f\x8b not really", {"Content-Encoding": "gzip"})]) as server:
        assert (await post(door(server.url))).body == b"\x1f\x8b not really"


async def test_bad_header_value_is_not_quoted() -> None:
    """A token with a line end is refused before anything is sent, and its text stays out of the exception."""
    async with HttpServer() as server:
        with pytest.raises(HttpTrouble) as caught:
            await door(server.url).post("/", {"X-Token": TOKEN + "\n"}, b"")
    assert caught.value.stage == "send"
    assert TOKEN not in str(caught.value)
    assert server.connections == 0


async def test_nothing_secret_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Not even the libraries' own loggers at DEBUG get to see a token or a query."""
    for library in ("", "httpx", "httpcore", "asyncio"):
        caplog.set_level(logging.DEBUG, library)
    async with HttpServer() as server:
        http = door(server.url)
        await http.post("/send?api_token=" + TOKEN, {"X-Token": TOKEN}, b"{}")
        await http.aclose()
    assert caplog.records != []
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("url", ["http://mail.example.com", "ftp://127.0.0.1", "http://10.0.0.1", "file:///etc"])
def test_base_url_must_be_safe(url: str) -> None:
    """Only https, or http on loopback, is spoken."""
    with pytest.raises(ValueError, match="https"):
        door(url)


@pytest.mark.parametrize("url", ["https://api.example.com", "http://localhost:1", "http://127.0.0.9:1", "http://[::1]:1"])
def test_base_url_accepted(url: str) -> None:
    """https anywhere and http on loopback are fine."""
    assert door(url).remote.partition("[")[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\r\nlines\n\there", "two lines here"),
        ("esc\x1b[31m nul\x00 bidi\u202e end\u2028", "esc [31m nul bidi end"),
        ("x" * 2000, "x" * (net.MAX_REPLY - 1) + "…"),
        ("surrogate\udcff", "surrogate"),
    ],
)
def test_one_line(text: str, line: str) -> None:
    """A remote's text becomes one printable line of bounded length."""
    assert line == net.one_line(text)


def test_environment_does_not_change_trust(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SSL_CERT_FILE and SSLKEYLOGFILE in the environment change neither roots nor secrecy."""
    monkeypatch.setenv("SSL_CERT_FILE", ca_file(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    net.tls_context.cache_clear()
    context = net.tls_context()
    assert not any("trustme" in str(cert) for cert in context.get_ca_certs())
    assert context.keylog_filename is None
    assert context.minimum_version.name == "TLSv1_2"
