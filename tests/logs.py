"""Every event with its line, and where lines go in tests of the log."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import IO, Any

from relay import log
from relay.model import Client, Outcome, Verdict

ID, ID2 = "687E7641C64007", "687E7641C64008"
CLIENT = Client("local", "127.0.0.1", 4711, "localhost", "web1", "ESMTP")
SENT = Outcome(
    Verdict.OK, "2.0.0", "200 MessageId=010f0190-abc", "email.eu-west-1.amazonaws.com[203.0.113.7]:443", remote_id="010f0190-abc"
)
UNKNOWN = Outcome(Verdict.UNKNOWN, "4.4.2", "no answer after the message was sent", "mail.example.net[192.0.2.1]:25")
BOUNCED = Outcome(Verdict.PERM_RCPT, "5.1.1", "422 406 InactiveRecipient: inactive", "api.postmarkapp.com[203.0.113.8]:443")
OWN = Outcome(Verdict.PERM_MSG, "5.6.3", "no provider of the route can carry it", "relay", own=True)
NOON = 1_795_176_000.0
HOSTILE = "x\r\nNov 20 10:00:00 mx relay/qmgr[1]: \x1b[2J\x00\u2028\u202e>, relay=evil<"
PID = f"[{os.getpid()}]"


def event_of(name: str) -> str:
    """The event that a name of FORMS begins with."""
    return re.split("[ ,]", name)[0]


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """What `log.setup` changes is put back at the end."""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield
    finally:
        for handler in [handler for handler in root.handlers if handler not in before]:
            root.removeHandler(handler)
            handler.close()
        for name in (log.LOGGER, *log.NOISY):
            logging.getLogger(name).setLevel(logging.NOTSET)


def events(stream: IO[str], **options: Any) -> log.Events:
    """Events whose lines go to `stream`."""
    log.setup(stream=stream, environ={}, hostname="mx.example.com", **options)
    return log.Events()


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines as JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def texts(stream: io.StringIO) -> list[str]:
    """The lines without time, host and pid."""
    shape = re.compile(rf"[A-Z][a-z]{{2}} [ 1-3]\d \d\d:\d\d:\d\d mx (relay/[\w.-]+){re.escape(PID)}: (.*)")
    found = [shape.fullmatch(line) for line in stream.getvalue().splitlines()]
    return [f"{match[1]}: {match[2]}" if match else "?" for match in found]


def attempt(to: log.Events, outcome: Outcome, **options: Any) -> None:
    """What became of one recipient, with facts like any."""
    facts = {"provider": "ses", "route": "default", "delay": 0.84, "delays": (0.02, 0.01, 0.31, 0.5), **options}
    to.attempt(ID, "a@example.net", outcome, **facts)


TO_SES = "to=<a@example.net>, relay=email.eu-west-1.amazonaws.com[203.0.113.7]:443, delay=0.84, delays=0.02/0.01/0.31/0.5"
TO_MX = "to=<a@example.net>, relay=mail.example.net[192.0.2.1]:25, delay=0.84, delays=0.02/0.01/0.31/0.5"
# A name that begins with the event's -> the call, its text line, some of its facts.
FORMS: dict[str, tuple[Callable[[log.Events], None], str, dict[str, object]]] = {
    "accepted": (
        lambda e: e.accepted(ID, CLIENT),
        f"relay/smtpd: {ID}: client=localhost[127.0.0.1]",
        {"queue_id": ID, "client": "127.0.0.1", "client_name": "localhost", "listener": "local", "helo": "web1"},
    ),
    "accepted with login": (
        lambda e: e.accepted(ID, Client("local", "unix", username="app1")),
        f"relay/smtpd: {ID}: client=unknown[unix], sasl_username=app1",
        {"sasl_username": "app1"},
    ),
    "message_id": (
        lambda e: e.message_id(ID, "<abc@web1>"),
        f"relay/cleanup: {ID}: message-id=<abc@web1>",
        {"queue_id": ID, "message_id": "<abc@web1>"},
    ),
    "queued": (
        lambda e: e.queued(ID, "app@example.com", 10234, 2),
        f"relay/qmgr: {ID}: from=<app@example.com>, size=10234, nrcpt=2 (queue active)",
        {"queue_id": ID, "sender": "app@example.com", "size": 10234, "nrcpt": 2},
    ),
    "attempt sent": (
        lambda e: attempt(e, SENT),
        f"relay/ses: {ID}: {TO_SES}, dsn=2.0.0, status=sent (200 MessageId=010f0190-abc)",
        {
            "queue_id": ID,
            "recipient": "a@example.net",
            "provider": "ses",
            "route": "default",
            "relay": "email.eu-west-1.amazonaws.com[203.0.113.7]:443",
            "status": "sent",
            "dsn": "2.0.0",
            "delay": 0.84,
            "delays": [0.02, 0.01, 0.31, 0.5],
            "reply": "200 MessageId=010f0190-abc",
            "remote_id": "010f0190-abc",
            "maybe_relayed": False,
        },
    ),
    "attempt unknown": (
        lambda e: attempt(e, UNKNOWN, next_attempt=NOON),
        f"relay/ses: {ID}: {TO_MX}, dsn=4.4.2, status=deferred "
        "(no answer after the message was sent: may be delivered twice; next try 12:00:00 via ses)",
        {"level": "warning", "maybe_relayed": True, "next_attempt": "2026-11-20T12:00:00.000Z", "next_provider": "ses"},
    ),
    "attempt unknown and held": (
        lambda e: attempt(e, UNKNOWN, held=True),
        f"relay/ses: {ID}: {TO_MX}, dsn=4.4.2, status=deferred (no answer after the message was sent: may be delivered twice; held)",
        {"held": True},
    ),
    "attempt failing over": (
        lambda e: attempt(e, Outcome(Verdict.RETRY, "4.7.1", "451 wait, please", "x, y"), next_attempt=NOON, next_provider="b", delay=60.4),
        f"relay/ses: {ID}: to=<a@example.net>, relay=x? y, delay=60, delays=0.02/0.01/0.31/0.5, dsn=4.7.1, status=deferred "
        "(451 wait, please; next try 12:00:00 via b)",
        {"next_provider": "b", "relay": "x, y"},
    ),
    "attempt of our own": (
        lambda e: attempt(e, OWN, orig_to="A@example.net", provider=""),
        f"relay/qmgr: {ID}: to=<a@example.net>, orig_to=<A@example.net>, relay=none, delay=0.84, delays=0.02/0.01/0.31/0.5, "
        "dsn=5.6.3, status=bounced (no provider of the route can carry it)",
        {"relay": "relay", "orig_to": "A@example.net"},
    ),
    "attempt redirected": (
        lambda e: attempt(e, SENT, redirected="qa@example.com"),
        f"relay/ses: {ID}: to=<qa@example.com>, orig_to=<a@example.net>, {TO_SES.partition(', ')[2]}, dsn=2.0.0, status=sent "
        "(200 MessageId=010f0190-abc)",
        {"recipient": "a@example.net", "redirected_to": "qa@example.com"},
    ),
    "maybe_twice": (
        lambda e: e.maybe_twice(ID, [f"r{n}@x" for n in range(12)], "ses", "restart"),
        f"relay/ses: {ID}: may be delivered twice by ses: restart: {', '.join(f'to=<r{n}@x>' for n in range(10))} and 2 more",
        {"level": "warning", "recipients": [f"r{n}@x" for n in range(12)], "maybe_relayed": True},
    ),
    "held": (lambda e: e.held(ID, "a@x", "by admin"), f"relay/qmgr: {ID}: to=<a@x>, status=held (by admin)", {"recipient": "a@x"}),
    "expired": (
        lambda e: e.expired(ID, "app@example.com", ["a@x"]),
        f"relay/qmgr: {ID}: from=<app@example.com>, status=expired, returned to sender",
        {"recipients": ["a@x"], "returned": True},
    ),
    "expired, nobody told": (
        lambda e: e.expired(ID, "", returned=False),
        f"relay/qmgr: {ID}: from=<>, status=expired, not returned",
        {"returned": False},
    ),
    "bounced_to": (
        lambda e: e.bounced_to(ID, ID2, "app@example.com"),
        f"relay/bounce: {ID}: sender non-delivery notification: {ID2}",
        {"bounce_id": ID2, "sender": "app@example.com"},
    ),
    "delay_told": (
        lambda e: e.delay_told(ID, ID2, "app@example.com"),
        f"relay/bounce: {ID}: sender delay notification: {ID2}",
        {"notice_id": ID2, "sender": "app@example.com"},
    ),
    "success_told": (
        lambda e: e.success_told(ID, ID2, "app@example.com"),
        f"relay/bounce: {ID}: sender delivery status notification: {ID2}",
        {"notice_id": ID2, "sender": "app@example.com"},
    ),
    "double_bounce": (
        lambda e: e.double_bounce(ID, ["app@example.com"], "550 5.1.1 unknown", ID2),
        f"relay/bounce: {ID}: postmaster non-delivery notification: {ID2}",
        {"level": "warning", "recipients": ["app@example.com"], "reply": "550 5.1.1 unknown", "notice_id": ID2},
    ),
    "double_bounce, nobody told": (
        lambda e: e.double_bounce(ID, ["app@example.com", "b@x"], "550 5.1.1 unknown"),
        f"relay/bounce: warning: {ID}: undeliverable bounce discarded: to=<app@example.com>, to=<b@x>: 550 5.1.1 unknown",
        {"level": "warning", "notice_id": ""},
    ),
    "removed": (lambda e: e.removed(ID), f"relay/qmgr: {ID}: removed", {"queue_id": ID, "level": "info"}),
    "put_on_hold": (lambda e: e.put_on_hold(ID, 2), f"relay/qmgr: {ID}: placed on hold by the admin, nrcpt=2", {"nrcpt": 2}),
    "released": (lambda e: e.released(ID, 1), f"relay/qmgr: {ID}: released from hold by the admin, nrcpt=1", {"nrcpt": 1}),
    "deleted": (lambda e: e.deleted(ID, 2), f"relay/qmgr: {ID}: deleted by the admin, nrcpt=2", {"nrcpt": 2}),
    "corrupt": (lambda e: e.corrupt(ID, "no body"), f"relay/qmgr: {ID}: set aside as corrupt: no body", {"level": "error"}),
    "rejected": (
        lambda e: e.rejected(CLIENT, "RCPT", "550 5.7.1 no", "a@x", ["b@y", "c@z"]),
        "relay/smtpd: NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 550 5.7.1 no; from=<a@x> to=<b@y> proto=ESMTP helo=<web1>",
        {"stage": "RCPT", "reply": "550 5.7.1 no", "sender": "a@x", "recipients": ["b@y", "c@z"], "client": "127.0.0.1"},
    ),
    "rejected early": (
        lambda e: e.rejected(CLIENT, "MAIL", "501 5.5.4 bad", helo="h"),
        "relay/smtpd: NOQUEUE: reject: MAIL from localhost[127.0.0.1]: 501 5.5.4 bad; proto=ESMTP helo=<h>",
        {"sender": None, "helo": "h"},
    ),
    "login_failed": (
        lambda e: e.login_failed(CLIENT, "PLAIN", "app1"),
        "relay/smtpd: warning: localhost[127.0.0.1]: SASL PLAIN authentication failed: wrong name or password, sasl_username=app1",
        {"level": "warning", "client": "127.0.0.1", "mechanism": "PLAIN", "sasl_username": "app1", "text": "wrong name or password"},
    ),
    "passed_over": (
        lambda e: e.passed_over(ID, "mailtrap", "the request has 12,345,678 octets; Mailtrap takes 10,000,000"),
        f"relay/qmgr: {ID}: passed over mailtrap, which cannot carry it: the request has 12,345,678 octets; Mailtrap takes 10,000,000",
        {"level": "info", "queue_id": ID, "provider": "mailtrap"},
    ),
    "paused": (
        lambda e: e.paused("ses", "403 SignatureDoesNotMatch", 214, "mend the key, then: relay reload", NOON),
        "relay/qmgr: provider ses paused: 403 SignatureDoesNotMatch; 214 recipients wait; mend the key, then: relay reload",
        {"provider": "ses", "waiting": 214, "until": "2026-11-20T12:00:00.000Z", "level": "warning"},
    ),
    "paused, nothing to mend": (
        lambda e: e.paused("ses", "connection refused", 1, ""),
        "relay/qmgr: provider ses paused: connection refused; 1 recipient waits",
        {"mend": ""},
    ),
    "resumed": (lambda e: e.resumed("ses", 214), "relay/qmgr: provider ses resumed; 214 recipients wait", {"waiting": 214}),
    "throttled": (
        lambda e: e.throttled("ses", "429 slow down", 30.0),
        "relay/qmgr: provider ses throttled for 30 s: 429 slow down",
        {"seconds": 30.0},
    ),
    "identity_paused": (
        lambda e: e.identity_paused("postmark", "domain=example.com", "422 400 no signature", 3, "add a signature"),
        "relay/qmgr: provider postmark paused for domain=example.com: 422 400 no signature; 3 recipients wait; add a signature",
        {"identity": "domain=example.com"},
    ),
    "identity_paused, nothing to mend": (
        lambda e: e.identity_paused("postmark", "stream=x", "422", 0, ""),
        "relay/qmgr: provider postmark paused for stream=x: 422; 0 recipients wait",
        {"mend": ""},
    ),
    "suspected": (
        lambda e: e.suspected("ses", "", ID, "403 AccountSuspended"),
        f"relay/qmgr: {ID}: provider ses suspected: 403 AccountSuspended; this message waits, one more such pauses it",
        {"level": "warning", "queue_id": ID, "provider": "ses", "identity": "", "reply": "403 AccountSuspended"},
    ),
    "suspected, an identity": (
        lambda e: e.suspected("postmark", "stream=x", ID, "422"),
        f"relay/qmgr: {ID}: provider postmark for stream=x suspected: 422; this message waits, one more such pauses it",
        {"identity": "stream=x"},
    ),
    "paused_by_admin": (
        lambda e: e.paused_by_admin("ses", "invoice unpaid", 2),
        "relay/qmgr: provider ses paused by the admin: invoice unpaid; 2 recipients wait; to end it: relay provider resume ses",
        {"level": "warning", "provider": "ses", "text": "invoice unpaid", "waiting": 2},
    ),
    "paused_by_admin, who does not say why": (
        lambda e: e.paused_by_admin("ses", "", 0),
        "relay/qmgr: provider ses paused by the admin; 0 recipients wait; to end it: relay provider resume ses",
        {"text": ""},
    ),
    "resumed_by_admin": (
        lambda e: e.resumed_by_admin("ses", 1),
        "relay/qmgr: provider ses resumed by the admin; 1 recipient waits",
        {"level": "warning", "provider": "ses", "waiting": 1},
    ),
    "exhausted": (
        lambda e: e.exhausted("ses", "daily quota of 50000 recipients", NOON, 214),
        "relay/qmgr: provider ses exhausted: daily quota of 50000 recipients; until 2026-11-20T12:00:00.000Z; 214 recipients wait",
        {"level": "warning", "text": "daily quota of 50000 recipients", "until": "2026-11-20T12:00:00.000Z", "waiting": 214},
    ),
    "exhausted, nobody knows until when": (
        lambda e: e.exhausted("ses", "monthly quota of 10 messages", None, 1),
        "relay/qmgr: provider ses exhausted: monthly quota of 10 messages; 1 recipient waits",
        {"waiting": 1},
    ),
    "replenished": (
        lambda e: e.replenished("ses"),
        "relay/qmgr: provider ses replenished: its quota has room again",
        {"level": "warning", "provider": "ses"},
    ),
    "quota_read": (
        lambda e: e.quota_read("ses", "14/s, 812 of 50000 in 24 hours"),
        "relay/qmgr: provider ses quota: 14/s, 812 of 50000 in 24 hours",
        {"level": "info", "text": "14/s, 812 of 50000 in 24 hours"},
    ),
    "quota_unread": (
        lambda e: e.quota_unread("ses", "403 AccessDenied"),
        "relay/qmgr: warning: the quota of provider ses cannot be read: 403 AccessDenied",
        {"level": "warning", "text": "403 AccessDenied"},
    ),
    "stepped_back": (
        lambda e: e.stepped_back("bulk", "ses refused 6 of 60", "mailtrap 60 %, ses 40 %", "mailtrap 74 %, ses 26 %"),
        "relay/qmgr: route bulk stepped back from mailtrap 60 %, ses 40 % to mailtrap 74 %, ses 26 %: ses refused 6 of 60",
        {"level": "warning", "route": "bulk", "text": "ses refused 6 of 60", "before": "mailtrap 60 %, ses 40 %"},
    ),
    "shadowed": (
        lambda e: e.shadowed(ID, "paubox", "default", [], ["List-Id is lost", "inline images become attachments"]),
        f"relay/qmgr: {ID}: paubox would lose: List-Id is lost; inline images become attachments",
        {"level": "info", "route": "default", "refused": [], "losses": ["List-Id is lost", "inline images become attachments"]},
    ),
    "shadowed, refused": (
        lambda e: e.shadowed(ID, "paubox", "default", ["60 MB, and 50 MB are taken"], []),
        f"relay/qmgr: {ID}: paubox would refuse it: 60 MB, and 50 MB are taken",
        {"refused": ["60 MB, and 50 MB are taken"]},
    ),
    "shadow_answered": (
        lambda e: e.shadow_answered(ID, "sandbox", "200 id=1", True),
        f"relay/qmgr: {ID}: the sandbox sandbox took it: 200 id=1",
        {"level": "info", "provider": "sandbox", "reply": "200 id=1", "ok": True},
    ),
    "shadow_answered, refused": (
        lambda e: e.shadow_answered(ID, "sandbox", "422 no", False),
        f"relay/qmgr: {ID}: the sandbox sandbox did not take it: 422 no",
        {"ok": False},
    ),
    "shadows_dropped": (
        lambda e: e.shadows_dropped("sandbox", 12),
        "relay/qmgr: warning: 12 messages not tried with the shadow sandbox: too many at once, or it is too slow",
        {"level": "warning", "provider": "sandbox", "count": 12},
    ),
    "shadows_dropped, one": (
        lambda e: e.shadows_dropped("sandbox", 1),
        "relay/qmgr: warning: 1 message not tried with the shadow sandbox: too many at once, or it is too slow",
        {"count": 1},
    ),
    "spilled": (
        lambda e: e.spilled(ID, "ses", "mailtrap", "14/s is used up"),
        f"relay/qmgr: {ID}: spilled from ses to mailtrap: 14/s is used up",
        {"level": "info", "provider": "ses", "next_provider": "mailtrap", "reply": "14/s is used up"},
    ),
    "rerouted": (
        lambda e: e.rerouted(ID, 2, ["ses", "mailtrap"]),
        f"relay/qmgr: {ID}: rerouted by the admin to ses, mailtrap, nrcpt=2",
        {"level": "info", "nrcpt": 2, "via": ["ses", "mailtrap"]},
    ),
    "bounced_by_admin": (
        lambda e: e.bounced_by_admin(ID, 3, "the shop is closed"),
        f"relay/qmgr: {ID}: bounced by the admin, nrcpt=3: the shop is closed",
        {"level": "info", "nrcpt": 3, "text": "the shop is closed"},
    ),
    "alerted": (
        lambda e: e.alerted(ID, "postmaster@example.com", "ses"),
        f"relay/bounce: {ID}: postmaster alert on ses",
        {"level": "info", "queue_id": ID, "recipient": "postmaster@example.com", "provider": "ses"},
    ),
    "spool_trouble": (lambda e: e.spool_trouble("disk full"), "relay/qmgr: warning: spool: disk full", {"level": "error"}),
    "spool_recovered": (lambda e: e.spool_recovered(), "relay/qmgr: spool: takes mail again", {"level": "warning"}),
    "starting": (lambda e: e.starting("relay 1"), "relay/master: starting: relay 1", {"text": "relay 1"}),
    "ready": (lambda e: e.ready("local"), "relay/master: ready: local", {"text": "local"}),
    "reloaded": (lambda e: e.reloaded("1 provider more"), "relay/master: reloaded: 1 provider more", {"text": "1 provider more"}),
    "reload_refused": (
        lambda e: e.reload_refused(["relay.yaml:3:1: no\nsuch key"]),
        "relay/master: reload refused, the old configuration stays: 1 mistake\nrelay/master: relay.yaml:3:1: no\nrelay/master: such key",
        {"level": "error", "problems": ["relay.yaml:3:1: no\nsuch key"]},
    ),
    "stopping": (lambda e: e.stopping("SIGTERM"), "relay/master: stopping: SIGTERM", {"text": "SIGTERM"}),
    "stopped": (lambda e: e.stopped("drained"), "relay/master: stopped: drained", {"text": "drained"}),
    "warning": (lambda e: e.warning("odd", "smtpd"), "relay/smtpd: warning: odd", {"text": "odd", "level": "warning"}),
}
