"""Replies of Mailtrap's API as outcomes, one for each recipient.

Mailtrap has no error codes: judged by the HTTP status, and by those texts that say what no status tells. A text counts only where
one of Mailtrap's errors begins with it, and what stands in quotes does not count, so that no message can look like trouble
with the account. What is in no table here is judged by relay/verdicts.py. Pure; raises nothing for any reply.

401 means a token that is not valid, or a From domain that is not verified, and nothing tells them apart: the domain
is paused first, and the provider when another domain hears the same and no mail was taken meanwhile. A sandbox verifies no
domains.
Mailtrap docs 2026-11: the OpenAPI descriptions of transactional, bulk and sandbox sending ("500: Mail was not delivered"), "Rate
limits", "Sending limits" and the help articles on SMTP replies, whose texts are read here too; the official clients for Python 2.11
(three shapes of errors) and Ruby ("Account is banned", 413); django-anymail 15.2 (401 for an unverified domain).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from relay import verdicts
from relay.model import Outcome, Scope, Verdict
from relay.transports import net
from relay.transports.base import Check, unanswered
from relay.transports.http import Answer
from relay.transports.rebuilding import Payload

_MAX_ERRORS = 20  # of one reply that are looked at
_MAX_ERROR = 500  # characters of one that are looked at
_DEPTH = 3  # of errors within errors
_UNAUTHORIZED = "4.7.8"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked: the configured stream, the length of the token, and the From domains that were answered 401 since the last
    success."""

    stream: str = "transactional"
    token_length: int = 0
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply in one of Mailtrap's shapes. `success` is None where it does not say."""

    success: bool | None
    ids: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def taken(self) -> bool:
        return self.success is not False and bool(self.ids or (self.success and not self.errors))


@dataclass(frozen=True, slots=True)
class _Row:
    """What a refusal means. `mend` may speak of {domain} and of the {token}'s length."""

    verdict: Verdict
    status: str
    name: str = ""
    mend: str = ""


_TOKEN = "check the token ({token} characters): it may have expired or been reset, or not be allowed to send by this stream"
_BAD_TOKEN = _Row(Verdict.PAUSE, _UNAUTHORIZED, "Unauthorized", _TOKEN)
_BAD_SANDBOX = _Row(Verdict.PAUSE, _UNAUTHORIZED, "Unauthorized", "check the token ({token} characters), and sandbox_id")
_BAD_DOMAIN = _Row(
    Verdict.CONFIG,
    _UNAUTHORIZED,
    "Unauthorized",
    "verify {domain} as a sending domain in Mailtrap, and check the token ({token} characters): Mailtrap refuses both alike",
)
_EXPIRED = _Row(
    Verdict.PAUSE, _UNAUTHORIZED, "TokenExpired", "make a new API token in Mailtrap: this one ({token} characters) is not valid any more"
)
_FORBIDDEN = _Row(
    Verdict.CONFIG,
    "4.7.1",
    "Forbidden",
    "verify {domain} as a sending domain in Mailtrap, and allow the token to send from it by this stream",
)
_NO_SANDBOX = _Row(Verdict.PAUSE, "4.7.1", "Forbidden", "allow the token to use this sandbox in Mailtrap")
_BLOCKED = _Row(Verdict.PAUSE, "4.7.0", "AccountBlocked", "Mailtrap does not let this account send: ask its support")
_LIMIT = _Row(Verdict.PAUSE, "4.7.28", "LimitReached", "a limit of the plan is reached: look at the billing page in Mailtrap")
_RATE = _Row(Verdict.THROTTLE, "4.7.28", "RateLimit")
_INVALID = _Row(Verdict.PERM_MSG, "5.6.0", "InvalidRequest")
_UNREADABLE = _Row(Verdict.RETRY, "4.3.0", "InvalidJson")  # a bug of ours: nobody is bounced for it before it expires
_TOO_LARGE = _Row(Verdict.PERM_MSG, "5.3.4", "TooLarge")
_NO_RECIPIENT = _Row(Verdict.PERM_RCPT, "5.1.3", "InvalidRecipient")
_FAILED = _Row(Verdict.RETRY, "4.3.0", "InternalError")  # "Mail was not delivered. Retry later"

_SAID = r"(?:\d{3}[ -])?(?:\d\.\d\.\d{1,3} )?(?:requested action not taken: )?(?:the |your |this )?"  # what may stand before it
# "Message size limit exceeded", "too many recipients per message" and the like are about a message, and in none of these.
_TEXTS: tuple[tuple[re.Pattern[str], _Row], ...] = tuple(
    (re.compile(_SAID + pattern, re.I), row)
    for pattern, row in (
        (r"too many (?:requests|(?:emails|messages|connections) per (?:second|minute|hour|account|ip))\b", _RATE),
        (r"(?:api |request |sending )?rate limit|throttl", _RATE),
        (r"(?:monthly|daily|hourly|billing plan|plan|account|sending)(?: (?:messages?|emails?|sending|plan))?(?: limit| quota)", _LIMIT),
        (r"(?:api )?token(?: is| has)?(?: been)? (?:expired|revoked|reset)\b", _EXPIRED),
        (r"account(?: is| has)?(?: been)? (?:banned|blocked|suspended|disabled|deactivated|not active)\b", _BLOCKED),
        (r"sending from domain(?: [\w.-]+)? is not allowed", _FORBIDDEN),
        (
            r"(?:from |sender |sending )?domain(?: [\w.-]+)?(?: is| has)? (?:not (?:been )?(?:allowed|verified|confirmed)|unverified)",
            _FORBIDDEN,
        ),
        (r"'?from'? header does not match", _FORBIDDEN),
        (r"forbidden\.?$", _FORBIDDEN),
        (r"unauthorized\.?$", _BAD_DOMAIN),
        (r"(?:invalid|malformed|bad) json", _UNREADABLE),
    )
)
# What in a refusal of a request sounds like the account, in words that are in no document. Nobody is bounced for it.
_DOUBTFUL = re.compile(
    _SAID
    + r"(?:(?:free |current )?(?:account|plan|trial|subscription|billing|payment|organi[sz]ation|credit|(?:api )?token|permission|access)\b"
    r"(?! message size)|sending (?:is|has|was)\b|you(?: are|'re) not\b|you(?: have|'ve) (?:used|reached|exceeded|run out|no)\b"
    r"|you need\b)",
    re.I,
)
_PLAN = re.compile(r"\b(?:plan|billing|quota|monthly|daily)\b", re.I)
_PACE = re.compile(r"\brate\b|\bper (?:second|10 sec)", re.I)
_QUOTED = re.compile(r"(?<!\w)'(?!from')[^']*'(?!\w)|\"[^\"]*\"|`[^`]*`", re.I)
_FIELD = re.compile(r"'?(to|cc|bcc)\b[^,]{0,80}\b(?:invalid|malformed|not (?:a )?valid)", re.I)
_NAMES = re.compile(r"^[\w.-]{1,40}: ")  # the field before a text, in an object of errors
_SECURITY_LAYER = "a security layer in front of the API refused the request; if it goes on, tell Mailtrap's support when it began"


def read(answer: Answer, request: Payload, asker: Asker) -> dict[str, Outcome]:
    """What became of each recipient of `request`."""
    return _one(answer, _parse(answer.body), request, asker)


def read_together(answer: Answer, requests: Sequence[Payload], asker: Asker) -> list[Mapping[str, Outcome]] | None:
    """What became of each recipient of each request of a batch, in order; None where the whole was refused for what stands in it.

    A list of results that is shorter or longer than the batch tells nothing about any message of it.
    """
    found, reply = _load(answer.body), _parse(answer.body)
    results = found.get("responses") if isinstance(found, dict) else None
    results = results if isinstance(results, list) else []
    refused = reply is None or reply.success is False
    if answer.status // 100 == 2 and (results or not refused):
        if len(results) != len(requests):
            what = Outcome(Verdict.UNKNOWN, "4.4.2", f"{answer.status}: {len(results)} results for {len(requests)} messages", answer.remote)
            return [dict.fromkeys(request.recipients, what) for request in requests]
        return [_one(answer, _reply(result), request, asker) for result, request in zip(results, requests, strict=True)]
    judged: list[Mapping[str, Outcome]] = [_one(answer, reply, request, asker) for request in requests]
    scopes = {outcome.scope for outcomes in judged for outcome in outcomes.values()}
    for_content = answer.status in (400, 413, 422) or (answer.status // 100 == 2 and reply is not None)
    return None if for_content and scopes <= {Scope.MESSAGE, Scope.RECIPIENT} else judged


def after(refused: frozenset[str], answered: Iterable[tuple[Payload, Mapping[str, Outcome]]], stream: str) -> frozenset[str]:
    """The From domains that were answered 401 by the configured `stream` since the last success, now that requests were answered.
    Two are as good as more."""
    for request, outcomes in answered:
        if request.uses["stream"] != stream:
            continue
        kinds = {(outcome.verdict is Verdict.OK, outcome.status == _UNAUTHORIZED) for outcome in outcomes.values()}
        if (True, False) in kinds:
            refused = frozenset()
        elif (False, True) in kinds and len(refused) < 2:
            refused |= {request.uses["domain"]}
    return refused


def greeted(answer: Answer, stream: str, token_length: int, url: str) -> Check:
    """What the answer of `url` to an empty request says about the token: it is refused for its content where the token is not."""
    what, reply = f"login, stream {stream}", _parse(answer.body)
    if reply and answer.status == 400 and _by_text(reply.errors) is None:
        return Check(what, True, "accepted")
    row = _row(answer.status, reply, {"stream": stream, "domain": ""}, Asker(stream))
    if row.verdict is Verdict.CONFIG:  # nothing in the request named a domain
        row = replace(_BAD_TOKEN, name=row.name)
    if row.verdict is Verdict.PAUSE:
        return Check(what, False, _said(answer, reply, row), row.mend.format(token=token_length))
    return unanswered(what, _said(answer, reply, row), answer.status, url, own=reply is not None)


def _load(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _parse(body: bytes) -> _Reply | None:
    return _reply(_load(body))


def _reply(found: object) -> _Reply | None:
    """A reply, or one result of a batch; None where it has no shape of Mailtrap's."""
    if not isinstance(found, dict):
        return None
    success, ids = found.get("success"), found.get("message_ids")
    errors = tuple(text for name in ("errors", "error") for text in _texts(found.get(name), _DEPTH))[:_MAX_ERRORS]
    named = tuple(net.one_line(one, 100) for one in ids if isinstance(one, str)) if isinstance(ids, list) else ()
    if not isinstance(success, bool):
        success = None
    return _Reply(success, named, errors) if success is not None or named or errors else None


def _texts(errors: object, depth: int) -> Iterator[str]:
    """Errors as texts: of a list, of one text, or of an object with a list for each field."""
    if isinstance(errors, str) and errors:
        yield errors[:_MAX_ERROR]
    elif isinstance(errors, list) and depth:
        for one in errors[:_MAX_ERRORS]:
            yield from _texts(one, depth - 1)
    elif isinstance(errors, dict) and depth:
        for name, one in list(errors.items())[:_MAX_ERRORS]:
            yield from (f"{name[:40]}: {text}" for text in _texts(one, depth - 1))


def _one(answer: Answer, reply: _Reply | None, request: Payload, asker: Asker) -> dict[str, Outcome]:
    """The outcomes of one message, for a reply of its own or its result of a batch."""
    if answer.status // 100 == 2 and reply and reply.taken:
        return _accepted(answer, reply, request)
    row = _row(answer.status, reply, request.uses, asker)
    refusal = _outcome(answer, reply, row, request, asker)
    return _by_recipient(reply, refusal, request) if row is _INVALID and reply else dict.fromkeys(request.recipients, refusal)


def _accepted(answer: Answer, reply: _Reply, request: Payload) -> dict[str, Outcome]:
    """An id for each recipient, in order of To, Cc, Bcc; a sandbox has one for all."""
    recipients = request.recipients
    ids = reply.ids * len(recipients) if len(reply.ids) == 1 else reply.ids
    told = f"{answer.status} ids={len(ids)} for {len(recipients)} recipients"
    if len(ids) != len(recipients):
        ids = ("",) * len(recipients)
    taken = Outcome(Verdict.OK, "2.0.0", told, answer.remote, connect_s=answer.connect_s, send_s=answer.send_s)
    return {
        recipient: replace(taken, remote_id=one, reply=f"{answer.status} id={one}" if one else told)
        for recipient, one in zip(recipients, ids, strict=True)
    }


def _row(status: int, reply: _Reply | None, uses: Mapping[str, str], asker: Asker) -> _Row:
    """What a refusal means to a request that uses this of the account."""
    class_of = status // 100
    if reply is None or class_of in (1, 3) or (class_of == 2 and reply.success is not False):
        return _strange(status, documented=reply is not None)
    if class_of == 2:
        status = 400  # in a batch a refused message has HTTP status 200
    if status == 413:
        return _TOO_LARGE
    found = _by_text(reply.errors) if status < 500 else None
    if found is None or status == 429:
        found = _by_status(status, reply, found)
    return _in_view_of(found, uses, asker)


def _strange(status: int, *, documented: bool) -> _Row:
    verdict = verdicts.http(status, documented=documented)
    if status == 413:
        return replace(_TOO_LARGE, name="")
    mend = {401: _TOKEN}.get(status, _SECURITY_LAYER) if verdict is Verdict.PAUSE else ""
    return _Row(verdict, verdicts.status(verdict), mend=mend)


def _by_text(errors: Sequence[str]) -> _Row | None:
    """What one of the errors says about the account, the domain or the rate."""
    for text in map(_bare, errors):
        for pattern, row in _TEXTS:
            if pattern.match(text):
                return row
    return None


def _bare(error: str) -> str:
    """An error without the field it is about and without what it quotes."""
    return _QUOTED.sub("", _NAMES.sub("", error)).strip()


def _by_status(status: int, reply: _Reply, found: _Row | None) -> _Row:
    said = "; ".join(reply.errors)
    if status == 429:  # of a sandbox also for what the plan allows in all
        return _LIMIT if found is _LIMIT or (_PLAN.search(said) and not _PACE.search(said)) else _RATE
    if status == 400:
        doubtful = not reply.errors or any(_DOUBTFUL.match(_bare(error)) for error in reply.errors)
        return replace(_FAILED, name="") if doubtful else _INVALID
    known = {401: _BAD_DOMAIN, 403: _FORBIDDEN, 500: _FAILED}.get(status)
    return known or _strange(status, documented=True)


def _in_view_of(row: _Row, uses: Mapping[str, str], asker: Asker) -> _Row:
    """The row where it depends on whose mail it was, and on what others heard."""
    if uses["stream"] == "sandbox":
        return {_BAD_DOMAIN: _BAD_SANDBOX, _FORBIDDEN: _NO_SANDBOX}.get(row, row)
    if row is _BAD_DOMAIN and uses["stream"] == asker.stream and asker.refused - {uses["domain"]}:
        return _BAD_TOKEN
    return row


def _said(answer: Answer, reply: _Reply | None, row: _Row) -> str:
    if reply is None:
        return net.one_line(f"{answer.status}: not an answer of Mailtrap: {answer.body[:200].decode('utf-8', 'replace')}")
    return net.one_line(f"{answer.status} {row.name}".rstrip() + f": {'; '.join(reply.errors) or 'no reason given'}")


def _outcome(answer: Answer, reply: _Reply | None, row: _Row, request: Payload, asker: Asker) -> Outcome:
    domain = request.uses["domain"]
    return Outcome(
        row.verdict,
        row.status,
        _said(answer, reply, row),
        answer.remote,
        retry_after=answer.retry_after(),
        identity=f"domain={domain}" if row.verdict is Verdict.CONFIG else "",
        mend=row.mend.format(token=asker.token_length, domain=domain.partition("/")[0]),
        connect_s=answer.connect_s,
        send_s=answer.send_s,
    )


def _by_recipient(reply: _Reply, refusal: Outcome, request: Payload) -> dict[str, Outcome]:
    """A refusal that concerns recipients only, told apart where it names a field of one; nothing was sent then."""
    named = [_FIELD.match(error) for error in reply.errors]
    fields = {match[1].lower() for match in named if match}
    everybody = request.recipients
    if not fields or None in named:
        return dict.fromkeys(everybody, refusal)
    bad = replace(refusal, verdict=_NO_RECIPIENT.verdict, status=_NO_RECIPIENT.status)
    rest = replace(refusal, verdict=Verdict.RETRY, status=verdicts.OTHERS_REFUSED)
    boxes = {"to": request.addressed.to, "cc": request.addressed.cc, "bcc": request.addressed.bcc}
    alone = {boxes[name][0].address for name in fields if len(boxes[name]) == 1}
    return {recipient: bad if recipient in alone else rest for recipient in everybody}
