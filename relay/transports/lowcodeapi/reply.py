"""Replies of LowCodeAPI: Amazon's in an envelope, unwrapped and judged by the table of transports/sesv2/reply.py.

The envelope of a success is `data` (its page) or `result` (its source), or none; of an error it is `error`, with Amazon's header
fields in `headers`. An error without a code of Amazon's is LowCodeAPI's own: 401 is about the token, 403 about the AWS keys that
it should hold. What may have been passed on is UNKNOWN, as ever: 500 also says that it did not reach Amazon, or heard nothing.
The token stands in the URL of every request: wherever a reply repeats it, `[token]` takes its place. Pure; raises nothing for
any reply.
LowCodeAPI docs 2026-11, "AWS SES Integration"; repository samal/lowcodeapi, 2026-11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from relay.budgets import Quota
from relay.model import Outcome, Verdict
from relay.transports import net
from relay.transports.base import Check
from relay.transports.http import Answer
from relay.transports.sesv2 import account, reply
from relay.transports.sesv2.payload import Payload
from relay.transports.sesv2.reply import CODES, Asker

_REGION = "the region set at LowCodeAPI"
_KEYS = "Amazon refuses the AWS keys that LowCodeAPI holds: put valid ones there"
_CLOCK = "Amazon does not take the time of LowCodeAPI's signature: tell its support"
_TOKEN = "check token ({length} characters) of this provider: it begins with at_, and LowCodeAPI's page of API tokens lists it"
_NO_KEYS = "connect Amazon SES at LowCodeAPI: the account of this token holds no AWS keys for it"
_TYPE = "x-amzn-errortype"
_NUMBER = "x-amzn-requestid"
_CODE = re.compile(r"\W*([A-Za-z]{4,60}?)(?:Exception)?(?![A-Za-z])")
_SHOWN = "[token]"


def read(answer: Answer, request: Payload, token: str) -> dict[str, Outcome]:
    """What became of each recipient of `request`."""
    plain = _plain(answer, token)
    mend = _own(plain, token)
    outcomes = reply.read(plain, request, _asker(token, plain))
    if mend:
        said = net.one_line(f"{answer.status}: {_text(plain)}") if _text(plain) else f"{answer.status}"
        return {one: replace(found, verdict=Verdict.PAUSE, status="4.7.8", reply=said, mend=mend) for one, found in outcomes.items()}
    return outcomes


def checks(answer: Answer, token: str, url: str) -> Sequence[Check]:
    """What the same question that Amazon SES answers about an account says here, at `url`."""
    plain = _plain(answer, token)
    if mend := _own(plain, token):
        return [Check("login", False, net.one_line(f"{answer.status}: {_text(plain)}"), mend)]
    return account.checks(plain, _asker(token, plain), url)


def quota(answer: Answer, token: str) -> Quota | str:
    """The quota of the account of Amazon SES in the same answer, or why it says none."""
    plain = _plain(answer, token)
    if _own(plain, token):
        return net.one_line(f"{answer.status}: {_text(plain)}")
    return account.quota(plain, _asker(token, plain))


def _asker(token: str, plain: Answer) -> Asker:
    """What LowCodeAPI says in JSON without a code is its own word, and none of Amazon's; a page is not even that."""
    asked = "Amazon SES" if plain.body.startswith(b"{") else "LowCodeAPI"
    return Asker(_REGION, _KEYS, _KEYS, {token: _SHOWN}, clock=_CLOCK, asked=asked)


def _own(plain: Answer, token: str) -> str:
    """What to do about a refusal by LowCodeAPI itself; "" where the answer is none."""
    if plain.status not in (401, 403) or reply.judge(plain, _asker(token, plain)).code:
        return ""
    if plain.status == 401:
        return _TOKEN.format(length=len(token))
    return _NO_KEYS if plain.body.startswith(b"{") else ""


def _plain(answer: Answer, token: str) -> Answer:
    """The answer as Amazon gave it, without the token; JSON may have hidden that by escapes."""
    return _scrubbed(_unwrapped(_scrubbed(answer, token)), token)


def _scrubbed(answer: Answer, token: str) -> Answer:
    body, fields = answer.body, dict(answer.headers)
    for form in {token, quote(token, safe="")} - {""}:
        body = body.replace(form.encode(), _SHOWN.encode())
        fields = {name: value.replace(form, _SHOWN) for name, value in fields.items()}
    return replace(answer, body=body, headers=fields)


def _unwrapped(answer: Answer) -> Answer:
    """The answer as Amazon gave it, as far as can be told."""
    whole = _object(answer.body)
    if whole is None:
        return answer
    if 200 <= answer.status < 300:
        forms = [found for name in ("data", "result") if (found := _object(whole.get(name))) is not None]
        inner = next((form for form in forms if {"MessageId", "SendingEnabled"} & form.keys()), whole)
        return replace(answer, body=json.dumps(inner).encode())
    fields = {name.lower(): value for name, value in (_object(whole.get("headers")) or {}).items() if isinstance(value, str)}
    error = _object(whole.get("error"))
    text = _first(error or {}, "message", "Message") or _string(whole.get("error")) or _first(whole, "message", "Message")
    code = fields.get(_TYPE) or answer.headers.get(_TYPE) or _code(error or {}, _string(whole.get("error")), whole)
    text = re.sub(rf"{code}(?:Exception)?:\s*", "", text, count=1) if code in CODES and text.startswith(code) else text
    number = fields.get(_NUMBER) or answer.headers.get(_NUMBER, "")
    return replace(answer, body=json.dumps({"message": text}).encode(), headers={**answer.headers, _TYPE: code, _NUMBER: number})


def _code(error: Mapping[str, object], said: str, whole: Mapping[str, object]) -> str:
    """A code of Amazon's: given as one, or the word that an error begins with."""
    for named in (_first(error, "__type", "code", "Code", "name"), said, _first(whole, "__type", "code", "Code")):
        word = _CODE.match(named.rpartition("#")[2])
        if word and word[1] in CODES:
            return word[1]
    return ""


def _object(value: object) -> Mapping[str, object] | None:
    """An object, or one written as JSON."""
    if isinstance(value, bytes | str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _first(given: Mapping[str, object], *names: str) -> str:
    return next((value for name in names if isinstance(value := given.get(name), str) and value), "")


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _text(plain: Answer) -> str:
    return _first(_object(plain.body) or {}, "message") or (
        "" if plain.body.startswith(b"{") else plain.body[:200].decode("utf-8", "replace")
    )
