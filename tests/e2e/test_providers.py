"""Every message of ours through every provider and mode: in by SMTP, out by a daemon to servers in the providers' place.

Each recipient gets it exactly once, or its sender a bounce that says why not. What arrives is compared with what was handed in by
the standard library's parser: by an API each file octet for octet and each text as its charset has it; by SMTP, and where an API
takes messages as they are, every part, and what is signed or encrypted octet for octet. With `-s` a table is printed.
"""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from email import message_from_bytes, message_from_string
from email.header import decode_header
from pathlib import Path

import pytest

from tests import apis
from tests.apis import Account, Taken
from tests.e2e.processes import DEADLINE, Daemon, Host, host
from tests.messages import HARD, Sample, ours
from tests.servers import HttpServer, Mail, SmtpServer, ca_file, server_tls
from tests.transports.test_payloads import Handed, difference, read_otherwise

pytestmark = pytest.mark.e2e

SECRET, KEY_ID = "not-a-real-secret-0000", "AKIAFAKEFAKEFAKE0000"

SPOILT = HARD | {"signed", "invite", "blocked"}
"""What an API that rebuilds mail would spoil; `blocked` has two authors."""
TEMPLATES = frozenset({"template", "template-controls"})
SES_FILES, POSTMARK_FILES = frozenset({"blocked", "blocked-exe", "blocked-js"}), frozenset({"blocked", "blocked-exe"})
SHOWN_INSIDE = frozenset({"related", "nested", "long-content-id", "invoice"})
PAUBOX = SPOILT | SHOWN_INSIDE | {"thread", "reply-to-several"}
MAILTRAP = SPOILT | {"empty-file"}
MANY = frozenset({"three-hundred"})
"""What would take many requests of an API that takes 50 or 100 recipients in each."""
LISTED = frozenset({"ses-controls"})
"""What asks for a contact list, which only Amazon SES has."""
TWO_AUTHORS = frozenset({"several-from", "blocked"})

CONTROL = ("x-ses-", "x-pm-", "x-mt-", "x-relay-")

# What a bounce says, at least; alternatives divided by |.
WHY: Mapping[str, str] = {
    **dict.fromkeys(("smime-signed", "pgp-signed", "signed"), "the signature of multipart/signed would break"),
    **dict.fromkeys(("calendar", "invite"), "a calendar entry (text/calendar)"),
    "several-from": "more than one From address",
    "blocked": "setup.EXE|more than one From address",
    **dict.fromkeys(SHOWN_INSIDE, "a picture or file shown inside the HTML becomes an attachment"),
    **dict.fromkeys(TEMPLATES, "template"),
    **dict.fromkeys(LISTED, "the contact list"),
    "pgp-encrypted": "multipart/encrypted cannot be rebuilt",
    "smime-encrypted": "S/MIME (application/pkcs7-mime) cannot be rebuilt",
    "amp": "the AMP form (text/x-amp-html)",
    "content-location": "a picture or file that the HTML refers to by Content-Location",
    "report": "multipart/report (a delivery report or the like)",
    "thread": "In-Reply-To and References are left out",
    "reply-to-several": "of several Reply-To addresses only the first",
    "empty-file": "the file empty.dat is left out",
    "blocked-exe": "takes no attachment of type .exe (setup.exe)",
    "blocked-js": "takes no attachment of type .js (run.js)",
}


@dataclass(frozen=True)
class Door:
    """A configured provider. `login` is its name and password by SMTP, none where there is no SMTP; `by_smtp` are the messages
    that go there, of all that are not `bounced`."""

    mode: str
    section: str
    bounced: frozenset[str]
    by_smtp: frozenset[str] = frozenset()
    login: tuple[str, str] | None = None
    own_fields: str = ""  # what may stand in the header of a mail by SMTP


Names = frozenset[str]
EVERYTHING = frozenset(sample.name for sample in ours())
_SES = f"type: ses, region: eu-west-1, access_key_id: {KEY_ID}, secret_access_key: {SECRET}, limits: {{rate: off, daily: off}}"
_POSTMARK, _TRAP = (f"type: {kind}, token: {SECRET}" for kind in ("postmark", "mailtrap"))
_PAUBOX = f"type: paubox, api_key: {SECRET}, username: clinic, batch: {{max: 50}}"
_SANDBOX = f"{_TRAP}, stream: sandbox, sandbox_id: 4711, username: box-fake, password: {SECRET}"
_LOW = f"type: lowcodeapi, token: at_{SECRET}, limits: {{concurrency: 4, rate: off}}"


def three(
    section: str,
    spoilt: Names,
    refused: Names,
    login: tuple[str, str],
    own: str,
    *,
    templates: bool,
    stream: str = "",
    better: Names = frozenset(),
) -> list[Door]:
    """A provider by its API, by SMTP and by both. `spoilt` is what its API would spoil, `refused` what it takes by neither, and
    `better` what SMTP carries better."""
    asked = frozenset() if templates else TEMPLATES
    return [
        Door(f"{stream}api", f"{section}, mode: api", spoilt | refused | asked),
        Door(f"{stream}smtp", f"{section}, mode: smtp", refused | TEMPLATES, EVERYTHING, login, own),
        Door(f"{stream}auto", section, refused | asked, (spoilt - refused) | better, login, own),
    ]


DOORS: Mapping[str, Sequence[Door]] = {
    "ses": [
        Door("api, raw", f"{_SES}, mode: api", SES_FILES),
        Door("api, simple", f"{_SES}, content_mode: simple", SES_FILES),
        Door("smtp", f"{_SES}, mode: smtp, smtp_password: {SECRET}", SES_FILES | TEMPLATES, EVERYTHING, (KEY_ID, SECRET), "x-ses-"),
    ],
    "mailtrap": [
        *three(_TRAP, MAILTRAP, LISTED, ("api", SECRET), "x-mt-", templates=False),
        *three(f"{_TRAP}, stream: bulk", MAILTRAP, LISTED, ("api", SECRET), "x-mt-", templates=False, stream="bulk, "),
        *three(_SANDBOX, MAILTRAP, LISTED, ("box-fake", SECRET), "x-mt-", templates=False, stream="sandbox, "),
    ],
    "postmark": three(_POSTMARK, SPOILT, POSTMARK_FILES | TWO_AUTHORS | LISTED, (SECRET, SECRET), "x-pm-", templates=True, better=MANY),
    "paubox": three(_PAUBOX, PAUBOX, LISTED, ("apikey", SECRET), "x-relay-id", templates=True, better=MANY),
    "lowcodeapi": [
        Door("auto", _LOW, SES_FILES | TWO_AUTHORS),
        Door("raw", f"{_LOW}, content_mode: raw", SES_FILES | TWO_AUTHORS),
    ],
}
ACCOUNTS: Mapping[str, type[Account]] = {
    "ses": apis.Ses,
    "mailtrap": apis.Mailtrap,
    "postmark": apis.Postmark,
    "paubox": apis.Paubox,
    "lowcodeapi": apis.LowCode,
}


@dataclass
class Way:
    """One door with its servers, and what came of each message by queue id."""

    door: Door
    account: Account
    api: HttpServer
    smtp: SmtpServer
    handed_in: dict[str, Sample] = field(default_factory=dict)

    def section(self, kind: str, ca: str) -> str:
        """The provider in the configuration."""
        url = f"{self.api.url}/v1/{{username}}" if kind == "paubox" else self.api.url
        settings = [self.door.section]
        if not self.door.section.endswith("mode: smtp") and "mode: smtp," not in self.door.section:
            settings.append(f'base_url: "{url}"')
        if self.door.login:
            settings.append(f'host: localhost, port: {self.smtp.port}, ca_file: "{ca}"')
        return f"{{{', '.join(settings)}}}"


async def ways(stack: AsyncExitStack, kind: str) -> list[Way]:
    """Servers for each door of a provider."""
    found = []
    for door in DOORS[kind]:
        account = ACCOUNTS[kind]({"ses": KEY_ID, "lowcodeapi": f"at_{SECRET}"}.get(kind, SECRET))
        api = await stack.enter_async_context(HttpServer(account))
        smtp = SmtpServer(users=dict([door.login or ("", "")]), starttls=server_tls())
        found.append(Way(door, account, api, await stack.enter_async_context(smtp)))
    return found


def configure(here: Host, kind: str, found: Sequence[Way]) -> None:
    """A listener, a provider and a route for each way."""
    ca = ca_file(here.directory)
    numbers = range(len(found))
    here.config.write_text(
        "hostname: relay.example.com\n"
        "listen:\n"
        + "".join(f'  - {{name: l{number}, address: "127.0.0.1:0"}}\n' for number in numbers)
        + "providers:\n"
        + "".join(f"  p{number}: {way.section(kind, ca)}\n" for number, way in enumerate(found))
        + "routes:\n"
        + "".join(f"  - {{name: r{number}, match: {{listener: l{number}}}, via: p{number}}}\n" for number in numbers)
        + "  - {name: default, via: p0}\n"
        f'queue: {{spool: "{here.directory}/spool", min_free: 1MB}}\n'
        f'admin: {{listen: "unix:{here.directory}/admin.sock"}}\n'
    )
    here.config.chmod(0o600)


def hand_in(port: int, samples: Iterable[Sample]) -> dict[str, Sample]:
    """Each message with its envelope, by the standard library's client over one connection; queue id -> message."""
    accepted = {}
    with smtplib.SMTP("127.0.0.1", port, local_hostname="app.example.com", timeout=DEADLINE) as client:
        client.ehlo()
        for sample in samples:
            assert 250 == client.mail(sample.reverse_path)[0]
            assert {250} == {client.rcpt(recipient)[0] for recipient in sample.recipients}
            code, said = client.data(sample.data)
            assert 250 == code, said
            accepted[said.decode().rpartition(" ")[2]] = sample
    return accepted


async def finished(daemon: Daemon) -> None:
    """Until all that was ever in the queue is out of it."""
    entered, removed = r" (\w{14})(?=: from=<|$)", r" (\w{14})(?=: removed$)"  # a notice is named at the end of a line
    async with asyncio.timeout(4 * DEADLINE):  # there are many, and the machine may be busy
        while True:
            text = "\n".join(daemon.lines)
            if set(re.findall(entered, text, re.M)) <= set(re.findall(removed, text, re.M)):
                return
            await daemon.lines_with(": removed", text.count(": removed") + 1)


# --- what arrived ---


@dataclass(frozen=True)
class Arrival:
    """A message as a server got it: as it is (`raw`), or in parts (`taken`). `problem` is what was wrong with the way it came."""

    queue_id: str
    recipients: tuple[str, ...]
    raw: bytes = b""
    taken: Taken | None = None
    by_smtp: bool = False
    problem: str = ""


def by_smtp(mail: Mail) -> Arrival:
    """A message that came by SMTP."""
    recipients = tuple(rcpt.decode().partition(" ")[0].strip("<>") for rcpt in mail.rcpts)
    problem = "" if mail.encrypted and mail.username else "came without TLS or login"
    return Arrival(apis.received_as(mail.message), recipients, mail.message, by_smtp=True, problem=problem)


def by_api(taken: Taken) -> Arrival:
    """A message that came by an API."""
    return Arrival(taken.queue_id, taken.recipients, taken.raw, taken)


def notice_of(arrival: Arrival) -> tuple[str, str]:
    """The queue id that a bounce is about, and what it says, white space put right."""
    text = arrival.taken.text if arrival.taken else ""
    if arrival.raw:
        first = next(part for part in message_from_bytes(arrival.raw).walk() if part.get_content_type() == "text/plain")
        content = first.get_payload(decode=True)
        assert isinstance(content, bytes)
        text = content.decode()
    found = re.search(r"Queue id: +(\w{14})", text)
    assert found, text
    return found[1], " ".join(text.split())


def parts(message: bytes) -> list[tuple[str, object]]:
    """Type and decoded octets of every part that has no others."""
    leaves = [part for part in message_from_bytes(message).walk() if not part.is_multipart()]
    return [(part.get_content_type(), part.get_payload(decode=True)) for part in leaves]


def subject(message: bytes) -> str:
    """The Subject as people read it."""
    value = message_from_string(message.decode("utf-8", "replace"))["Subject"]  # a PHP form writes raw UTF-8
    read = [word if isinstance(word, str) else word.decode(charset or "raw_unicode_escape") for word, charset in decode_header(value or "")]
    return " ".join("".join(read).split())


def as_it_was(raw: bytes, sample: Sample, own_fields: str) -> str:
    """What is wrong with a message that should have arrived as it is."""
    head, _, body = sample.data.partition(b"\r\n\r\n")
    if re.search(rb"multipart/(?:signed|encrypted)|pkcs7-mime", head) and not raw.endswith(b"\r\n\r\n" + body):
        return "a protected body was changed"
    if parts(sample.data) != parts(raw):
        return "a part was changed"
    names = [name.lower() for name in message_from_bytes(raw)]
    control = [name for name in names if name.startswith(CONTROL) and not name.startswith(own_fields or "-")]
    return f"{control} arrived" if control or "bcc" in names else ""


def taken_apart(taken: Taken, sample: Sample) -> str:
    """What is wrong with a message that an API was handed in parts."""
    if sample.name in TEMPLATES:
        return "" if taken.template and not taken.text else "no template"
    said = " ".join(taken.subject.split())
    if said not in (subject(sample.data), "(no subject)"):
        return f"the Subject is {said!r}"
    return "" if read_otherwise(sample) else difference(sample.data, Handed(taken.text, taken.html, taken.files))


def whole(arrival: Arrival, sample: Sample, door: Door) -> str:
    """What is wrong with a message as it arrived."""
    if arrival.problem:
        return arrival.problem
    if arrival.taken and not arrival.raw:
        return taken_apart(arrival.taken, sample)
    return as_it_was(arrival.raw, sample, door.own_fields if arrival.by_smtp else "")


def told_rightly(text: str, sample: Sample, door: Door) -> str:
    """What is wrong with what the sender was told, or was not."""
    should = sample.name in door.bounced and sample.reverse_path
    if bool(text) != bool(should):
        return f"{sample.name}: told: {text!r}"
    return f"{sample.name}: {text}" if should and not any(why in text for why in WHY[sample.name].split("|")) else ""


def judged(way: Way) -> tuple[list[str], dict[str, set[str]]]:
    """Everything that is not as it should be with what arrived by a door, and which messages went which way."""
    wrong: list[str] = []
    got: Counter[tuple[str, str]] = Counter()
    told: dict[str, str] = {}
    went: dict[str, set[str]] = {"api": set(), "smtp": set(), "bounced": set()}
    for arrival in [*map(by_api, way.account.taken), *map(by_smtp, way.smtp.mails)]:
        sample = way.handed_in.get(arrival.queue_id)
        if sample:
            went["smtp" if arrival.by_smtp else "api"].add(sample.name)
            got.update((arrival.queue_id, recipient) for recipient in arrival.recipients)
            problem = whole(arrival, sample, way.door)
            wrong += [f"{sample.name}: {problem}"] if problem else []
        else:
            about, text = notice_of(arrival)
            assert about not in told
            assert (way.handed_in[about].reverse_path,) == arrival.recipients
            told[about] = text
            went["bounced"].add(way.handed_in[about].name)
    carried = {queue_id: sample for queue_id, sample in way.handed_in.items() if sample.name not in way.door.bounced}
    should = Counter({(queue_id, recipient): 1 for queue_id, sample in carried.items() for recipient in sample.recipients})
    wrong += [f"{way.handed_in[queue_id].name}: for {to} {got[queue_id, to]} times" for queue_id, to in (should - got) + (got - should)]
    wrong += filter(None, (told_rightly(told.get(queue_id, ""), sample, way.door) for queue_id, sample in way.handed_in.items()))
    other = went["smtp"] ^ ((EVERYTHING - way.door.bounced) & way.door.by_smtp)
    return wrong + ([f"by the other way: {sorted(other)}"] if other else []), went


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    """A host with an empty directory."""
    async with host(tmp_path) as result:
        yield result


@pytest.mark.parametrize("kind", DOORS)
async def test_every_message_by_every_door(here: Host, kind: str) -> None:
    """Each recipient once, whole, by the way that carries it; or a bounce by the same provider that says why not."""
    samples = ours()
    async with AsyncExitStack() as stack:
        found = await ways(stack, kind)
        configure(here, kind, found)
        daemon = await here.serve()
        ready = await daemon.line(r"ready: mail at (.*?);")
        ports = [int(port) for port in re.findall(r"l\d+ 127\.0\.0\.1:(\d+)", ready[1])]
        handed_in = await asyncio.gather(*(asyncio.to_thread(hand_in, port, samples) for port in ports))
        for way, accepted in zip(found, handed_in, strict=True):
            way.handed_in = accepted
        await finished(daemon)
    wrong: dict[str, list[str]] = {}
    print(f"\n{'provider':<11} {'mode':<28} messages  requests  carried  by SMTP  bounced")
    for way in found:
        mode, (problems, went) = way.door.mode, judged(way)
        counts = (len(samples), way.account.posts, len(went["api"] | went["smtp"]), len(went["smtp"]), len(went["bounced"]))
        print(f"{kind:<11} {mode:<26}", *(f"{count:9}" for count in counts), sep="")
        wrong |= {mode: problems} if problems else {}
        paths = {taken.path for taken in way.account.taken}
        assert kind in ("ses", "lowcodeapi") or "smtp" in mode or any("batch" in path or "bulk" in path for path in paths)
        assert "sandbox" not in mode or {"/api/send/4711", "/api/batch/4711"} >= paths
    assert {} == wrong
    assert not [line for line in daemon.lines if "panic" in line or "paused" in line or "status=deferred" in line]
    assert not [line for line in daemon.lines if SECRET in line]
