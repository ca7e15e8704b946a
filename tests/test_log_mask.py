"""Masks: a canary that is part of an address is in no output, whatever said it; what is no address stays."""

from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import log
from relay.log.masks import Mask
from relay.model import Client, Outcome, Verdict
from tests.logs import CLIENT, ID, ID2, SENT, attempt, events, objects, texts, undone

CANARY = "canary.0000"
ADDRESS = f"{CANARY}@example.net"
SAID = f"550 5.1.1 <{ADDRESS}>: Recipient address rejected; see https://example.org/?who={CANARY}%40example.net"
CALLS: list[Callable[[log.Events], None]] = [
    lambda e: e.accepted(ID, Client("local", "192.0.2.1", helo=ADDRESS, username=ADDRESS)),
    lambda e: e.queued(ID, ADDRESS, 10, 1),
    lambda e: e.attempt(
        ID, ADDRESS, Outcome(Verdict.PERM_RCPT, "5.1.1", SAID, "x"), provider="ses", route="r", delay=1, orig_to=ADDRESS.upper()
    ),
    lambda e: e.maybe_twice(ID, [ADDRESS, ADDRESS], "ses", SAID),
    lambda e: e.held(ID, ADDRESS, SAID),
    lambda e: e.expired(ID, ADDRESS, [ADDRESS]),
    lambda e: e.bounced_to(ID, ID2, ADDRESS),
    lambda e: e.delay_told(ID, ID2, ADDRESS),
    lambda e: e.success_told(ID, ID2, ADDRESS),
    lambda e: e.double_bounce(ID, [ADDRESS], SAID),
    lambda e: e.corrupt(ID, SAID),
    lambda e: e.rejected(CLIENT, "RCPT", SAID, ADDRESS, [ADDRESS], ADDRESS),
    lambda e: e.rejected(CLIENT, "RCPT", "553 5.1.3 no", CANARY, [f'"{CANARY} <a> b"@x']),
    lambda e: e.login_failed(CLIENT, "PLAIN", ADDRESS, SAID),
    lambda e: e.paused("ses", SAID, 1, SAID),
    lambda e: e.identity_paused("ses", f"address={ADDRESS}", SAID, 1, SAID),
    lambda e: e.throttled("ses", SAID, 1.0),
    lambda e: e.suspected("ses", f"address={ADDRESS}", ID, SAID),
    lambda e: e.paused_by_admin("ses", SAID, 1),
    lambda e: e.quota_unread("ses", SAID),
    lambda e: e.stepped_back("bulk", SAID, "1", "2"),
    lambda e: e.shadowed(ID, "ses", "default", [SAID], []),
    lambda e: e.shadowed(ID, "ses", "default", [], [SAID]),
    lambda e: e.shadow_answered(ID, "ses", SAID, False),
    lambda e: e.spilled(ID, "ses", "b", SAID),
    lambda e: e.bounced_by_admin(ID, 1, SAID),
    lambda e: attempt(e, SENT, redirected=ADDRESS),
    lambda e: e.spool_trouble(SAID),
    lambda e: e.starting(SAID),
    lambda e: e.reload_refused([SAID, SAID]),
    lambda e: e.warning(SAID),
    lambda e: e.bug("x", ValueError(f"no\n{ADDRESS}")),
    lambda e: logging.getLogger("asyncio").error("to %s", ADDRESS, exc_info=ValueError(ADDRESS)),
]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; everything is put back afterwards."""
    with undone():
        yield io.StringIO()


@pytest.mark.parametrize("mask", ["local", "full"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_the_canary_is_nowhere(stream: io.StringIO, form: str, mask: str) -> None:
    """In no line of any event; the domain stays with `local` and goes with `full`."""
    to = events(stream, form=form, mask=mask)
    for call in CALLS:
        call(to)
    found = stream.getvalue()
    assert CANARY not in found.lower()
    assert len(CALLS) <= found.count("*")
    assert (mask == "local") == ("example.net" in found.lower())


async def test_the_canary_is_in_no_tail_and_no_journal(stream: io.StringIO, tmp_path: Path) -> None:
    """What follows the log and what the journal gets are masked as well."""
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        with log.setup(stream=stream, environ={}, form="journald", mask="local", journal=path).subscribe() as lines:
            for call in CALLS:
                call(log.Events())
                entry = journal.recv(100_000)
                assert CANARY.encode() not in entry.lower()
                assert b"*@example.net" in entry.lower() or b"=<*>" in entry
                line = json.loads(await anext(lines))
                assert CANARY not in str(line).lower()
                assert "*" in str(line)


def test_without_a_mask_everything_is_told(stream: io.StringIO) -> None:
    """`none`, the default, changes nothing."""
    to = events(stream, mask="none")
    for call in CALLS:
        call(to)
    assert len(CALLS) <= stream.getvalue().lower().count(CANARY)


def test_masked_lines_keep_their_shape(stream: io.StringIO) -> None:
    """So that what reads Postfix's lines still reads them."""
    to = events(stream, mask="local")
    to.queued(ID, "app@example.com", 10, 1)
    to.queued(ID, "", 10, 1)
    attempt(to, Outcome(Verdict.RETRY, "4.2.1", "450 <a@example.net>, b@example.org: busy", "mx[192.0.2.1]:25"), orig_to="A@example.net")
    assert [
        f"relay/qmgr: {ID}: from=<*@example.com>, size=10, nrcpt=1 (queue active)",
        f"relay/qmgr: {ID}: from=<>, size=10, nrcpt=1 (queue active)",
        f"relay/ses: {ID}: to=<*@example.net>, orig_to=<*@example.net>, relay=mx[192.0.2.1]:25, delay=0.84, delays=0.02/0.01/0.31/0.5, "
        "dsn=4.2.1, status=deferred (450 <*@example.net>, *@example.org: busy)",
    ] == texts(stream)


def test_what_is_no_address_stays(stream: io.StringIO) -> None:
    """Message-IDs, the providers' ids, IP addresses, and the numbers of an attempt."""
    to = events(stream, form="json", mask="full")
    to.message_id(ID, "<one@web1>")
    attempt(to, Outcome(Verdict.OK, "2.0.0", "250 ok", "mx[192.0.2.1]:25", remote_id="<two@ses>"))
    to.accepted(ID, CLIENT)
    told, sent, accepted = objects(stream)
    assert "<one@web1>" == told["message_id"]
    assert ("<two@ses>", "*", [0.02, 0.01, 0.31, 0.5]) == (sent["remote_id"], sent["recipient"], sent["delays"])
    assert "127.0.0.1" == accepted["client"]
    stream.truncate(0)
    stream.seek(0)
    events(stream, mask="full").message_id(ID, "<one@web1>")
    assert [f"relay/cleanup: {ID}: message-id=<one@web1>"] == texts(stream)


def test_a_text_cut_off_leaves_no_part_of_an_address(stream: io.StringIO) -> None:
    """A reply that is too long is cut between two words."""
    attempt(events(stream, mask="local"), Outcome(Verdict.RETRY, "4.0.0", "z" * 980 + f" to {ADDRESS} and more", "x"))
    assert "canary" not in stream.getvalue()
    assert "z to...)" in stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_secret_that_looks_like_an_address_is_blotted_out_whole(stream: io.StringIO, form: str) -> None:
    """The mask leaves no half of it, wherever it stands."""
    to = events(stream, form=form, mask="local", secrets=["fake@secret-0000", "fake%40secret-1111"])
    to.login_failed(CLIENT, "PLAIN", "fake@secret-0000")
    to.held(ID, "fake@secret-0000", "see https://example.org/?key=fake%40secret-1111 for fake@secret-0000")
    assert "secret-" not in stream.getvalue()
    assert "[secret]" in stream.getvalue()


def test_the_record_itself_is_left_alone(stream: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    """Other handlers see what was said."""
    to = events(stream, mask="full")
    caplog.set_level(logging.INFO, logger=log.LOGGER)
    attempt(to, SENT)
    (record,) = caplog.records
    assert "a@example.net" == vars(record)["fields"]["recipient"]
    assert "to=<a@example.net>" in record.msg


TEXTS = {
    "a@x b@y": ("*@x *@y", "* *"),
    "<a@x>,<b@y>;c@z": ("<*@x>,<*@y>;*@z", "<*>,<*>;*"),
    "mailto:a+b=c@example.net.": ("mailto:*@example.net.", "mailto:*"),
    '"a b\\" c"@x is full': ("*@x is full", "* is full"),
    "jürgen@müller.example": ("*@müller.example", "*"),
    "a@[192.0.2.1] [192.0.2.1]": ("*@[192.0.2.1] [192.0.2.1]", "* [192.0.2.1]"),
    "@ alone, x @ y": ("@ alone, x @ y", "@ alone, x @ y"),
    "a@b@c": ("*@*@c", "*@c"),
    "from=<a> to=<": ("from=<*> to=<", "from=<*> to=<"),
    "": ("", ""),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text(text: str) -> None:
    """Addresses are found in any surroundings."""
    assert TEXTS[text] == (Mask("local").text(text), Mask("full").text(text))


LOCAL = st.text("abzÄ0.!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=64).map(lambda text: f"{CANARY}{text}")
QUOTED = st.text('ab @<>,;:"\\.', max_size=20).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + CANARY + '"')


@given(st.one_of(LOCAL, QUOTED), st.sampled_from(["<{}>", "user {} unknown", "RCPT TO:<{}>", "({})", "[{}]", "x,{};", "mailto:{}", "{}"]))
@example('"canary.0000"', '"{}"')
def test_no_local_part_stays(local: str, around: str) -> None:
    """Whatever a local part may look like, quoted or not, and whatever stands around it."""
    said = around.format(f"{local}@example.net")
    assert CANARY not in Mask("local").text(said)
    assert CANARY not in Mask("full").text(said)


@given(st.text('ab@<>[]:;,.%40" \\\n=to', max_size=200))
def test_any_text_can_be_masked(text: str) -> None:
    """No text raises; one without an @ has no address unless it is one of our own."""
    for form in ("local", "full"):
        masked = Mask(form).text(text)
        assert masked == text or "@" in text or "%40" in text or "=<" in text


@pytest.mark.timeout(10)
def test_masking_takes_time_in_proportion() -> None:
    """No text makes it slow: runs of what an address may begin with, and never an @ at the right place."""
    for text in ("a" * 200_000, "a." * 100_000 + " @", '"\\"' * 60_000 + "@ ", "@" * 200_000, "to=<" * 50_000):
        for form in ("local", "full"):
            Mask(form).text(text + "@")
