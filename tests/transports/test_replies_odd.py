"""Answers that are in no document, from every API and every SMTP door: what they lead to, through delivery.

The rule behind every line: what cannot be classified is tried later; it is unknown only where the message may have been taken; what
is wrong with the login, the account or the way there pauses the provider and bounces nobody.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from relay.model import Verdict
from relay.transports.base import Batching
from tests.follows import APIS, TAKEN, Case, api, follow
from tests.jobs import job
from tests.servers import Act, HttpAnswer, HttpServer, Response, Trickle
from tests.test_delivery import Stage

HTML = b"<html><title>Please log in</title></html>"
LARGE = (b"z" * 70 + b"\r\n") * 60_000  # more than sockets hold
BIG = 2 * 1024 * 1024
LATER = {"Retry-After": "1200"}
AT = {"Retry-After": "Fri, 20 Nov 2026 10:20:00 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}
NULLED = b"".join(
    b'"%b":%b,"%b":null,' % (name, value, name)
    for name, value in (
        (b"MessageId", b'"1"'),
        (b"ErrorCode", b"0"),
        (b"Message", b'"OK"'),
        (b"MessageID", b'"1"'),
        (b"success", b"true"),
        (b"message_ids", b'["1"]'),
        (b"sourceTrackingId", b'"1"'),
        (b"data", b'"Service OK"'),
        (b"result", b'{"MessageId":"1"}'),
    )
)
WRONG = json.dumps(
    {
        **{
            "MessageId": 7,
            "ErrorCode": "0",
            "Message": [],
            "MessageID": {},
            "success": "yes",
            "message_ids": "id",
            "errors": 7,
            "error": 9,
        },
        **{"sourceTrackingId": [1], "data": {"x": 1}, "customHeaders": "x", "result": 3, "headers": 7, "message": {}, "__type": 5},
    }
).encode()
NOT_A_NUMBER = (
    b'{"MessageId":NaN,"ErrorCode":NaN,"Message":NaN,"MessageID":Infinity,"success":NaN,"message_ids":[NaN],"sourceTrackingId":-Infinity,'
    b'"data":NaN,"result":NaN}'
)
SURROGATES = b'{"ErrorCode":9999,"Message":"\\ud800","errors":["\\ud800"],"message":"\\ud800","MessageId":"\\udfff"}'


@dataclass(frozen=True)
class Odd:
    """An answer of whatever API, its outcome (for some providers another one), and how the reply begins in the log."""

    answer: HttpAnswer
    outcome: str
    says: str
    but: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    seconds: float = 0.0
    timeout: float = 5.0
    body: bytes = b"hello\r\n"


def page(status: int, outcome: str, body: bytes = HTML, headers: Mapping[str, str] | None = None, **more: Any) -> Odd:
    """A page of something that is not the API."""
    return Odd(Response(status, body, {"Content-Type": "text/html", **(headers or {})}), outcome, f"{status}", **more)


NOBODY_KNOWS, NOT_TAKEN = "UNKNOWN 4.4.2", "RETRY 4.3.0"
LOST = "no complete answer after the request was sent"
ODD: Mapping[str, Odd] = {
    "200 with a page": page(200, NOBODY_KNOWS),
    "200, empty": page(200, NOBODY_KNOWS, b""),
    "200, garbage": page(200, NOBODY_KNOWS, b"\x00\xff%&/"),
    "200, JSON of somebody else": page(200, NOBODY_KNOWS, b'{"status":"ok"}'),
    "200, an empty list": page(200, NOBODY_KNOWS, b"[]"),
    "200, null": page(200, NOBODY_KNOWS, b"null"),
    "200, numbers that are none": page(200, NOBODY_KNOWS, NOT_A_NUMBER),
    "200, wrong types": page(200, NOBODY_KNOWS, WRONG),
    "200, keys twice, nothing in the last": page(200, NOBODY_KNOWS, b"{" + NULLED + b'"x":1}'),
    "200, very deep": page(200, NOBODY_KNOWS, b"[" * 200_000),
    "200, deep and whole": Odd(Response(200, b'{"errors":' * 500 + b"1" + b"}" * 500), NOBODY_KNOWS, "", {"paubox": NOT_TAKEN}),
    "200, a number of 5000 digits": page(200, NOBODY_KNOWS, b'{"ErrorCode":' + b"9" * 5000 + b"}"),
    "200, 2 MB": Odd(Response(200, b" " * BIG), NOBODY_KNOWS, "answer larger than 1048576 octets"),
    "200, packed": page(
        200, NOBODY_KNOWS, gzip.compress(b'{"success":true,"message_ids":["1"],"MessageId":"1"}'), {"Content-Encoding": "gzip"}
    ),
    "200, cut in the body": Odd(b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"MessageId":"1"', NOBODY_KNOWS, LOST),
    "200, cut in a chunk": Odd(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"Mess', NOBODY_KNOWS, LOST),
    "200, half a JSON": page(200, NOBODY_KNOWS, b'{"success":true,"MessageId":"1","ErrorCode":0,"Mess'),
    "201, empty": page(201, NOBODY_KNOWS, b""),
    "202 with a page": page(202, NOBODY_KNOWS),
    "204": Odd(b"HTTP/1.1 204 No Content\r\n\r\n", NOBODY_KNOWS, "204"),
    **{f"{status}, elsewhere": page(status, NOT_TAKEN, b"", {"Location": "http://127.0.0.1:1/"}) for status in (301, 302, 303, 307, 308)},
    "304": Odd(b"HTTP/1.1 304 Not Modified\r\n\r\n", NOT_TAKEN, "304"),
    "400 with a page": page(400, NOT_TAKEN),
    "400, empty": page(400, NOT_TAKEN, b""),
    "400, wrong types": page(400, NOT_TAKEN, WRONG),
    "400, packed": page(400, NOT_TAKEN, gzip.compress(b'{"errors":["x"]}'), {"Content-Encoding": "gzip"}),
    "401 with a page": page(401, "PAUSE 4.3.5", but=dict.fromkeys(("paubox", "lowcodeapi"), "PAUSE 4.7.8"), about="provider"),
    "402 with a page": page(402, NOT_TAKEN),
    "403 with a page": page(403, "PAUSE 4.3.5", but={"paubox": "PAUSE 4.7.1"}, about="provider"),
    "404 with a page": page(404, NOT_TAKEN, but={"paubox": "PAUSE 4.3.5"}),
    "405 with a page": page(405, NOT_TAKEN),
    "407 with a page": page(407, NOT_TAKEN),
    "408 with a page": page(408, NOBODY_KNOWS),
    "410 with a page": page(410, NOT_TAKEN),
    "413 with a page": page(413, "PERM-MSG 5.3.4"),
    "415 with a page": page(415, NOT_TAKEN),
    "422 with a page": page(422, NOT_TAKEN),
    "429 with a page": page(429, "THROTTLE 4.7.28", about="provider"),
    "429 for 1200 seconds": page(429, "THROTTLE 4.7.28", headers=LATER, about="provider", seconds=1200),
    "429 until 10:20": page(429, "THROTTLE 4.7.28", headers=AT, about="provider", seconds=1200),
    **{
        f"429 until {when!r}": page(429, "THROTTLE 4.7.28", headers={"Retry-After": when}, about="provider")
        for when in ("soon", "-1", "1e9")
    },
    "451 with a page": page(451, NOT_TAKEN),
    "500 with a page": page(500, NOBODY_KNOWS),
    "500, half of a character": page(500, NOBODY_KNOWS, SURROGATES, but={"mailtrap": NOT_TAKEN}),
    "502 with a page": page(502, NOBODY_KNOWS),
    "503 with a page": page(503, NOBODY_KNOWS),
    "503 for 1200 seconds": page(503, NOBODY_KNOWS, headers=LATER, seconds=1200),
    "503 until 10:20": page(503, NOBODY_KNOWS, headers=AT, seconds=1200),
    "504 with a page": page(504, NOBODY_KNOWS),
    "520 with a page": page(520, NOBODY_KNOWS),
    "999 with a page": page(999, NOBODY_KNOWS),
    "401, cut in the body": Odd(
        b"HTTP/1.1 401 X\r\nContent-Length: 99\r\n\r\n{",
        "PAUSE 4.3.5",
        "401",
        but=dict.fromkeys(("paubox", "lowcodeapi"), "PAUSE 4.7.8"),
        about="provider",
    ),
    "429, 2 MB": Odd(Response(429, b" " * BIG), "THROTTLE 4.7.28", "429", about="provider"),
    "400, cut where it blames the message": Odd(
        b'HTTP/1.1 400 X\r\nX-Amzn-ErrorType: BadRequestException\r\nContent-Length: 999\r\n\r\n{"message":"x","errors":["x"]}',
        NOT_TAKEN,
        "400",
    ),
    "400, slow in its answer": Odd(
        Trickle(b"HTTP/1.1 400 X\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999, 0.001), NOT_TAKEN, "400", timeout=0.5
    ),
    "not HTTP": Odd(b"220 mx.example.net ESMTP\r\n\r\n", NOBODY_KNOWS, LOST),
    "closed without a word": Odd(Act.CUT, NOBODY_KNOWS, LOST),
    "reset after the message": Odd(Act.RESET, NOBODY_KNOWS, LOST),
    "reset before the message": Odd(Act.EARLY, NOT_TAKEN, "connection failed before the request was sent", body=LARGE),
    "slow after the message": Odd(Act.HANG, NOBODY_KNOWS, LOST, timeout=0.3),
    "slow before the message": Odd(Act.STALL, NOT_TAKEN, "connection failed before the request was sent", timeout=0.5, body=LARGE),
    "slow in its answer": Odd(Trickle(Response(200, HTML).encode(), 0.02), NOBODY_KNOWS, LOST, timeout=0.3),
}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    it = Stage(tmp_path / "spool")
    await it.open()
    yield it
    await it.real.close()


@pytest.mark.parametrize("door", APIS)
@pytest.mark.parametrize("what", ODD)
async def test_an_odd_answer_of_an_api(stage: Stage, tmp_path: Path, door: str, what: str) -> None:
    """It bounces nobody but for its size, is unknown only after the message, and leads nowhere else."""
    odd = ODD[what]
    outcome = odd.but.get(door, odd.outcome)
    about = odd.about or ("provider" if outcome.startswith("PAUSE") else "")
    case = Case(
        door,
        what,
        odd.answer,
        outcome,
        odd.says,
        about=about,
        mend=MENDS[outcome.split()[0]],
        seconds=odd.seconds,
        timeout=odd.timeout,
        body=odd.body,
    )
    await follow(stage, tmp_path, case)


@pytest.mark.parametrize("door", ["postmark", "mailtrap", "paubox"])
@pytest.mark.parametrize("what", [what for what, odd in ODD.items() if isinstance(odd.answer, Response)])
async def test_an_odd_answer_to_a_batch(door: str, what: str) -> None:
    """It means for each message what it means for one alone, and for the next as well: what is taken apart is not judged otherwise."""
    odd = ODD[what]
    async with HttpServer([odd.answer]) as server:
        transport = api(door, server.url, settings={"batching": Batching(10, 10_000_000, 0.2)})
        jobs = [replace(job("a@example.net"), queue_id=f"{number:014X}") for number in range(3)]
        outcomes = await transport.attempt([part for one in jobs for part in await transport.prepare(one)])
        await transport.aclose()
    expected = odd.but.get(door, odd.outcome)
    assert [expected] * 3 == [f"{outcome.verdict} {outcome.status}" for outcome in outcomes.values()]


MENDS = {"PAUSE": " ", "THROTTLE": "", "RETRY": "", "UNKNOWN": "", "PERM-MSG": ""}
WELL: Mapping[str, Any] = {
    "201": lambda body: Response(201, body),
    "202": lambda body: Response(202, body),
    "as a page": lambda body: Response(200, body, {"Content-Type": "text/html"}),
    "with a mark of byte order and spaces": lambda body: Response(200, b"\r\n  " + body + b"\n\n"),
    "after early hints": lambda body: b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + Response(200, body).encode(),
    "in chunks": lambda body: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
    "until the connection ends": lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body,
    "in HTTP/1.0": lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body,
    "with more than is documented": lambda body: Response(200, body[:-1] + b',"x":{"y":[1,null,NaN]}}'),
}


@pytest.mark.parametrize("door", APIS)
@pytest.mark.parametrize("how", WELL)
async def test_an_acceptance_however_it_comes(door: str, how: str) -> None:
    """What says in the provider's own words that the message was taken is believed, whatever it is wrapped in."""
    async with HttpServer([WELL[how](TAKEN[door])]) as server:
        transport = api(door, server.url)
        (one,) = await transport.prepare(job("a@example.net"))
        outcomes = await transport.attempt([one])
        await transport.aclose()
    assert [Verdict.OK] == [outcome.verdict for outcome in outcomes.values()]


# --- SMTP ---

PAUSED, GARBLED = "PAUSE 4.4.2", "RETRY 4.4.2"
EXACT = {  # where it is known more exactly
    **dict.fromkeys(("greeting: half a reply", "greeting: cut", "greeting: reset", "greeting: silent"), "PAUSE 4.4.1"),
    "ehlo: a code of four digits": "PAUSE 4.7.10",  # read as 250, and STARTTLS is not offered
}
SMTP: Mapping[str, tuple[str, Any, str, float]] = {  # stage, answer, outcome, seconds until a silence is given up
    **{
        f"{stage}: {what}": (stage, answer, EXACT.get(f"{stage}: {what}", outcome), 0.3 if what == "half a reply" else 5.0)
        for stage, outcome in (
            ("greeting", PAUSED),
            ("ehlo", PAUSED),
            ("starttls", PAUSED),
            ("auth", PAUSED),
            ("mail", GARBLED),
            ("rcpt", GARBLED),
            ("data", GARBLED),
            ("dot", NOBODY_KNOWS),
        )
        for what, answer in {
            "a page": "<html><title>403 Forbidden</title></html>",
            "an empty line": "",
            "no code": "ok, go ahead",
            "a code of four digits": "2500 ok",
            "a code that is none": "650 ok",
            "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "NUL and 8-bit": b"\x00\xff\xfe\r\n",
            "half a reply": b"250-",
            "2 MB": b"250-" + b"x" * BIG + b"\r\n",
            "cut": Act.CUT,
            "reset": Act.RESET,
        }.items()
    },
    **{
        f"{stage}: silent": (stage, Act.HANG, outcome, 0.3)
        for stage, outcome in (("greeting", "PAUSE 4.4.1"), ("auth", PAUSED), ("mail", GARBLED), ("dot", NOBODY_KNOWS))
    },
    "dot: a 3yz": ("dot", "354 go ahead", NOBODY_KNOWS, 5.0),
    "dot: a 1yz": ("dot", "150 wait", NOBODY_KNOWS, 5.0),
    "dot: 550 in no charset": ("dot", b"550 5.7.1 nein, \xfc\x00\x1b[31m\r\n", "PERM-MSG 5.7.1", 5.0),
    "dot: 550 in many lines": ("dot", b"550-5.7.1 no\r\n" * 20 + b"550 5.7.1 never\r\n", "PERM-MSG 5.7.1", 5.0),
    "dot: a bare 550": ("dot", "550", "PERM-MSG 5.6.0", 5.0),
    "mail: a bare 450": ("mail", "450", "RETRY 4.3.0", 5.0),
}


@pytest.mark.parametrize("what", SMTP)
async def test_an_odd_answer_of_a_server(stage: Stage, tmp_path: Path, what: str) -> None:
    """Before MAIL it is about the provider, after the final dot nobody knows, and between them it is tried again."""
    where, answer, outcome, seconds = SMTP[what]
    about, mend = ("provider", " ") if outcome.startswith("PAUSE") else ("", "")
    await follow(stage, tmp_path, Case("paubox by SMTP", what, answer, outcome, "", about, mend, stage=where, timeout=seconds))
