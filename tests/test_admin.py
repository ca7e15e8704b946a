"""The admin API over a real spool, served on a unix socket and on loopback."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from relay import header
from relay.admin import Admin, acting, bulk, looking, server
from relay.admin.requests import MAX_BODY
from relay.budgets import Usage
from relay.errors import CorruptEntry, SpoolError, SpoolFull, Unavailable
from relay.model import Outcome, State, Verdict
from relay.spool.base import Changed, Recorded
from tests.served import DEFERRED, MAIL, NOW, SENT, UNKNOWN, Provider, Ramp, Served, Shadow, serve
from tests.spools import accept


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """An open spool and its API."""
    async with serve(tmp_path) as result:
        yield result


def mode(path: str) -> int | None:
    """Permission bits, or None when there is no such file."""
    return stat.S_IMODE(Path(path).stat().st_mode) if Path(path).exists() else None


async def acted(served: Served, verb: str, values: Mapping[str, object]) -> object:
    """Do it to what the filters mean; returns to how many recipients."""
    status, answer, _ = await served.ask("POST", f"/api/v1/queue/{verb}", values)
    assert 200 == status
    return answer["recipients"]


async def test_an_entry_of_the_queue_has_the_documented_shape(served: Served) -> None:
    """`queue list --json` is a contract: these keys, these words, RFC 3339 times."""
    entry = await served.store("a@example.net")
    await served.attempt(entry, "a@example.net", DEFERRED)
    status, answer, _ = await served.ask("GET", "/api/v1/queue")
    assert 200 == status
    assert [
        {
            "queue_id": entry.queue_id,
            "queue_name": "deferred",
            "arrival_time": "2026-11-20T17:57:01.250Z",
            "message_size": len(MAIL),
            "sender": "app@example.com",
            "recipients": [
                {
                    "address": "a@example.net",
                    "state": "queued",
                    "provider": "ses",
                    "route": "default",
                    "attempts": 1,
                    "next_attempt": "2026-11-20T18:02:01.250Z",
                    "waits": "",
                    "expires": None,
                    "delay_reason": "450 mailbox busy",
                    "maybe_relayed": False,
                    "via": [],
                }
            ],
        }
    ] == answer["entries"]


async def test_the_queue_comes_in_pages(served: Served) -> None:
    """`next` leads on until a page is empty."""
    ids = [(await served.store("a@example.net")).queue_id for _ in range(3)]
    found, after = [], ""
    for _ in range(3):
        _, page, _ = await served.ask("GET", f"/api/v1/queue?limit=2&after={after}")
        found += [entry["queue_id"] for entry in page["entries"]]
        after = page["next"]
    assert (ids, "") == (found, after)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 2),
        ("from=APP@*", 1),
        ("to=*@example.net", 2),
        ("state=deferred", 1),
        ("state=active", 1),
        ("provider=ses", 1),
        ("route=default&to=b@*", 0),
        ("older=60", 0),
        ("older=0", 2),
    ],
)
async def test_filters_choose_entries(served: Served, query: str, expected: int) -> None:
    """Every filter is a pattern without case; all given ones must hold."""
    await served.attempt(await served.store("a@example.net"), "a@example.net", DEFERRED)
    await served.store("b@example.net", sender="")
    _, answer, _ = await served.ask("GET", f"/api/v1/queue?{query}")
    assert expected == len(answer["entries"])


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("form=x", 'unknown filter "form" (did you mean "from"?)'),
        ("state=defered", 'unknown state "defered" (did you mean "deferred"?)'),
        ("to=", "filter to wants a text that is not empty"),
        ("older=soon", "older (seconds) wants a whole number from 0"),
        ("limit=0", "limit wants a whole number from 1 to 1000"),
        ("limit=99999999999999999999", "limit wants a whole number"),
    ],
)
async def test_a_wrong_filter_is_refused_not_ignored(served: Served, query: str, text: str) -> None:
    """A filter that is not understood never widens what a command does."""
    status, answer, _ = await served.ask("GET", f"/api/v1/queue?{query}")
    assert 400 == status
    assert text in answer["error"]


async def test_an_entry_is_found_by_how_its_id_begins(served: Served) -> None:
    """A prefix in any case is enough while it is unique; else the candidates are named."""
    entry = await served.store("a@example.net")
    status, answer, _ = await served.ask("GET", f"/api/v1/queue/{entry.queue_id[:6].lower()}")
    assert (200, entry.queue_id) == (status, answer["queue_id"])
    assert ("<one@web1>", "web1") == (answer["message_id"], answer["client"]["helo"])
    other = await served.store("b@example.net")
    status, answer, _ = await served.ask("GET", f"/api/v1/queue/{entry.queue_id[:6]}")
    assert 409 == status
    assert entry.queue_id in answer["error"]
    assert other.queue_id in answer["error"]
    status, answer, _ = await served.ask("GET", "/api/v1/queue/FFFF")
    assert (404, "no entry has an id that begins with FFFF") == (status, answer["error"])


async def test_raw_mail_is_an_attachment_byte_for_byte(served: Served) -> None:
    """No browser renders stored mail, whatever it holds."""
    entry = await served.store("a@example.net", data=MAIL + b"\xff\x00<script>alert(1)</script>\r\n")
    status, content, answer = await served.ask("GET", f"/api/v1/queue/{entry.queue_id}/raw")
    assert (200, MAIL + b"\xff\x00<script>alert(1)</script>\r\n") == (status, content)
    assert "message/rfc822" == answer.headers["content-type"]
    assert "nosniff" == answer.headers["x-content-type-options"]
    assert f'attachment; filename="{entry.queue_id}.eml"' == answer.headers["content-disposition"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_the_header_block_and_the_timeline_stay_when_the_body_is_gone(served: Served) -> None:
    """A finished entry still tells its story; its body is 410 with the reason."""
    entry = await served.store("a@example.net")
    await served.attempt(entry, "a@example.net", SENT)
    status, answer, _ = await served.ask("GET", f"/api/v1/queue/{entry.queue_id}/raw")
    assert 410 == status
    assert "queue.keep_bodies" in answer["error"]
    status, content, _ = await served.ask("GET", f"/api/v1/queue/{entry.queue_id}/headers")
    assert (200, MAIL.partition(b"\r\n\r\n")[0] + b"\r\n") == (status, content)
    _, answer, _ = await served.ask("GET", f"/api/v1/queue/{entry.queue_id}/timeline")
    assert answer["steps"][0].pop("attempt") > 0
    assert [
        {
            "time": "2026-11-20T17:57:01.250Z",
            "queue_id": entry.queue_id,
            "recipient": "a@example.net",
            "provider": "ses",
            "route": "default",
            "verdict": "OK",
            "status": "2.0.0",
            "reply": "250 ok",
            "remote": "mx.example.net[192.0.2.1]:25",
            "remote_id": "remote-1",
            "state": "relayed",
        }
    ] == answer["steps"]


@pytest.mark.parametrize("term", ["<one@web1>", "one@web1", "a@example.net", "remote-1", "APP@example.com"])
async def test_a_story_is_found_by_any_name_of_the_message(served: Served, term: str) -> None:
    """Message-ID, recipient, sender and remote id all lead to the entry and its attempts."""
    entry = await served.store("a@example.net")
    await served.attempt(entry, "a@example.net", SENT)
    _, answer, _ = await served.ask("GET", f"/api/v1/log?term={term}")
    assert [(entry.queue_id, "250 ok")] == [(story["queue_id"], story["steps"][0]["reply"]) for story in answer["stories"]]


async def test_a_search_wants_a_term(served: Served) -> None:
    """Without one it says what can be looked for; for an unknown one it finds nothing."""
    status, answer, _ = await served.ask("GET", "/api/v1/log")
    assert 400 == status
    assert "Message-ID" in answer["error"]
    assert (200, {"stories": [], "more": False}) == (await served.ask("GET", "/api/v1/log?term=nobody"))[:2]


async def test_status_tells_whether_mail_is_accepted(served: Served) -> None:
    """Listeners, providers with their trouble, the queue in numbers, and why mail is refused."""
    await served.store("a@example.net", "b@example.net")
    used_up = Usage("daily", 200, 200, NOW + 3600, "recipients")
    served.providers = [
        Provider("ses", "paused", "535 no", "look at its users", NOW - 5, NOW + 60, 2, 0, suspect="403 no", usage=[used_up])
    ]
    served.ramps = [Ramp("default", {"ses": 0.75, "postmark": 0.25}, NOW + 86400, 3600.0, NOW + 60, "postmark refused 10 %")]
    served.shadows = [Shadow("default", "mailtrap", 5, 1, 2, 0, "no custom header X-A")]
    served.refusing = "only 5 MB free"
    _, answer, _ = await served.ask("GET", "/api/v1/status")
    assert answer.pop("spool")["free"] > 0
    assert {
        "version": "0.1.0",
        "running": True,
        "pid": 812,
        "started_time": "2026-11-20T17:56:01.250Z",
        "hostname": "relay.example.com",
        "accepting": False,
        "reason": "only 5 MB free",
        "listeners": [{"name": "local", "address": "127.0.0.1:1025"}],
        "providers": [
            {
                "name": "ses",
                "state": "paused",
                "reason": "535 no",
                "mend": "look at its users",
                "since": "2026-11-20T17:56:56.250Z",
                "until": "2026-11-20T17:58:01.250Z",
                "waiting": 2,
                "active": 0,
                "by_admin": False,
                "suspect": "403 no",
                "usage": [{"what": "daily", "count": "recipients", "used": 200, "limit": 200, "until": "2026-11-20T18:57:01.250Z"}],
            }
        ],
        "ramps": [
            {
                "route": "default",
                "shares": {"ses": 0.75, "postmark": 0.25},
                "until": "2026-11-21T17:57:01.250Z",
                "behind": 3600,
                "held_until": "2026-11-20T17:58:01.250Z",
                "reason": "postmark refused 10 %",
            }
        ],
        "shadows": [
            {
                "route": "default",
                "provider": "mailtrap",
                "carried": 5,
                "lossy": 1,
                "refused": 2,
                "failed": 0,
                "example": "no custom header X-A",
            }
        ],
        "queue": {
            "entries": 1,
            "corrupt": 0,
            "recipients": [{"state": "active", "provider": "", "count": 2}],
            "oldest": {"active": "2026-11-20T17:57:01.250Z"},
        },
    } == answer


async def test_the_root_lists_the_calls(served: Served) -> None:
    """Who opens the address in a browser sees what can be asked, and by which method."""
    status, answer, _ = await served.ask("GET", "/")
    assert (200, "0.1.0") == (status, answer["relay"])
    assert {"GET /healthz", "GET /api/v1/queue/{id}/raw", "POST /api/v1/test"} < set(answer["calls"])


async def test_health_is_503_while_no_mail_is_accepted(served: Served) -> None:
    """For load balancers and monitors: a status code and one line."""
    assert (200, b"ok\n") == (await served.ask("GET", "/healthz"))[:2]
    served.refusing = "shutting down"
    assert (503, b"not accepting mail: shutting down\n") == (await served.ask("GET", "/healthz"))[:2]


async def test_metrics_show_the_queue_of_now(served: Served) -> None:
    """The gauges are set when the page is asked for."""
    await served.store("a@example.net")
    _, page, answer = await served.ask("GET", "/metrics")
    assert b"\nrelay_queue_entries 1.0\n" in page
    assert answer.headers["content-type"].startswith("text/plain; version=")


async def test_metrics_can_be_off(tmp_path: Path) -> None:
    """404 says which key turns them on."""
    async with serve(tmp_path, with_metrics=False) as served:
        status, answer, _ = await served.ask("GET", "/metrics")
    assert (404, "metrics are off: set admin.metrics to true") == (status, answer["error"])


async def test_retry_makes_what_waits_due_now(served: Served) -> None:
    """It answers how many recipients that concerned."""
    entry = await served.store("a@example.net")
    await served.attempt(entry, "a@example.net", DEFERRED)
    assert 0 == await acted(served, "retry", {"to": "x@*"})
    assert 1 == await acted(served, "retry", {"id": entry.queue_id[:8]})
    assert [entry.queue_id] == [found.queue_id for found in await served.spool.claim(NOW, 10, 60)]


async def test_what_is_held_waits_until_it_is_released(served: Served) -> None:
    """Held recipients are not claimed; released ones are due now."""
    entry = await served.store("a@example.net")
    assert 1 == await acted(served, "hold", {"id": entry.queue_id})
    assert [] == list(await served.spool.claim(NOW, 10, 60))
    assert 1 == await acted(served, "release", {"state": "hold"})
    texts = [f"{entry.queue_id}: placed on hold by the admin, nrcpt=1", f"{entry.queue_id}: released from hold by the admin, nrcpt=1"]
    assert texts == served.journal.texts
    assert [entry.queue_id] == [found.queue_id for found in await served.spool.claim(NOW, 10, 60)]


async def test_delete_counts_first_and_is_logged(served: Served) -> None:
    """With dry_run nothing changes; without it the recipients go and the log says what was asked for."""
    entry = await served.store("a@example.net")
    await served.store("b@example.net")
    assert 1 == await acted(served, "delete", {"to": "a@*", "dry_run": True})
    assert 2 == (await served.spool.counts()).entries
    assert 1 == await acted(served, "delete", {"to": "a@*"})
    assert 1 == (await served.spool.counts()).entries
    deleted = await served.spool.entry(entry.queue_id)
    assert deleted is not None
    assert State.DELETED is deleted.recipients[0].state
    assert [f"{entry.queue_id}: deleted by the admin, nrcpt=1", f"{entry.queue_id}: removed"] == served.journal.texts


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "not JSON"),
        (b"[" * 20_000, "not JSON"),
        ([], "not a JSON object"),
        ({"id": ""}, "filter id wants a text"),
        ({"id": 7}, "filter id wants a text"),
        ({"ids": "x"}, 'unknown filter "ids"'),
        ({"state": "finished"}, "cannot be changed"),
        ({"id": "FFFF"}, "no entry"),
    ],
)
async def test_a_change_that_is_not_understood_changes_nothing(served: Served, body: object, text: str) -> None:
    """An empty or unknown filter must never mean everything."""
    await served.store("a@example.net")
    status, answer, _ = await served.ask("POST", "/api/v1/queue/delete", body)
    assert status in (400, 404)
    assert text in answer["error"]
    assert 1 == (await served.spool.counts()).entries


@pytest.mark.parametrize("body", [b'{"to": "\\ud800"}', b'{"\\udfff": "x"}', b'{"to": "\xed\xa0\x80"}', b'{"to": ["\\ud800"]}'])
@pytest.mark.parametrize("path", ["/api/v1/queue/delete", "/api/v1/test"])
async def test_half_a_character_is_no_text(served: Served, path: str, body: bytes) -> None:
    """JSON can write a lone surrogate, which no address and no filter holds and no answer can quote."""
    status, answer, _ = await served.ask("POST", path, body)
    assert (400, "the request is not Unicode text: it holds half of a surrogate pair") == (status, answer["error"])


@pytest.mark.parametrize("path", ["log?term=%ED%A0%80", "queue?to=%ED%A0%80", "queue?state=%ED%A0%80", "queue/%ED%A0%80"])
async def test_half_a_character_in_a_query_finds_nothing(served: Served, path: str) -> None:
    """Octets that are no UTF-8 are searched for as the replacement character, or refused; never a bug."""
    status, _, _ = await served.ask("GET", f"/api/v1/{path}")
    assert status in (200, 400, 404)
    assert [] == served.journal.found("bug")


async def test_a_request_has_a_largest_size(served: Served) -> None:
    """A large body is refused before it is read to its end."""
    status, answer, _ = await served.ask("POST", "/api/v1/queue/delete", b" " * (MAX_BODY + 1))
    assert (413, f"a request has at most {MAX_BODY} octets") == (status, answer["error"])


async def test_a_test_message_is_stored_like_any_other(served: Served) -> None:
    """It has a header block of its own, goes by the provider that was named, and is logged like accepted mail."""
    served.providers = [Provider("ses", "up", "", "", 0, 0, 0, 0)]
    status, answer, _ = await served.ask("POST", "/api/v1/test", {"to": "me@example.net", "via": "ses"})
    assert 200 == status
    entry = await served.spool.entry(answer["queue_id"])
    assert entry is not None
    assert (("ses",), "mailer-daemon@relay.example.com", "me@example.net") == (
        entry.via,
        entry.envelope.reverse_path,
        entry.recipients[0].recipient.address,
    )
    assert f"<{entry.queue_id}@relay.example.com>" == entry.message_id
    assert b"me@example.net" == header.first(entry.header, "to")
    assert entry.facts.size == len(await (await served.spool.message(entry.queue_id)).read())
    assert ["accepted", "message_id", "queued"] == [line["event"] for line in served.journal.lines]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "to: '' is not an address"),
        ({"to": "nobody"}, 400, "to: 'nobody' is not an address"),
        ({"to": "a@example.net\r\nBcc: b@example.net"}, 400, "is not an address"),
        ({"to": "a@example.net", "from": "=?x"}, 400, "from: '=?x' is not an address"),
        ({"to": "a@example.net", "via": "sess"}, 400, 'no provider is named "sess" (did you mean "ses"?); configured: ses'),
        ({"to": "a@example.net", "cc": "x"}, 400, "unknown key cc"),
    ],
)
async def test_a_test_message_wants_an_address(served: Served, body: object, status: int, text: str) -> None:
    """What would not be accepted by SMTP is not accepted here."""
    served.providers = [Provider("ses", "up", "", "", 0, 0, 0, 0)]
    found, answer, _ = await served.ask("POST", "/api/v1/test", body)
    assert status == found
    assert text in answer["error"]
    assert 0 == (await served.spool.counts()).entries


async def test_no_test_message_while_no_mail_is_accepted(served: Served) -> None:
    """A full disk refuses the admin too."""
    served.refusing = "only 5 MB free"
    status, answer, _ = await served.ask("POST", "/api/v1/test", {"to": "a@example.net"})
    assert (503, "relay accepts no mail now: only 5 MB free") == (status, answer["error"])


async def test_a_corrupt_entry_is_listed_and_told_apart(served: Served) -> None:
    """What was set aside can be seen; asking for it says why it cannot be read."""
    entry = await served.store("a@example.net")
    await served.spool.set_aside(entry.queue_id, "its body is missing", NOW)
    _, answer, _ = await served.ask("GET", "/api/v1/queue?state=corrupt")
    assert [(entry.queue_id, "corrupt", "its body is missing")] == [
        (found["queue_id"], found["queue_name"], found["reason"]) for found in answer["entries"]
    ]
    status, answer, _ = await served.ask("GET", f"/api/v1/queue/{entry.queue_id}")
    assert 422 == status
    assert "its body is missing" in answer["error"]


async def test_a_corrupt_entry_can_be_taken_back_and_ended(served: Served) -> None:
    """After a repair it is retried; what cannot be repaired is deleted; other states stay what they are."""
    entry = await served.store("a@example.net")
    await served.spool.set_aside(entry.queue_id, "its body is missing", NOW)
    what = {"state": "corrupt", "id": entry.queue_id}
    assert 1 == await acted(served, "retry", what)
    assert [] == list(await served.spool.corrupt())
    await served.spool.set_aside(entry.queue_id, "its body is missing", NOW)
    assert 1 == await acted(served, "delete", what)
    assert [] == list(await served.spool.corrupt())


async def test_an_entry_that_waits_for_its_bounce_is_not_called_removed(served: Served) -> None:
    """Deleting its last open recipient does not end it: the sender is still to be told about the other one."""
    entry = await served.store("a@example.net", "b@example.net")
    failed = Recorded(Outcome(Verdict.PERM_RCPT, "5.1.1", "550 no such user", "mx.example.net:25"), State.FAILED)
    await served.spool.record(entry.queue_id, 0, {"a@example.net": failed}, "smarthost", "default", NOW)
    assert 1 == await acted(served, "delete", {"id": entry.queue_id})
    assert ["deleted"] == [line["event"] for line in served.journal.lines if line.get("queue_id") == entry.queue_id]


async def test_a_corrupt_entry_does_not_hide_others(served: Served) -> None:
    """A search that finds only it says why; one that finds more tells the others' stories."""
    broken = await served.store("a@example.net")
    await served.spool.set_aside(broken.queue_id, "its body is missing", NOW)
    assert 422 == (await served.ask("GET", "/api/v1/log?term=a@example.net"))[0]
    entry = await served.store("a@example.net")
    _, answer, _ = await served.ask("GET", "/api/v1/log?term=a@example.net")
    assert [entry.queue_id] == [story["queue_id"] for story in answer["stories"]]


async def test_a_body_that_cannot_be_read_now_is_not_gone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trouble with the disk is 503, a corrupt body 422, for entries in the queue."""
    entry = await served.store("a@example.net")
    for error, expected in ((SpoolError("disk trouble"), 503), (CorruptEntry(entry.queue_id, "cut short"), 422)):

        async def fails(_: str, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(served.spool, "message", fails)
        assert expected == (await served.ask("GET", f"/api/v1/queue/{entry.queue_id}/raw"))[0]


@pytest.mark.parametrize(
    ("error", "status"), [(SpoolError("disk trouble"), 503), (SpoolFull("no room"), 503), (RuntimeError("secret"), 500)]
)
async def test_trouble_is_one_sentence(served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int) -> None:
    """The spool's trouble is told; a bug of ours goes to the log, not to the caller."""

    async def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(served.spool, "counts", fails)
    found, answer, _ = await served.ask("GET", "/api/v1/status")
    assert (status, "internal error; the log has it" if status == 500 else str(error)) == (found, answer["error"])
    assert (status == 500) == bool(served.journal.found("bug"))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/v1/nothing", 404), ("GET", "/api/v1/queue/retry", 404), ("DELETE", "/api/v1/queue", 405), ("GET", "/api/v1/test", 405)],
)
async def test_what_is_no_call_is_an_error_in_json(served: Served, method: str, path: str, status: int) -> None:
    """A GET on a verb that changes things does nothing."""
    found, answer, _ = await served.ask(method, path)
    assert status == found
    assert "error" in answer


# Who may use it.


async def test_the_unix_socket_is_for_owner_and_group(served: Served) -> None:
    """Mode 0660, in a directory of mode 0700 when we made it; the name goes when the daemon stops."""
    assert (0o660, 0o700) == (mode(served.unix), mode(str(Path(served.unix).parent)))
    await served.admin.stop()
    assert mode(served.unix) is None


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
async def test_our_own_addresses_are_let_in_on_tcp(served: Served, host: str) -> None:
    """The Host header of a browser or curl on this host."""
    status, _, _ = await served.ask("GET", "/healthz", headers={"Host": host.format(port=served.port)}, tcp=True)
    assert 200 == status


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost:{port}.evil.example", ""])
async def test_another_host_name_is_refused_on_tcp(served: Served, host: str) -> None:
    """DNS rebinding: a page's own name that resolves to 127.0.0.1 is not us."""
    status, answer, _ = await served.ask("GET", "/api/v1/queue", headers={"Host": host.format(port=served.port)}, tcp=True)
    assert (403, "host: this is not an address of the admin API") == (status, answer["error"])


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_page_of_another_site_is_refused(served: Served, origin: str, method: str) -> None:
    """CSRF: the browser says which site asks."""
    headers = {"Origin": origin.format(port=served.port)}
    body = {"to": "a@example.net"} if method == "POST" else None
    status, answer, _ = await served.ask(method, "/api/v1/queue/retry" if body else "/api/v1/queue", body, headers, tcp=True)
    assert (403, "origin: pages of other sites may not use the admin API") == (status, answer["error"])


async def test_our_own_page_is_let_in(served: Served) -> None:
    """An Origin that is one of our addresses."""
    status, _, _ = await served.ask("POST", "/api/v1/queue/retry", {}, {"Origin": f"http://localhost:{served.port}"}, tcp=True)
    assert 200 == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/json-x"])
@pytest.mark.parametrize("tcp", [True, False])
async def test_a_post_without_json_is_refused(served: Served, kind: str, tcp: bool) -> None:
    """The kinds a web form can send without asking first never reach a verb."""
    status, answer, _ = await served.ask("POST", "/api/v1/queue/delete", b"{}", {"Content-Type": kind}, tcp=tcp)
    assert (415, "a POST says Content-Type: application/json") == (status, answer["error"])


async def test_a_second_admin_on_the_same_address_is_refused(served: Served) -> None:
    """A socket in use is not taken away; a port in use names its holder; nothing stays open."""
    api = served.admin._api
    with pytest.raises(Unavailable, match="another process listens there"):
        await Admin([f"unix:{served.unix}"], api).start()
    with pytest.raises(Unavailable, match=r"cannot listen on 127.0.0.1:\d+: pid \d+ \(.+\) has it"):
        await Admin([f"unix:{served.unix}2", f"127.0.0.1:{served.port}"], api).start()
    assert mode(f"{served.unix}2") is None
    assert 200 == (await served.ask("GET", "/healthz"))[0]


async def test_a_server_that_does_not_come_up_leaves_nothing_open(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is told, the socket's name goes."""

    async def fails(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("uvicorn.Server.startup", fails)
    with pytest.raises(OSError, match="no"):
        await Admin([f"unix:{tmp_path}/other"], served.admin._api).start()
    assert mode(f"{tmp_path}/other") is None


# Reload.


async def test_a_reload_says_what_changed(served: Served) -> None:
    """200 where the configuration is in force, 422 with every mistake where the old one stays."""
    assert (200, {"reloaded": "provider ses changed"}) == (await served.ask("POST", "/api/v1/reload", {}))[:2]
    served.problems = ("relay.yaml:1:1: no", "relay.yaml:2:1: no")
    status, answer, _ = await served.ask("POST", "/api/v1/reload", {})
    assert 422 == status
    assert {
        "error": "reload refused, the old configuration stays: 2 mistakes",
        "problems": ["relay.yaml:1:1: no", "relay.yaml:2:1: no"],
    } == answer
    assert 2 == served.reloads


async def test_a_reload_takes_nothing_along(served: Served) -> None:
    """What is not understood is refused before anything is done."""
    assert 400 == (await served.ask("POST", "/api/v1/reload", {"config": "/x"}))[0]
    assert 0 == served.reloads


# The log as it is written.


async def follow(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that follows the log, behind the answer's head and its first empty line."""
    reader, writer = await asyncio.open_unix_connection(served.unix)
    writer.write(b"GET /api/v1/log/tail HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-type: application/x-ndjson" in head
    assert b"\n" == await chunk(reader)
    return reader, writer


async def chunk(reader: asyncio.StreamReader) -> bytes:
    """One chunk (RFC 9112 §7.1); the last one is empty."""
    async with asyncio.timeout(10):
        size = int(await reader.readline(), 16)
        return (await reader.readexactly(size + 2))[:-2]


async def test_who_follows_the_log_gets_each_line(served: Served) -> None:
    """One JSON object for each line, as it comes."""
    reader, writer = await follow(served)
    for text in ('{"event": "queued"}', '{"event": "sent", "to": "ü"}'):
        served.log.put(text)
        assert text.encode() + b"\n" == await chunk(reader)
    writer.close()


async def test_a_quiet_log_shows_that_it_lives(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty lines while nothing happens; no line is lost over them."""
    monkeypatch.setattr(looking, "HEARTBEAT", 0.01)
    reader, writer = await follow(served)
    assert [b"\n", b"\n"] == [await chunk(reader) for _ in range(2)]
    served.log.put("{}")
    while (found := await chunk(reader)) == b"\n":
        pass
    assert b"{}\n" == found
    writer.close()


async def test_who_follows_the_log_does_not_keep_the_daemon(served: Served) -> None:
    """When the daemon stops the answer ends at once."""
    reader, writer = await follow(served)
    await served.admin.stop()
    assert b"" == await chunk(reader)
    assert not served.log.listening
    writer.close()


async def test_who_stops_following_is_forgotten(served: Served) -> None:
    """The subscription ends with the connection."""
    _, writer = await follow(served)
    assert served.log.listening
    writer.close()
    async with asyncio.timeout(10):
        while served.log.listening:
            assert 200 == (await served.ask("GET", "/healthz"))[0]


async def test_who_follows_the_log_leaves_room_for_others(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them keeps a connection for good, so beyond a number they are refused; one that leaves makes room."""
    monkeypatch.setattr(looking, "MOST_FOLLOWING", 1)
    _, writer = await follow(served)
    status, answer, _ = await served.ask("GET", "/api/v1/log/tail")
    assert (503, {"error": "the log is followed by 1 already, which is the most; end one of them"}) == (status, answer)
    writer.close()
    async with asyncio.timeout(10):
        while served.log.listening:
            assert 200 == (await served.ask("GET", "/healthz"))[0]
    _, writer = await follow(served)
    writer.close()


# Floods.


async def connect(served: Served, count: int, said: bytes = b"") -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """So many connections to the TCP address, each of which has said this much."""
    found = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(count)]
    for _, writer in found:
        writer.write(said)
    return found


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes the connection without a word."""
    try:
        return b"" == await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return True


async def test_a_flood_on_one_address_does_not_shut_the_others(served: Served) -> None:
    """Beyond so many connections to the port each one is closed at once; the unix socket answers as ever."""
    found = await connect(served, 3 * server.MOST)
    assert all([await closed(reader) for reader, _ in found[server.MOST :]])
    assert 200 == (await served.ask("GET", "/healthz"))[0]
    assert 200 == (await served.ask("GET", "/api/v1/status"))[0]
    for _, writer in found:
        writer.close()
    for reader, _ in found[: server.MOST]:
        assert await closed(reader)
    assert 200 == (await served.ask("GET", "/healthz", tcp=True))[0]


POST = b"POST /api/v1/queue/retry HTTP/1.1\r\nHost: localhost:%d\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: ", POST, POST + b"{"])
async def test_a_request_that_does_not_come_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    """Nothing, half a head, no body, half a body: the connection is closed, and nothing of it is a bug."""
    monkeypatch.setattr(server, "PATIENCE", 0.05)
    [(reader, writer)] = await connect(served, 1, said.replace(b"%d", b"%d" % served.port))
    assert await closed(reader)
    writer.close()
    assert [] == served.journal.found("bug")


async def test_a_connection_is_kept_for_the_next_request(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection carries one request after the other; then it is not waited for any longer than the first time."""
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    [(reader, writer)] = await connect(served, 1)
    for _ in range(3):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % served.port)
        assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET")
    assert await closed(reader)
    writer.close()


# What touches many.


async def queue_ids(served: Served, count: int) -> list[str]:
    """So many messages to one recipient each."""
    return [(await served.store(f"a{number}@example.net")).queue_id for number in range(count)]


async def test_a_reroute_fixes_the_providers_of_what_is_meant(served: Served) -> None:
    """Others of the same message keep their way; each entry has a line; [] gives the choice back to the routes."""
    served.providers = [Provider("ses"), Provider("postmark")]
    entry = await served.store("a@example.net", "b@example.net")
    assert 1 == await acted(served, "reroute", {"to": "a@*", "via": ["postmark", "ses"]})
    found = await served.spool.entry(entry.queue_id)
    assert found is not None
    assert [("postmark", "ses"), ()] == [one.via for one in found.recipients]
    assert [1] == [line["nrcpt"] for line in served.journal.found("rerouted", queue_id=entry.queue_id)]
    assert 2 == await acted(served, "reroute", {"via": []})
    found = await served.spool.entry(entry.queue_id)
    assert found is not None
    assert [(), ()] == [one.via for one in found.recipients]


async def test_a_reroute_leaves_alone_what_may_have_been_delivered(served: Served) -> None:
    """It is counted, so that an admin may decide otherwise."""
    served.providers = [Provider("postmark")]
    entry = await served.store("a@example.net", "b@example.net")
    await served.attempt(entry, "a@example.net", UNKNOWN)
    _, answer, _ = await served.ask("POST", "/api/v1/queue/reroute", {"via": ["postmark"]})
    assert {"of": 2, "recipients": 1, "entries": 1, "pinned": 1, "busy": 0, "done": True} == answer
    _, answer, _ = await served.ask("POST", "/api/v1/queue/reroute", {"via": ["postmark"], "even_if_maybe_sent": True})
    assert (2, 0) == (answer["recipients"], answer["pinned"])


@pytest.mark.parametrize(
    ("verb", "body", "text"),
    [
        ("reroute", {}, "via wants a list of names of providers"),
        ("reroute", {"via": "ses"}, "via wants a list of names of providers"),
        ("reroute", {"via": [7]}, "via wants a list of names of providers"),
        ("reroute", {"via": ["sess"]}, 'no provider is named "sess" (did you mean "ses"?); configured: ses'),
        ("reroute", {"via": ["ses", "ses"]}, "via names a provider twice: ses, ses"),
        ("reroute", {"via": ["ses"], "even_if_maybe_sent": "yes"}, "even_if_maybe_sent wants true or false"),
        ("reroute", {"via": ["ses"], "state": "corrupt"}, "can only be retried, after a repair, or deleted"),
        ("bounce", {"why": "x" * 301}, "why wants one line of text of at most 300 characters"),
        ("bounce", {"why": "a\nb"}, "why wants one line of text"),
        ("bounce", {"why": None}, "why wants one line of text"),
        ("hold", {"via": ["ses"]}, 'unknown filter "via"'),
        ("delete", {"dry_run": "false"}, "dry_run wants true or false"),
    ],
)
async def test_a_change_to_many_is_refused_as_a_whole(served: Served, verb: str, body: object, text: str) -> None:
    """Before anything is done, with the mistake named."""
    served.providers = [Provider("ses")]
    entry = await served.store("a@example.net")
    status, answer, _ = await served.ask("POST", f"/api/v1/queue/{verb}", body)
    assert 400 == status
    assert text in answer["error"]
    assert entry == await served.spool.entry(entry.queue_id)


async def test_a_bounce_gives_up_what_is_meant(served: Served) -> None:
    """The daemon does it; what it did is counted."""
    ids = await queue_ids(served, 3)
    assert 1 == await acted(served, "bounce", {"id": ids[0], "why": "that list was old"})
    found = await served.spool.entry(ids[0])
    assert found is not None
    assert (State.FAILED, "given up by an admin: that list was old") == (found.recipients[0].state, found.recipients[0].reply)
    assert (200, {"recipients": 2}) == (await served.ask("POST", "/api/v1/queue/bounce", {"dry_run": True}))[:2]


@pytest.mark.parametrize(
    ("verb", "filters", "expected"),
    [
        ("hold", {}, 2),
        ("hold", {"state": "hold"}, 0),
        ("retry", {}, 2),
        ("release", {}, 1),
        ("release", {"state": "active"}, 0),
        ("delete", {}, 3),
        ("delete", {"state": "hold"}, 1),
    ],
)
async def test_a_dry_run_counts_what_would_change(served: Served, verb: str, filters: dict[str, object], expected: int) -> None:
    """One of three is held already: nothing would become of it but by a release or a deletion."""
    ids = await queue_ids(served, 3)
    assert 1 == await acted(served, "hold", {"id": ids[0]})
    assert expected == await acted(served, verb, {**filters, "dry_run": True})
    assert expected == await acted(served, verb, filters)


@pytest.mark.parametrize("verb", ["reroute", "bounce", "delete"])
async def test_what_comes_after_the_call_is_not_meant(served: Served, verb: str) -> None:
    """Nobody agreed to it; and the bounces that a bounce makes would be given up themselves."""
    await queue_ids(served, 2)
    served.now = NOW + 1
    await served.store("a@example.net")
    served.now = NOW
    assert 2 == await acted(served, verb, {"via": []} if verb == "reroute" else {})


async def test_a_bounce_leaves_our_notices_alone(served: Served) -> None:
    """Said again it would give up the bounces that it made, and nobody would be told; where one is named it is meant."""
    entry = await served.store("a@example.net")
    notice = await accept(served.spool, "app@example.com", sender="", answers=entry.queue_id, now=NOW)
    assert 1 == await acted(served, "bounce", {"dry_run": True})
    assert 1 == await acted(served, "bounce", {})
    assert 0 == await acted(served, "bounce", {})
    assert 1 == await acted(served, "bounce", {"from": "<>", "dry_run": True})
    assert 1 == await acted(served, "bounce", {"id": notice.queue_id})


async def test_what_is_under_way_is_left_and_counted(served: Served) -> None:
    """A leased recipient cannot be held."""
    await served.store("a@example.net")
    await served.spool.claim(NOW, 10, 60)
    await served.store("b@example.net")
    _, answer, _ = await served.ask("POST", "/api/v1/queue/hold", {})
    assert (1, 1) == (answer["recipients"], answer["busy"])


class Chunks:
    """Stands in for Spool.each: gives one entry when it is told to, and fails at the end where it is to."""

    def __init__(self, ids: Sequence[str], error: Exception | None = None) -> None:
        self.ids = ids
        self.error = error
        self.go = asyncio.Semaphore(0)
        self.asked = 0

    async def __call__(self, *_: object) -> AsyncIterator[Sequence[Changed]]:
        for queue_id in self.ids:
            self.asked += 1
            await self.go.acquire()
            yield [Changed(queue_id, 1)]
        if self.error:
            raise self.error


async def stream(served: Served, verb: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that asked for a change to everything, behind the answer's head."""
    reader, writer = await asyncio.open_unix_connection(served.unix)
    head = f"POST /api/v1/queue/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    writer.write(f"{head}Accept: application/x-ndjson\r\n\r\n{{}}".encode())
    assert b"content-type: application/x-ndjson" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_a_change_to_many_tells_how_far_it_is(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line at once, one after each chunk, and the end; the log has a line for each entry by then."""
    chunks = Chunks(await queue_ids(served, 2))
    monkeypatch.setattr(served.spool, "each", chunks)
    reader, writer = await stream(served, "hold")
    told = [json.loads(await chunk(reader))]
    while "done" not in told[-1]:
        chunks.go.release()
        told.append(json.loads(await chunk(reader)))
    assert [{"of": 2, "recipients": 0, "entries": 0, "pinned": 0}, {"of": 2, "recipients": 1, "entries": 1, "pinned": 0}] == told[:2]
    assert {"of": 2, "recipients": 2, "entries": 2, "pinned": 0, "busy": 0, "done": True} == told[-1]
    assert [*chunks.ids] == [line["queue_id"] for line in served.journal.found("put_on_hold")]
    writer.close()


async def test_a_slow_change_shows_that_it_lives(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line again while a chunk takes long."""
    monkeypatch.setattr(bulk, "HEARTBEAT", 0.01)
    chunks = Chunks(await queue_ids(served, 1))
    monkeypatch.setattr(served.spool, "each", chunks)
    reader, writer = await stream(served, "hold")
    assert 1 == len({await chunk(reader) for _ in range(3)})
    chunks.go.release()
    while not json.loads(await chunk(reader)).get("done"):
        pass
    writer.close()


@pytest.mark.parametrize("streamed", [True, False])
async def test_who_goes_away_stops_the_work_between_two_chunks(served: Served, monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    """The chunk under way is ended and logged; the next one is not begun."""
    monkeypatch.setattr(bulk, "HEARTBEAT", 0.01)
    chunks = Chunks(await queue_ids(served, 3))
    monkeypatch.setattr(served.spool, "each", chunks)
    if streamed:
        _, writer = await stream(served, "hold")
    else:
        _, writer = await asyncio.open_unix_connection(served.unix)
        writer.write(
            b"POST /api/v1/queue/hold HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
    acting = served.admin._api._acting
    async with asyncio.timeout(10):
        while not chunks.asked:
            assert 200 == (await served.ask("GET", "/healthz"))[0]
        writer.close()
        [under_way] = acting._under_way.values()
        while not under_way._stopping:
            assert 200 == (await served.ask("GET", "/healthz"))[0]
        chunks.go.release()
        await acting.ended()
    assert (1, [chunks.ids[0]]) == (chunks.asked, [line["queue_id"] for line in served.journal.found("put_on_hold")])


async def test_the_end_of_the_daemon_stops_the_work_between_two_chunks(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool is closed only after the chunk under way; who asked is told that it is not done."""
    chunks = Chunks(await queue_ids(served, 3))
    monkeypatch.setattr(served.spool, "each", chunks)
    reader, writer = await stream(served, "hold")
    assert 0 == json.loads(await chunk(reader))["recipients"]
    stopping = asyncio.create_task(served.admin.stop())
    [under_way] = served.admin._api._acting._under_way.values()
    async with asyncio.timeout(10):
        while not under_way._stopping:
            assert not (await asyncio.wait({stopping}, timeout=0.01))[0]
        chunks.go.release()
        await stopping
    last = json.loads(await chunk(reader))
    assert (1, False, 1) == (last["recipients"], last["done"], chunks.asked)
    writer.close()


async def test_the_end_of_the_daemon_waits_for_no_spool_that_cannot_write(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that does not come to its end is cut off; who asked is told that it is not done."""
    monkeypatch.setattr(acting, "PATIENCE", 0.01)
    chunks = Chunks(await queue_ids(served, 1))
    monkeypatch.setattr(served.spool, "each", chunks)
    reader, writer = await stream(served, "hold")
    await chunk(reader)
    [under_way] = served.admin._api._acting._under_way.values()
    async with asyncio.timeout(10):
        served.admin._api.end()
        await served.admin._api.ended()
    assert (True, True, False) == (under_way.over, under_way.stopped, json.loads(await chunk(reader))["done"])
    writer.close()


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [(SpoolError("disk trouble"), 503, "disk trouble"), (RuntimeError("secret"), 500, "internal error; the log has it")],
)
async def test_trouble_in_the_middle_says_how_far_it_came(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, text: str
) -> None:
    """In a plain answer, and in the last line of one that tells how far it is."""
    chunks = Chunks(await queue_ids(served, 1), error)
    monkeypatch.setattr(served.spool, "each", chunks)
    chunks.go.release()
    found, answer, _ = await served.ask("POST", "/api/v1/queue/hold", {})
    assert (status, f"{text}; 1 recipient was changed before") == (found, answer["error"])
    assert (status == 500) == bool(served.journal.found("bug"))
    reader, writer = await stream(served, "hold")
    chunks.go.release()
    last: dict[str, object] = {}
    while "error" not in last:
        last = json.loads(await chunk(reader))
    assert (text, 1) == (last["error"], last["recipients"])
    writer.close()


async def test_other_requests_are_answered_while_many_lines_are_logged(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long chunk gives way now and then: its lines and a question asked meanwhile are written in turns."""
    monkeypatch.setattr(bulk, "_LINES", 1)

    async def many(*_: object) -> AsyncIterator[Sequence[Changed]]:
        yield [Changed(f"{number:014X}", 1, ended=True) for number in range(50)]

    turns: list[int] = []

    async def count() -> None:
        while len(served.journal.found("deleted")) < 50:
            turns.append(len(served.journal.found("deleted")))
            await asyncio.sleep(0)

    monkeypatch.setattr(served.spool, "each", many)
    await served.store("a@example.net")
    counting = asyncio.create_task(count())
    assert 50 == await acted(served, "delete", {})
    await counting
    assert len({*turns}) > 25
    assert 50 == len(served.journal.found("removed"))


# Providers.


async def test_an_admin_pauses_and_resumes_a_provider(served: Served) -> None:
    """The answer is how it stands then, and whether that is new."""
    served.providers = [Provider("ses"), Provider("eu/1")]
    _, answer, _ = await served.ask("POST", "/api/v1/providers/ses/pause", {"why": " moving "})
    provider = answer["provider"]
    assert (True, "paused", True, "paused by an admin: moving", "relay provider resume ses") == (
        answer["changed"],
        *(provider[key] for key in ("state", "by_admin", "reason", "mend")),
    )
    assert None is provider["until"]
    assert False is (await served.ask("POST", "/api/v1/providers/ses/pause", {}))[1]["changed"]
    _, answer, _ = await served.ask("POST", "/api/v1/providers/ses/resume", {})
    assert (True, "up", False) == (answer["changed"], answer["provider"]["state"], answer["provider"]["by_admin"])
    assert False is (await served.ask("POST", "/api/v1/providers/ses/resume", {}))[1]["changed"]


async def test_what_waits_for_a_provider_that_an_admin_paused_says_so(served: Served) -> None:
    """The reason an admin gave is what is told, not the last reply."""
    served.providers = [Provider("ses", "paused", "moving", by_admin=True)]
    entry = await served.store("a@example.net")
    await served.spool.claim(NOW, 10, 60)
    await served.spool.wait(entry.queue_id, ["a@example.net"], "ses", NOW + 86400, "ses", "default")
    _, answer, _ = await served.ask("GET", f"/api/v1/queue/{entry.queue_id}")
    assert "waits for ses: paused by an admin: moving" == answer["recipients"][0]["delay_reason"]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("sess/pause", {}, 404, 'no provider is named "sess" (did you mean "ses"?); configured: ses'),
        ("sess/resume", {}, 404, 'no provider is named "sess" (did you mean "ses"?); configured: ses'),
        ("ses/pause", {"reason": "x"}, 400, "unknown key reason; known: why"),
        ("ses/pause", {"why": "\x1b[2J"}, 400, "why wants one line of text"),
        ("ses/resume", {"why": "x"}, 400, "unknown key why; this call takes none"),
        ("ses/stop", {}, 404, "no such call"),
    ],
)
async def test_a_pause_that_is_not_understood_changes_nothing(served: Served, path: str, body: object, status: int, text: str) -> None:
    """The name and each key are looked at first."""
    served.providers = [Provider("ses")]
    found, answer, _ = await served.ask("POST", f"/api/v1/providers/{path}", body)
    assert status == found
    assert text in answer["error"]
    assert [Provider("ses")] == served.providers
