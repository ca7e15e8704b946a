"""Others who play Amazon SES, asked by the daemon itself: every message that Amazon takes is taken, and what they stored is what we sent.

moto and aws-ses-v2-local; what they are and are not is told in tests/transports/test_ses_oracles.py. Both by `content_mode` raw and simple.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from tests import apis
from tests.e2e.processes import Host, host
from tests.e2e.test_providers import DOORS, KEY_ID, SECRET, SPOILT, TEMPLATES, as_it_was, finished, hand_in, subject
from tests.messages import Sample, ours
from tests.transports.test_ses_oracles import local

pytestmark = pytest.mark.e2e

TWO_AUTHORS = {"several-from"}  # moto looks for the sender by parseaddr, which in some Pythons reads none where there are two
COUNTED_TWICE = {"three-hundred"}  # moto counts the recipients in a raw message's To and those of Destination together
DOMAINS = ("example.com", "web1.example.com", "xn--mller-kva.example")  # of the senders, and of our bounces


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with an empty directory."""
    async with host(tmp_path) as result:
        yield result


def imitated(here: Host, url: str) -> None:
    """SES in both modes at one server."""
    section = f'type: ses, region: us-east-1, access_key_id: {KEY_ID}, secret_access_key: {SECRET}, base_url: "{url}"'
    here.configure(
        f"{{raw: {{{section}}}, simple: {{{section}, content_mode: simple}}}}",
        "routes: [{name: raw, match: {from: [raw@example.com, <>]}, via: raw}, {name: default, via: simple}]\n"
        "bounce: {from: mailer-daemon@example.com}\n",
    )


async def imitation_takes(here: Host, url: str, raw: Sequence[Sample], simple: Sequence[Sample]) -> Sequence[dict[str, Sample]]:
    """Hand in messages for each mode; queue id -> message of those that are no bounce, all of them taken."""
    imitated(here, url)
    daemon = await here.serve()
    port = await daemon.port()
    found = []
    for name, samples in (("raw", raw), ("simple", simple)):
        sent = [replace(sample, reverse_path=f"{name}@example.com") for sample in samples]
        found.append(await asyncio.to_thread(hand_in, port, sent))
    await finished(daemon)
    assert [] == [line for line in daemon.lines if "status=" in line and "status=sent" not in line]
    return found


def carried_by(door: int) -> list[Sample]:
    """What Amazon SES takes in this mode; templates, of which others have none, left out."""
    return [sample for sample in ours() if sample.name not in DOORS["ses"][door].bounced | TEMPLATES]


async def test_moto_takes_what_the_daemon_sends(here: Host) -> None:
    """Identities verified first; what it stored is each message, octet for octet where it went as it is."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            await client.post("/moto-api/reset")
            scope = {"Authorization": "AWS4-HMAC-SHA256 Credential=A/20261120/us-east-1/ses/aws4_request, SignedHeaders=host, Signature=0"}
            for domain in DOMAINS:
                (await client.post("/v2/email/identities", headers=scope, json={"EmailIdentity": domain})).raise_for_status()
            whole = [sample for sample in carried_by(0) if sample.name not in COUNTED_TWICE | TWO_AUTHORS]
            parts = [sample for sample in carried_by(1) if sample.name not in TWO_AUTHORS]
            raw, simple = await imitation_takes(here, url, whole, parts)
            kept = (await client.get("/moto-api/data.json")).json()["ses"]
    finally:
        await asyncio.to_thread(server.stop)
    as_they_are = {apis.received_as(message["raw_data"].encode()): message["raw_data"].encode() for message in kept["RawMessage"]}
    assert {} == {sample.name: said for queue_id, sample in raw.items() if (said := as_it_was(as_they_are[queue_id], sample, ""))}
    rest = [sample for queue_id, sample in simple.items() if queue_id not in as_they_are]
    assert {subject(sample.data) or " " for sample in rest} == {" ".join(message["subject"].split()) or " " for message in kept["Message"]}
    assert SPOILT - {"blocked"} - TWO_AUTHORS == {simple[queue_id].name for queue_id in as_they_are if queue_id in simple} & SPOILT


LOCAL = os.environ.get("RELAY_SES_LOCAL", "")


@pytest.mark.skipif(not LOCAL, reason="RELAY_SES_LOCAL is not set: aws-ses-v2-local is not asked")
async def test_ses_local_takes_what_the_daemon_sends(here: Host) -> None:
    """A schema of the API that others wrote has nothing against any of it, and each mail is stored."""
    async with local() as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        raw, simple = await imitation_takes(here, url, carried_by(0), carried_by(1))
        stored = (await client.get("/store")).json()["emails"]
    handed_in = [*raw.values(), *simple.values()]
    shown = {" ".join((mail["subject"] or "").split()) for mail in stored} - {"(no subject)"}  # so it calls a mail without one
    assert {subject(sample.data) for sample in handed_in} - {""} == shown - {""}
    assert len(stored) >= len(handed_in)
