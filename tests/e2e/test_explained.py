"""What `relay explain` says of a mail is what the daemon then does with it: rules and mails at random, kept by capture providers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import re
import smtplib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay import header, users
from relay.cli.main import main
from tests.e2e.processes import Host, host

pytestmark = pytest.mark.e2e

MAILS = 40
PROVIDERS = ("a", "b", "c")
HOLE = "hole"
LISTENERS = ("local", "lan", "app")  # lan obeys no control headers, app wants a login
USERS, PASSWORD = ("app1", "apikey"), "not-a-real-password"
QA = "qa@example.com"
PEOPLE = (
    *(
        "ann@example.com",
        "Bob@Example.NET",
        "carol@sub.example.com",
        "dave@notexample.com",
        '"u 2"@example.org',
        '"u1"@example.net',
        "postmaster",
    ),
    *(f"u{number}@example.net" for number in range(6)),
)
SENDERS = ("", "app@example.com", "Shop@shop.example.com", "root@web1.example.com", "news@example.org")
FIELDS: Mapping[str, Sequence[str]] = {
    "Subject": ("hello", "Your CODE is 1234", "=?utf-8?q?Your_code?=", "=?utf-8?b?Z3LDvMOfZQ==?="),
    "List-Unsubscribe": ("<https://example.com/u>",),
    "X-PM-Message-Stream": ("broadcast", "outbound"),
    "X-PM-Tag": ("inv-7", "welcome"),
    "X-PM-Metadata-Campaign": ("may",),
    "X-SES-Configuration-Set": ("news",),
    "X-MT-Category": ("inv-8",),
}


@dataclass(frozen=True)
class Mail:
    """A mail as a client hands it in."""

    listener: str
    client: str
    user: str
    sender: str
    recipients: Sequence[str]
    data: bytes


class Chance:
    """Rules and mails, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def some(self, items: Sequence[str], most: int = 3) -> list[str]:
        """One to `most` of them, each once."""
        return self.random.sample(items, self.random.randint(1, min(most, len(items))))

    def conditions(self) -> dict[str, Any]:
        """One or two conditions."""
        globs = ["*@example.com", "*@*.example.com", "*example.com", "u?@example.net", "U[1-3]@*", "*", "bob@example.net", "*@example.org"]
        kinds: dict[str, Callable[[], Any]] = {
            "from": lambda: self.some(["<>", "*@example.com", "shop@*", "root@*", "*"]),
            "header_from": lambda: self.some(["*@example.com", "news@example.org", "*@shop.example.com"]),
            "to": lambda: self.some(globs),
            "client": lambda: self.some(["127.0.0.1", "127.0.0.0/30", "10.0.0.0/8"]),
            "user": lambda: self.some(["app*", "apikey", "*"]),
            "listener": lambda: self.some(LISTENERS),
            "header": lambda: {self.random.choice(list(FIELDS)): self.some(["*", "*code*", "hello", "grü?e", "broadcast"])},
            "directive": lambda: {
                self.random.choice(["stream", "tag", "metadata.campaign", "configuration_set"]): self.some(["broadcast", "inv-*", "*"])
            },
            "larger": lambda: "2kB",
            "smaller": lambda: "4kB",
        }
        return {key: kinds[key]() for key in self.some(list(kinds), 2)}

    def ways(self) -> dict[str, Any]:
        """via, split or ramp, and what may stand beside."""
        others = self.random.sample(PROVIDERS, 3)
        sticky = {"sticky": self.random.choice(["recipient", "sender"])}
        guards: list[dict[str, Any]] = [
            *({} for _ in range(4)),
            {"redirect": QA},
            {"capture": HOLE},
            {"allow_recipients": ["*@example.com", "u[1-3]@*"]},
            {"allow_recipients": ["*@example.net"], "redirect": QA},
            {"allow_recipients": "*@example.net", "capture": HOLE},
        ]
        chosen = self.random.choice(("via", "split", "ramp"))
        if chosen == "via":
            way: dict[str, Any] = {"via": others[: self.random.randint(1, 3)]}
        elif chosen == "split":
            way = {"split": {name: self.random.choice([0.5, 1, 7, 80]) for name in others[:2]}, "fallback": others[1:], **sticky}
        else:
            start = self.random.choice(["2026-01-01", "2036-12-01 06:00", "2016-01-01"])
            way = {"ramp": {"from": start, "over": "3650d", others[0]: "100..5", others[1]: "5..100"}, "fallback": [others[2]], **sticky}
        return way | self.random.choice(guards)

    def routes(self) -> list[dict[str, Any]]:
        """Some with conditions, and one that takes the rest."""
        found = []
        for number in range(self.random.randint(1, 6)):
            match = self.conditions()
            if self.random.random() < 0.4:
                match["not"] = self.conditions()
            found.append({"name": f"r{number}", "match": match, **self.ways()})
        return [*found, {"name": "rest", **self.ways()}]

    def mail(self, number: int) -> Mail:
        """One of them."""
        fields = {name: self.random.choice(FIELDS[name]) for name in self.some(list(FIELDS), 4)}
        sender = self.random.choice(SENDERS)
        fields["From"] = self.random.choice(
            [sender or "app@example.com", '"news@example.org" <app@example.com>', "a@b.example, news@example.org"]
        )
        fields["Message-ID"] = f"<{number}@example.com>"
        listener = self.random.choice(LISTENERS)
        block = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
        return Mail(
            listener,
            self.random.choice(["127.0.0.1", "127.0.0.2", "127.0.0.9"]),
            self.random.choice(USERS) if listener == "app" else "",
            sender,
            self.some(PEOPLE, 4),
            f"{block}\r\n{'x' * 70}\r\n".encode() + b"y\r\n" * self.random.choice([1, 700, 1500]),
        )


def configure(host: Host, routes: Sequence[Mapping[str, Any]]) -> None:
    """The configuration of a host with these routes; JSON is YAML."""
    file = host.directory / "users"
    file.write_text("".join(f"{name}:{users.hashed(PASSWORD, salt=b'sixteen octets..')}\n" for name in USERS))
    file.chmod(0o600)
    everywhere = {"address": "127.0.0.1:0"}
    whole = {
        "listen": [
            {"name": "local", **everywhere, "controls": ["relay", "postmark", "ses", "mailtrap"]},
            {"name": "lan", **everywhere, "controls": []},
            {"name": "app", **everywhere, "auth": str(file), "controls": ["postmark"]},
        ],
        "providers": {name: {"type": "capture"} for name in (*PROVIDERS, HOLE)},
        "queue": {"spool": str(host.directory / "spool"), "min_free": "1MB"},
        "admin": {"listen": f"unix:{host.directory}/admin.sock"},
        "routes": routes,
    }
    host.config.write_text(json.dumps(whole, indent=1))
    host.config.chmod(0o600)


def explained(host: Host, mail: Mail) -> Counter[tuple[str, str, str]]:
    """(recipient, provider, who gets it), as explain has it; provider "" where nobody does."""
    file = host.directory / "mail.eml"
    file.write_bytes(mail.data)
    words = ["explain", str(file), f"--from={mail.sender}", "--listener", mail.listener, "--client", mail.client, "--json"]
    words += [word for one in mail.recipients for word in ("--to", one)]
    words += ["--user", mail.user] if mail.user else []
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert 0 == main([*words, "-c", str(host.config)])
    found: Counter[tuple[str, str, str]] = Counter()
    for one in json.loads(out.getvalue())["recipients"]:
        guard = one["guard"] or {}
        assert bool(one["via"]) != bool(guard.get("refused"))
        instead = guard.get("redirect") or one["address"]
        found[one["address"], one["via"][0] if one["via"] else "", instead if one["via"] else ""] += 1
    return found


def hand_in(mails: Sequence[Mail], ports: Mapping[str, int]) -> None:
    """All of them, on one connection for each listener, client and user."""
    with contextlib.ExitStack() as stack:
        clients: dict[tuple[str, str, str], smtplib.SMTP] = {}
        for mail in mails:
            key = (mail.listener, mail.client, mail.user)
            if key not in clients:
                made = smtplib.SMTP("127.0.0.1", ports[mail.listener], timeout=30, source_address=(mail.client, 0))
                clients[key] = stack.enter_context(made)
                if mail.user:
                    made.login(mail.user, PASSWORD)
            assert {} == clients[key].sendmail(mail.sender, list(mail.recipients), mail.data)


def delivered(host: Host) -> dict[str, Counter[tuple[str, str, str]]]:
    """Message-ID -> what became of its recipients, by the files of the providers."""
    found: dict[str, Counter[tuple[str, str, str]]] = {}
    for name in (*PROVIDERS, HOLE):
        for file in (host.directory / "spool" / "capture" / name).glob("*.json"):
            about = json.loads(file.read_text())
            if about["bounce"]:
                continue
            block = header.cut(file.with_suffix(".eml").read_bytes())[0]
            mine = found.setdefault(about["headers"]["message-id"], Counter())
            originals = header.text(header.first(block, "x-original-recipient"))
            for one in re.split(r",\s*", originals) if originals else about["recipients"]:
                mine[one, name, QA if originals else one] += 1
    return found


async def compared(host: Host, seed: int, count: int) -> int:
    """Whether the two agree for rules and mails of this seed; how many recipients there were."""
    chance = Chance(seed)
    routes = chance.routes()
    configure(host, routes)
    checked = await host.relay("check")
    while checked.code:  # a route behind a wider one, say: such rules are not run
        routes = chance.routes()
        configure(host, routes)
        checked = await host.relay("check")
    daemon = await host.serve()
    ports = {name: int((await daemon.line(rf"{name} 127\.0\.0\.1:(\d+)"))[1]) for name in LISTENERS}
    mails = [chance.mail(number) for number in range(count)]
    expected = {f"<{number}@example.com>": await asyncio.to_thread(explained, host, mail) for number, mail in enumerate(mails)}
    await asyncio.to_thread(hand_in, mails, ports)
    await host.drained()
    found = delivered(host)
    refused = {name: Counter({key: number for key, number in of.items() if not key[1]}) for name, of in expected.items()}
    for name, of in expected.items():
        told = of - refused[name]
        assert told == found.get(name, Counter()), json.dumps([routes, repr(mails[int(name[1:].partition("@")[0])])], indent=1)
    assert 0 == await daemon.end()
    return sum(len(mail.recipients) for mail in mails)


@pytest.mark.parametrize("seed", range(3))
async def test_the_daemon_does_what_explain_says(tmp_path: Path, seed: int) -> None:
    """Each recipient's provider, redirect, capture and refusal."""
    async with host(tmp_path) as here:
        assert await compared(here, seed, MAILS) >= MAILS
