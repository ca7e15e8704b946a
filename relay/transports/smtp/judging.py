"""What became of each recipient of an SMTP transaction: findings as outcomes, without a secret in their text.

A finding is judged by the table of the server's dialect (relay/transports/replies.py), else by its first digit and the stage
(relay/verdicts.py). Pure.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from relay import address, verdicts
from relay.model import Outcome, Verdict
from relay.transports import esmtp, net, replies
from relay.transports.conversation import Finding, Lost, Refused
from relay.transports.replies import Row
from relay.transports.smtp import logins

_STATUS = {"connect": "4.4.1", "tls": "4.7.5"}
_MENDS = {
    "connect": "check host and port in the configuration, and that the server is up",
    "tls": "the certificate must be valid and name the host; set ca_file where a private authority signed it",
    "starttls": "the server must offer STARTTLS; where it speaks TLS from the start, set {implicit}",
    "auth": "correct {keys} in the configuration, then: relay reload",
}
_MEND = "read the server's reply: it refuses this host or account, not the message"
_BASE64 = re.compile(r"[A-Za-z0-9+/]{4,}={0,2}")
_CRAM = re.compile(rb" [0-9a-f]{32}")


def outcome(
    stage: str, finding: Finding, remote: str, connect_s: float = 0.0, send_s: float = 0.0, row: Row | None = None, dialect: str = ""
) -> Outcome:
    """The outcome for a recipient whose way ended at `stage` with `finding`; `row` is what the dialect's table says of it, which
    is about a message or the provider, never an identity."""
    identifier = ""
    if isinstance(finding, Refused):
        verdict, status, text = finding.verdict, finding.status, finding.text
    elif isinstance(finding, Lost):
        verdict = verdicts.lost(stage)
        status, text = _STATUS.get(stage, "4.4.2"), f"{finding.text} ({stage})"
    else:
        verdict = row.verdict if row else verdicts.smtp(stage, finding.code, finding.text)
        status = row.status if row else verdicts.status(verdict, finding.text)
        text = f"{finding.code} {finding.text}"
        identifier = esmtp.remote_id(finding.text) if verdict is Verdict.OK else ""
    mend = (row.mend if row else "") or _mend(stage, dialect)
    return Outcome(
        verdict,
        status,
        net.one_line(text),
        remote,
        own=not isinstance(finding, esmtp.Reply),
        remote_id=identifier,
        connect_s=connect_s,
        send_s=send_s,
        mend=mend if verdict is Verdict.PAUSE else "",
    )


def _mend(stage: str, dialect: str) -> str:
    """By the keys that this kind of provider has: only a smarthost has tls, username and password."""
    implicit = "port: 465" if dialect else "tls: implicit"
    return _MENDS.get(stage, _MEND).format(keys=logins.keys(dialect), implicit=implicit)


@dataclass(frozen=True, slots=True)
class About:
    """What a transaction names: the addresses that send, the most telling first, those of its recipients, the configuration set and
    the tenant."""

    senders: Sequence[str]
    recipients: Sequence[str]
    configuration_set: str = ""
    tenant: str = ""


def judged(
    dialect: str, stage: str, finding: Finding, recipient: str, about: About, remote: str, connect_s: float = 0.0, send_s: float = 0.0
) -> Outcome:
    """The outcome for one of the recipients by the dialect's table."""
    row = replies.judge(dialect, stage, finding.code, finding.text) if isinstance(finding, esmtp.Reply) else None
    ours = domains(about.senders)
    if row is None or not row.kind or not ours:
        # Without a sender's domain nobody can say which identity it is: then it is a deferral like others.
        plain = Row(Verdict.RETRY, row.status) if row and row.kind else row
        return outcome(stage, finding, remote, connect_s, send_s, row=plain, dialect=dialect)
    failed = replies.unverified(row, finding.text)
    if failed and not failed & {*ours, *map(address.key, about.senders)} and failed <= set(map(address.key, about.recipients)):
        # An account in the sandbox, which may write only to addresses that are verified too. Nobody got the message.
        named = address.key(recipient) in failed
        told = Row(Verdict.PERM_RCPT, "5.7.1") if named else Row(Verdict.RETRY, verdicts.OTHERS_REFUSED)
        return outcome(stage, finding, remote, connect_s, send_s, row=told)
    domain = next((domain for domain in ours if any(name.rpartition("@")[2] == domain for name in failed)), ours[0])
    uses = {"configuration_set": about.configuration_set, "tenant": about.tenant}
    kind, name = (row.kind, uses[row.kind]) if uses.get(row.kind) else ("domain", domain)
    found = outcome(stage, finding, remote, connect_s, send_s, row=Row(Verdict.RETRY, row.status))
    shown = {what: text or "(the identity's default)" for what, text in uses.items()}
    return replace(found, verdict=row.verdict, identity=f"{kind}={name}", mend=row.mend.format(domain=domain, **shown))


def domains(addresses: Sequence[str]) -> tuple[str, ...]:
    """The domains of addresses as A-labels, each once; an address without one is left out."""
    return tuple(dict.fromkeys(domain for one in addresses if (domain := _domain(one))))


def _domain(one: str) -> str:
    try:
        return address.domain_ascii(address.split(one)[1])
    except address.AddressError:
        return ""


def blotted(finding: Finding, username: str, password: str) -> Finding:
    """The finding without what we logged in with: a server may quote what it was sent, at any stage, as it is or in base64."""
    if not password:
        return finding
    plain = password.encode()
    text = _BASE64.sub(lambda match: "[password]" if _holds(match[0], username.encode(), plain) else match[0], finding.text)
    for form in (b64encode(plain).decode(), password, plain.hex(), plain.hex().upper(), quote(password, safe="")):
        text = text.replace(form, "[password]")
    text = re.sub(re.escape(username) + _CRAM.pattern.decode(), "[password]", text)
    return finding if text == finding.text else replace(finding, text=text)


def _holds(encoded: str, username: bytes, password: bytes) -> bool:
    """Whether base64 text holds the password, or the answer to a CRAM-MD5 challenge, by which it could be guessed."""
    digits = encoded.rstrip("=")
    try:
        octets = b64decode(digits + "=" * (-len(digits) % 4))
    except binascii.Error:
        return False
    return password in octets or re.search(re.escape(username) + _CRAM.pattern, octets) is not None
