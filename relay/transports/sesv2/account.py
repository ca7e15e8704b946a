"""What GetAccount of Amazon SES's API v2 says of an account: checks for an admin, and its quota. Pure; raises nothing for any answer.

The question sends no mail. Keys that may only send are told so by an AccessDenied, which says nothing against them.
Amazon SES API v2 reference 2026-11, GetAccount.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from relay.budgets import Quota
from relay.model import Verdict
from relay.transports import net
from relay.transports.base import Check, unanswered
from relay.transports.http import Answer
from relay.transports.sesv2.reply import Asker, judge

PATH = "/v2/email/account"
_SANDBOX = "in the sandbox mail goes to verified addresses only: ask for production access (SES console, Account dashboard)"
_OFF = "resume sending for the account in {region}, after a look at its reputation (SES console, Account dashboard)"
_PROBATION = "Amazon watches the account and may end its sending: look at its reputation (SES console, Account dashboard)"
_SHUTDOWN = "Amazon has ended sending for this account: look at the SES console and the account's mail from Amazon"
_USED_UP = "wait, or ask Amazon for a larger quota (SES console, Account dashboard)"
_MAY_LOOK = "to see it here, allow ses:GetAccount to the owner of the key; sending needs no more than it has"
_HUGE = 1e15  # no account sends so much: who says so says nothing
_SENDING_ONLY = re.compile(r"is not authorized to perform:? [`']?ses:GetAccount", re.I)


def checks(answer: Answer, asker: Asker, url: str) -> tuple[Check, ...]:
    """What `url` answered: the login, and where it may be looked at, the account and its quota of 24 hours."""
    account = _object(answer.body)
    if 200 <= answer.status < 300 and isinstance(account.get("SendingEnabled"), bool):
        return (Check("login", True, "accepted"), *_about(account, asker.region))
    judged = judge(answer, asker)
    if judged.code == "AccessDenied":
        # Who is named in a refusal has proven who he is.
        known = _SENDING_ONLY.search(judged.reply) is not None
        login = Check("login", True if known else None, "accepted" if known else judged.reply)
        return login, Check(
            "account", None, "cannot be told: the keys may send but not look at the account" if known else "cannot be told", _MAY_LOOK
        )
    if judged.verdict is Verdict.PAUSE:
        return (Check("login", False, judged.reply, judged.mend),)
    return (unanswered("login", judged.reply, answer.status, url, own=judged.own),)


def quota(answer: Answer, asker: Asker) -> Quota | str:
    """What the account allows, counted in recipients: in a second, and in 24 hours (Max24HourSend -1 is no limit). A line that says
    why not where the answer does not tell: keys that may only send cannot ask."""
    if not 200 <= answer.status < 300:
        judged = judge(answer, asker)
        if judged.code == "AccessDenied" and _SENDING_ONLY.search(judged.reply):
            return f"the keys may send but not look at the account: {_MAY_LOOK}"
        return judged.reply
    used, most, rate = _numbers(_object(answer.body).get("SendQuota"))
    if used is None or most is None or rate is None:
        return "the answer to GetAccount names no quota"
    return Quota(rate if rate > 0 else None, int(most) if most >= 0 else None, math.ceil(max(used, 0.0)))


def _object(body: bytes) -> Mapping[str, object]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _about(account: Mapping[str, object], region: str) -> Iterator[Check]:
    enforcement = account.get("EnforcementStatus")
    enforcement = net.one_line(enforcement, 40) if isinstance(enforcement, str) else ""
    sandbox = account.get("ProductionAccessEnabled") is False
    sending = "sending is enabled" if account["SendingEnabled"] else "sending is paused"
    access = "in the sandbox" if sandbox else "production access"
    text = ", ".join([sending, access, *([f"enforcement status {enforcement}"] if enforcement else [])])
    if enforcement == "SHUTDOWN":
        yield Check("account", False, text, _SHUTDOWN)
    elif not account["SendingEnabled"]:
        yield Check("account", False, text, _OFF.format(region=region))
    elif enforcement == "PROBATION":
        yield Check("account", True, text, _PROBATION)
    else:
        yield Check("account", True, text, _SANDBOX if sandbox else "")
    yield _quota(account.get("SendQuota"))


def _numbers(quota: object) -> tuple[float | None, ...]:
    """Sent in 24 hours, the most of that, and the most in a second; None for what is no number."""
    known = quota if isinstance(quota, dict) else {}
    given = (known.get(name) for name in ("SentLast24Hours", "Max24HourSend", "MaxSendRate"))
    return tuple(float(one) if _is_number(one) else None for one in given)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE


def _quota(quota: object) -> Check:
    """How much is used; a quota of -1 is none."""
    used, most, rate = _numbers(quota)
    if used is None or most is None or rate is None:
        return Check("quota", None, "not told")
    if most < 0:
        return Check("quota", True, f"{used:,.0f} recipients in 24 hours, no limit; {rate:,.0f} a second")
    ok = used < most
    return Check("quota", ok, f"{used:,.0f} of {most:,.0f} recipients in 24 hours; {rate:,.0f} a second", "" if ok else _USED_UP)
