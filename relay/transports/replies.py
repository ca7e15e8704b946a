"""What the SMTP replies of known providers mean where code and stage alone would mislead: a table for each dialect.

Mailtrap answers "too many connections" with 535, the code of a wrong password; Amazon SES answers a used-up quota with the
code of a rate limit, and an unverified sender with that of a message nobody wants. Rows are judged by the text behind the
codes, only where the reply begins so: a refusal of the message may quote the message. What has no row here is judged by
relay/verdicts.py. Pure; nothing here raises.
Amazon SES developer guide 2026-11 ("Amazon SES SMTP issues", "SMTP response codes returned by Amazon SES"); Mailtrap docs
2026-11 ("Sending limits", FAQs, "From header domain mismatch", sandbox); Postmark's authentication reply as seen. Paubox documents
none (2026-11): its rows are words that no refusal of a message begins with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from relay import address
from relay.model import Verdict

Kind = Literal["", "domain", "configuration_set", "tenant"]


@dataclass(frozen=True, slots=True)
class Row:
    """What a reply means. `status` is an enhanced status code; `kind` is what a CONFIG finding is about; `mend` has blanks for
    it: {domain}, {configuration_set}, {tenant}."""

    verdict: Verdict
    status: str
    kind: Kind = ""
    mend: str = ""


_RATE = Row(Verdict.THROTTLE, "4.7.28")
_UNVERIFIED = Row(
    Verdict.CONFIG,
    "4.7.1",
    "domain",
    "verify {domain} (or the sender's address) in this region: SES console, Identities; each region verifies for itself",
)
_BEGINS = r"(?:(?:Message rejected|Transaction failed): )?"
_STOPPED = r"Sending (?:is )?(?:paused|suspended|disabled|shut down)"
_SES: Sequence[tuple[str, Row]] = (
    (
        r"Throttling failure: Daily message quota exceeded",
        Row(
            Verdict.PAUSE,
            "4.7.28",
            mend="the account's quota of 24 hours is used up: wait, or ask Amazon for more (SES console, Account dashboard)",
        ),
    ),
    (r"Throttling failure|Maximum (?:\S+ )*sending rate exceeded|Too many concurrent SMTP connections", _RATE),
    (r"Message rejected: Email address is not verified", _UNVERIFIED),
    (
        rf"{_BEGINS}{_STOPPED} for (?:the |this )?tenant",
        Row(
            Verdict.CONFIG,
            "4.7.0",
            "tenant",
            "sending is paused for tenant {tenant}: look at its reputation and resume it (SES console, Tenants)",
        ),
    ),
    (
        rf"{_BEGINS}(?:the )?(?:resource|identit|configuration set|template)(?s:.{{0,300}}?)\bnot associated with (?:the |this )?tenant",
        Row(
            Verdict.CONFIG,
            "4.7.1",
            "tenant",
            "associate what the reply names with tenant {tenant}: all that a mail uses must belong to it (SES console, Tenants)",
        ),
    ),
    (
        rf"{_BEGINS}{_STOPPED} for (?:this|the|your) account",
        Row(Verdict.PAUSE, "4.7.0", mend="sending is stopped for the account: look at the SES console and the account's mail from Amazon"),
    ),
    (
        rf"{_BEGINS}{_STOPPED} for (?:the )?configuration set",
        Row(
            Verdict.CONFIG,
            "4.7.0",
            "configuration_set",
            "sending is paused for configuration set {configuration_set}: resume it in the SES console",
        ),
    ),
    (
        rf"{_BEGINS}Configuration set \S+ does not exist",
        Row(
            Verdict.CONFIG,
            "4.3.5",
            "configuration_set",
            "create configuration set {configuration_set} in this region, or correct configuration_set",
        ),
    ),
    (
        r"Access denied(?s:.{0,400}?):identity/",  # of one sender: it must not stop the others
        Row(
            Verdict.CONFIG,
            "4.7.1",
            "domain",
            "allow ses:SendRawEmail for the identity of {domain} to the owner of the key (docs/providers/smtp.md)",
        ),
    ),
    (
        r"Access denied",
        Row(
            Verdict.PAUSE,
            "4.7.1",
            mend="allow ses:SendRawEmail for the sender's identity to the owner of the key (docs/providers/smtp.md)",
        ),
    ),
    (
        r"Authentication Credentials Invalid",
        Row(
            Verdict.PAUSE,
            "4.7.8",
            mend="check access_key_id, region and secret: an SMTP password of SES belongs to one key and one region",
        ),
    ),
    (
        r"Account not subscribed to SES",
        Row(
            Verdict.PAUSE, "4.7.1", mend="the account of this key does not use Amazon SES in this region: sign up there, or correct region"
        ),
    ),
    (r"Message is too long", Row(Verdict.PERM_MSG, "5.3.4")),
    (
        r"Temporary (?:authentication|service) failure",
        Row(Verdict.PAUSE, "4.3.0", mend="Amazon could not check the login just now: if it goes on, look at the AWS health dashboard"),
    ),
)
_MAILTRAP: Sequence[tuple[str, Row]] = (
    (r"Too many connections per account", _RATE),
    (r"(?:Requested action not taken: )?too many emails per second", _RATE),
    (
        r"(?:Monthly|Daily|Hourly) messages? limit reached",
        Row(
            Verdict.PAUSE,
            "4.7.28",
            mend="the plan's number of messages is used up: wait for the next period, or upgrade the plan at Mailtrap",
        ),
    ),
    (
        r"Invalid login or password",
        Row(
            Verdict.PAUSE,
            "4.7.8",
            mend="check the token: it may have expired (Mailtrap, Settings > API Tokens); a sandbox has a login of its own",
        ),
    ),
    (
        r"(?:Your )?account (?:is|has been) (?:banned|blocked|suspended|disabled)\b",
        Row(Verdict.PAUSE, "4.7.0", mend="Mailtrap does not let this account send: ask its support"),
    ),
    (
        r"Sending from domain (?:\S+ )?is not allowed",
        Row(Verdict.CONFIG, "4.7.1", "domain", "add {domain} as a sending domain at Mailtrap and verify it; a subdomain counts for itself"),
    ),
    (
        r"(?:The )?'From' header does not match the sender's domain",
        Row(Verdict.CONFIG, "4.7.1", "domain", "the envelope sender and the From field must both be at {domain}, as Mailtrap verified it"),
    ),
)
# Paubox documents no reply of its server: what begins like trouble with the account or the domain is not the sender's.
_PAUBOX: Sequence[tuple[str, Row]] = (
    (r"(?:[\w'-]+ ){0,2}rate limit|too many (?:messages|emails|connections|requests)\b", _RATE),
    (
        r"(?:your |the |this )?(?:account|organization|api key|subscription)\b.{0,40}"
        r"\b(?:suspended|disabled|deactivated|inactive|expired|revoked)\b"
        r"|(?:your |the |this )?(?:monthly|daily|plan|account|sending) (?:\w+ )?(?:quota|limit)\b",
        Row(Verdict.PAUSE, "4.7.0", mend="Paubox does not let the account send: look at its plan and its API key there"),
    ),
    (
        r"(?:[\w'-]+ ){0,2}(?:sender|from|domain)\b.{0,80}\b(?:not (?:been )?(?:verified|authorized|allowed)|unverified|unauthorized)\b",
        Row(Verdict.CONFIG, "4.7.1", "domain", "verify the domain {domain} in Paubox (Email API > Settings)"),
    ),
)
_POSTMARK: Sequence[tuple[str, Row]] = (
    (
        r"(?:Error: )?authentication failed",
        Row(
            Verdict.PAUSE,
            "4.7.8",
            mend="check the token (Postmark, Servers > API Tokens), or smtp_access_key and smtp_secret_key; SMTP must be switched on",
        ),
    ),
)
_TABLES: Mapping[str, Sequence[tuple[re.Pattern[str], Row]]] = {
    dialect: [(re.compile(pattern, re.IGNORECASE), row) for pattern, row in rows]
    for dialect, rows in {"ses": _SES, "mailtrap": _MAILTRAP, "paubox": _PAUBOX, "postmark": _POSTMARK}.items()
}
_BEFORE_MAIL_ONLY = "Temporary"  # the same words at a later stage are about the message
_CODES = re.compile(r"\s*(?:[45]\.\d{1,3}\.\d{1,3}\s+)?")
_FAILED = re.compile(r"failed the check in region [\w-]+: *", re.IGNORECASE)


def judge(dialect: str, stage: str, code: int, text: str) -> Row | None:
    """The row for a reply at `stage`; None where the dialect has none, or the reply is no refusal."""
    if code // 100 not in (4, 5):
        return None
    said = text[_prefix(text) :]
    for pattern, row in _TABLES.get(dialect, ()):
        if pattern.match(said) and not (said.startswith(_BEFORE_MAIL_ONLY) and stage != "auth"):
            return row
    return None


def unverified(row: Row, text: str) -> frozenset[str]:
    """What Amazon SES says is not verified, in a reply with this row: domains in lower case and keys of addresses; empty where
    it does not say."""
    found = _FAILED.search(text) if row is _UNVERIFIED else None
    if not found:
        return frozenset()
    names = (name.strip().rpartition("identity/")[2] for name in text[found.end() :].rstrip(". ").split(","))
    bare = (name.rpartition("<")[2].rstrip(">") for name in names)
    return frozenset(address.key(name) if "@" in name else name.lower() for name in bare if name)


def _prefix(text: str) -> int:
    match = _CODES.match(text)
    assert match is not None  # it matches nothing, too
    return match.end()
