"""The verdicts: what a reply means, and what follows from it. The one table of failure policy; printed in docs/verdicts.md.

Three rules stand behind every row. Unknown means later: what cannot be classified is deferred. A credential, quota or
account problem is ours, never the sender's: it pauses the provider and bounces nothing. One poison message never
pauses a provider: only a finding about the provider itself has provider scope.

Pure. RFC 5321 §4.2, RFC 3463, RFC 4954 §6; provider tables are read by each provider's own transport.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from relay.model import Scope, Verdict


class FailOver(StrEnum):
    """When a deferred recipient may be tried with the next provider of its route."""

    NEVER = "never"
    PATIENCE = "after the route's patience"
    AT_ONCE = "at once"


@dataclass(frozen=True, slots=True)
class Consequence:
    """What delivery does after an outcome of one verdict."""

    log: str  # the word after status= in the log
    pauses: Scope | None  # what is not used until a probe succeeds
    fail_over: FailOver
    pinned: bool  # stays with this provider until an answer or expiry
    bounces: bool


CONSEQUENCES: Mapping[Verdict, Consequence] = {
    Verdict.OK: Consequence("sent", None, FailOver.NEVER, pinned=False, bounces=False),
    Verdict.PERM_RCPT: Consequence("bounced", None, FailOver.NEVER, pinned=False, bounces=True),
    Verdict.PERM_MSG: Consequence("bounced", None, FailOver.NEVER, pinned=False, bounces=True),
    Verdict.RETRY: Consequence("deferred", None, FailOver.PATIENCE, pinned=False, bounces=False),
    Verdict.THROTTLE: Consequence("deferred", Scope.PROVIDER, FailOver.NEVER, pinned=False, bounces=False),
    Verdict.PAUSE: Consequence("deferred", Scope.PROVIDER, FailOver.AT_ONCE, pinned=False, bounces=False),
    Verdict.CONFIG: Consequence("deferred", Scope.IDENTITY, FailOver.AT_ONCE, pinned=False, bounces=False),
    Verdict.UNKNOWN: Consequence("deferred", None, FailOver.NEVER, pinned=True, bounces=False),
}

# Stages of an SMTP conversation, as the transports name them.
BEFORE_MAIL = frozenset({"connect", "tls", "greeting", "ehlo", "starttls", "auth"})
STAGES = BEFORE_MAIL | {"mail", "rcpt", "data", "dot"}

# RFC 4954 §6: authentication required, too weak, refused, only under TLS.
_CREDENTIALS = frozenset({530, 534, 535, 538})
# Rate texts seen in 4yz replies of providers and of Postfix ("Throttling failure", "Too many concurrent connections").
_RATE = re.compile(r"throttl|\brate\b|too many (?:\S+ ){0,3}(?:connections|messages|emails|requests|login)", re.I)
_ENHANCED = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})\b")


def smtp(stage: str, code: int, text: str) -> Verdict:
    """The verdict on an SMTP reply at `stage`. Judged by the first digit; 2yz is OK (3yz too, where DATA expects it).

    A refusal before MAIL concerns the provider: our next hop is one we configured, so its refusal of us is never the
    sender's fault. RFC 5321 §4.5.3.1.10: 552 to RCPT is read as 452.
    """
    first = code // 100
    if first == 2 or (first == 3 and stage == "data"):
        return Verdict.OK
    if code in _CREDENTIALS:
        return Verdict.THROTTLE if _RATE.search(text) else Verdict.PAUSE
    if first not in (4, 5):
        return lost(stage)
    if stage in BEFORE_MAIL:
        return Verdict.THROTTLE if first == 4 and (code == 421 or _RATE.search(text)) and stage != "auth" else Verdict.PAUSE
    if first == 4:
        return _transient(stage, code, text)
    if stage == "rcpt":
        return Verdict.RETRY if code == 552 else Verdict.PERM_RCPT
    return Verdict.PERM_MSG


def _transient(stage: str, code: int, text: str) -> Verdict:
    """421 after the message may be about the message itself, so there it takes a rate text to slow the provider."""
    if stage in ("mail", "rcpt") and code == 421:
        return Verdict.THROTTLE
    return Verdict.THROTTLE if _RATE.search(text) else Verdict.RETRY


def lost(stage: str) -> Verdict:
    """The verdict on a connection that is refused, cut, silent or garbled at `stage`."""
    if stage in BEFORE_MAIL:
        return Verdict.PAUSE
    return Verdict.UNKNOWN if stage == "dot" else Verdict.RETRY


def http(status: int, *, documented: bool) -> Verdict:
    """The verdict on a complete HTTP reply that carries no error code its provider's own table knows.

    `documented` says whether the body had the provider's documented error shape: only then does 408 or 503 prove that
    the message was not taken. 401, 403 and 429 are refusals before the message was looked at, whoever gave them.
    """
    fixed = {401: Verdict.PAUSE, 403: Verdict.PAUSE, 413: Verdict.PERM_MSG, 429: Verdict.THROTTLE}
    if status in fixed:
        return fixed[status]
    if status in (408, 503):
        return Verdict.RETRY if documented else Verdict.UNKNOWN
    if 300 <= status < 500:
        return Verdict.RETRY
    return Verdict.UNKNOWN


def http_lost(stage: str) -> Verdict:
    """The verdict on an HTTP exchange without a complete reply: `stage` is connect, tls, send or answer."""
    return {"connect": Verdict.PAUSE, "tls": Verdict.PAUSE, "send": Verdict.RETRY}.get(stage, Verdict.UNKNOWN)


OTHERS_REFUSED = "4.1.3"
"""The status of a recipient who is tried again because a request was refused for others. Where all of a request have it, nobody
knows who was refused."""

_DEFAULT_STATUS: Mapping[Verdict, str] = {
    Verdict.OK: "2.0.0",
    Verdict.PERM_RCPT: "5.1.1",
    Verdict.PERM_MSG: "5.6.0",
    Verdict.RETRY: "4.3.0",
    Verdict.THROTTLE: "4.7.28",
    Verdict.PAUSE: "4.3.5",
    Verdict.CONFIG: "4.7.1",
    Verdict.UNKNOWN: "4.4.2",
}


def status(verdict: Verdict, text: str = "") -> str:
    """The enhanced status code to store: the one the reply text begins with (its class made to agree), else a default.

    A 535 5.7.8 that we defer becomes 4.7.8: the code says what follows here, the reply text what was said.
    """
    found = _ENHANCED.match(text)
    default = _DEFAULT_STATUS[verdict]
    return f"{default[0]}.{found[2]}.{found[3]}" if found else default
