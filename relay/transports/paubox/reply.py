"""Replies of Paubox's API as outcomes, one for each recipient.

Paubox has no error codes: an error is an HTTP status and an English text in one of three envelopes, so it is judged by the words
in the text; what is quoted in it decides nothing. A text without a known word is judged by its status: 422 is about the sender's
domain, and 400 may be about anything, so it is tried again, as is what only sounds like the account. What is in none of Paubox's
envelopes is judged by relay/verdicts.py, but for 404: there is no API where it was looked for, or no template.

Mail by Paubox may be about patients, and a text may quote it: what is kept of a text is in words.py. X-Request-Id is kept too, for
Paubox's support.
Pure; raises nothing for any reply.
Paubox docs 2026-11: email-api "Errors", "Send a message", "Send bulk messages", "Get email disposition"; envelopes as its client
library for Go reads them (paubox-go 1.0.0).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from relay import verdicts
from relay.model import Outcome, Verdict
from relay.transports import net
from relay.transports.base import Check, unanswered
from relay.transports.http import Answer
from relay.transports.paubox.request import QUEUE_ID, Letter
from relay.transports.paubox.words import shown

_MAX_TEXT = 4000  # characters of an error's text that are looked at
_MAX_DEPTH = 4  # of values in `errors`
_TAKEN = "service ok"
_QUOTED = re.compile(r"\"[^\"]{0,200}\"|`[^`]{0,200}`|“[^”]{0,200}”|<[^>]{0,200}>|(?<!\w)'[^']{0,200}'(?!\w)")
_ID = re.compile(r"[\w.:-]{1,100}", re.A)

# What the text is about, the first that fits.
_ACCOUNT = re.compile(
    r"api[ _-]?key|credential|\bquota|(?:plan|sending|monthly|account) limit|account\b.{0,60}(?:suspend|deactivat|disabled|inactive|locked)"
    r"|(?:suspend|deactivat)\w{0,5}.{0,40}\baccount",
    re.I,
)
# What may be about the account: no reason to stop for everybody, and none to bounce anybody.
_DOUBTFUL = re.compile(
    r"\b(?:accounts?|plan|trial|subscription|billing|payment|organi[sz]ation|permissions?|not allowed|blocked|denied|disabled"
    r"|inactive|expired|suspended|overage)\b",
    re.I,
)
_VALUES = re.compile(r"template[ _]?values|variable|\bjson\b", re.I)
_TEMPLATE = re.compile(r"template", re.I)
_UNVERIFIED = re.compile(r"verif|authori[sz]|allowed to send", re.I)
_SENDER = re.compile(r"\bfrom\b|sender|domain|reply", re.I)
_DOMAIN = re.compile(r"domain", re.I)
_FORM = re.compile(r"address|format|malformed|syntax", re.I)
_RECIPIENT = re.compile(r"recipient|\bb?cc\b", re.I)
_ADDRESS = re.compile(r"e-?mail address|(?:invalid|malformed|bad) (?:e-?mail|address)", re.I)
_PARTS = re.compile(r"subject|content|\bbody|attachment|base64|\bfile", re.I)
_CONTENT = re.compile(r"subject|content|body|attachment|base64|text/|html|header|too (?:large|big|long)|size", re.I)

_RECEIPT = re.compile(r"tracking|message", re.I)

_KEY = "check api_key ({key} characters), username and auth_scheme"
_FORBIDDEN = "the API key may not send, or not from {domain}: look at both in Paubox (Email API > Settings)"
_IN_FRONT = "a security layer in front of the API refused the request; if it goes on, tell Paubox support when it began"
_NOWHERE = "the API is not at this address: check base_url and username"
_STOPPED = "Paubox does not let the account send: look at its plan and its API key there"
_VERIFY = "verify the domain {domain} in Paubox (Email API > Settings)"
_VERIFY_REPLY = "verify the domain {reply_to} in Paubox (Email API > Settings): a Reply-To has to be of a verified domain"
_CREATE = "create the dynamic template {template} in Paubox; where it is there, check base_url and username"


class _About(NamedTuple):
    """What an error means: `uses` names what of the account is to be mended, by its key in Letter.uses."""

    verdict: Verdict
    status: str
    mend: str = ""
    uses: str = ""


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply in one of Paubox's envelopes. `code` is that of the first error, 0 where it has none."""

    taken: bool
    tracking_id: str = ""
    queue_id: str = ""  # the one that came back
    code: int = 0
    text: str = ""


def read(answer: Answer, request: Letter, *, key_length: int) -> dict[str, Outcome]:
    """What became of each recipient of `request`."""
    return _judged(answer, _reply(_json(answer.body), answer.status), request, key_length)


def read_together(answer: Answer, requests: Sequence[Letter], *, key_length: int) -> list[dict[str, Outcome]] | None:
    """What became of each recipient of each of `requests`, sent as one; None where the whole was refused for what stands in it."""
    value = _json(answer.body)
    items = value.get("messages") if isinstance(value, dict) else None
    if _is_success(answer.status) and isinstance(items, list):
        replies = _in_order([_reply(item, answer.status) for item in items], requests)
        return [_one_of_many(answer, reply, request, key_length) for reply, request in zip(replies, requests, strict=True)]
    reply = _reply(value, answer.status)
    if reply and reply.taken:
        reply = None  # one id for all of them
    if (_status(answer, reply) if reply else answer.status) in (400, 413, 422):
        return None
    return [_judged(answer, reply, request, key_length) for request in requests]


def _in_order(replies: Sequence[_Reply | None], requests: Sequence[Letter]) -> list[_Reply | None]:
    """The reply to each request: Paubox answers with one for each, in order.

    What it says of a message that it does not take is not documented. Where there are not as many replies as requests the order
    tells nothing, and a reply counts only by the queue id that came back in it, when there are as many of that as were sent.
    """
    if len(replies) == len(requests):
        return list(replies)
    by_id: dict[str, list[_Reply]] = {}
    for reply in replies:
        if reply and reply.queue_id:
            by_id.setdefault(reply.queue_id, []).append(reply)
    sent = Counter(request.queue_id for request in requests)
    sure = {queue_id: found for queue_id, found in by_id.items() if len(found) == sent[queue_id]}
    return [sure[request.queue_id].pop(0) if request.queue_id in sure else None for request in requests]


def login(answer: Answer, *, key_length: int, url: str) -> Check:
    """Whether the key was accepted, by the answer of `url` to a question for the receipt of a message that does not exist.

    The docs answer an unknown id with 404 in Paubox's own envelope; that a wrong key gets 401 there too is not written.
    """
    value = _json(answer.body)
    reply = _reply(value, answer.status)
    said = _said(answer, reply, answer.status)
    if answer.status in (401, 403):
        mend = _KEY if answer.status == 401 or reply else _IN_FRONT
        return Check("login", False, said, mend.format(key=key_length))
    about_it = isinstance(value, dict) and ("sourceTrackingId" in value or (reply and _RECEIPT.search(reply.text)))
    if about_it and (_is_success(answer.status) or answer.status == 404):
        return Check("login", True, f"the API key is accepted ({answer.status} for a message that does not exist)")
    if answer.status == 404:
        return Check("login", False, said, _NOWHERE)
    return unanswered("login", said, answer.status, url, own=reply is not None)


# --- what was said ---


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _reply(value: object, status: int) -> _Reply | None:
    """The reply in an object of Paubox's that came with this HTTP status; None for anything else."""
    if not isinstance(value, dict):
        return None
    tracking, fields = value.get("sourceTrackingId"), value.get("customHeaders")
    tracking_id = tracking if isinstance(tracking, str) and _ID.fullmatch(tracking) else ""
    came_back = [one for name, one in fields.items() if name.lower() == QUEUE_ID.lower()] if isinstance(fields, dict) else []
    queue_id = came_back[0] if came_back and isinstance(came_back[0], str) else ""
    success = _is_success(status)
    text, code = _error(value, success)
    if text or code:
        return None if success and tracking_id else _Reply(False, "", queue_id, code, text)  # taken, and not taken: nobody knows
    data = value.get("data")
    if success and (tracking_id or (isinstance(data, str) and data.strip().lower() == _TAKEN)):
        return _Reply(True, tracking_id, queue_id)
    return None


def _error(value: Mapping[str, object], success: bool) -> tuple[str, int]:
    """Text and code of an error: `errors` as a list of objects, as one or several texts, or by field; or `message`, `error`,
    which count as an error only where the HTTP status says so."""
    errors = value.get("errors") or (not success and (value.get("error") or value.get("message")))
    found = _texts(errors, _MAX_DEPTH) if errors else []
    first = errors[0] if isinstance(errors, list) and errors else errors
    code = first.get("code") if isinstance(first, dict) else None
    number = int(code) if isinstance(code, (int, str)) and re.fullmatch(r"[0-9]{1,6}", str(code)) else 0
    return " ".join(" ".join(found).split())[:_MAX_TEXT], number


def _texts(value: object, depth: int) -> list[str]:
    """Every text in the value of `errors`, with the names of fields."""
    if isinstance(value, str):
        return [value[:_MAX_TEXT]]
    if not depth:
        return []
    if isinstance(value, list):
        return [text for one in value[:100] for text in _texts(one, depth - 1)]
    if isinstance(value, dict):
        known = ("code", "title", "details", "detail", "message")
        return [text for name, one in list(value.items())[:100] for text in ([] if name in known else [name]) + _texts(one, depth - 1)]
    return []


def _status(answer: Answer, reply: _Reply) -> int:
    """The HTTP status of an error; one that comes with 200 has it as its code."""
    if not _is_success(answer.status):
        return answer.status
    return reply.code if 400 <= reply.code < 600 else 400


def _said(answer: Answer, reply: _Reply | None, status: int) -> str:
    """The reply in one line, with nothing of a message in it."""
    request_id = answer.headers.get("x-request-id", "")
    asked = f" (X-Request-Id {request_id})" if _ID.fullmatch(request_id) else ""
    if reply is None:
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        named = kind if re.fullmatch(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}", kind) else "no content type"
        return f"{answer.status}: not an answer of Paubox ({named}, {len(answer.body)} octets){asked}"
    code = f" {reply.code}" if reply.code and reply.code != status else ""
    return net.one_line(f"{status}{code}: {shown(reply.text) or '-'}", 500) + asked


# --- what it means ---


def _judged(answer: Answer, reply: _Reply | None, request: Letter, key_length: int) -> dict[str, Outcome]:
    """The outcomes of one request."""
    if reply and reply.taken:
        taken = Outcome(
            Verdict.OK,
            "2.0.0",
            f"{answer.status} sourceTrackingId={reply.tracking_id or '-'}",
            answer.remote,
            remote_id=reply.tracking_id,
            connect_s=answer.connect_s,
            send_s=answer.send_s,
        )
        return dict.fromkeys(request.recipients, taken)
    status = _status(answer, reply) if reply else answer.status
    about = _about(status, reply, request)
    names = {"domain": "", "reply_to": "", "template": "", **request.uses}
    outcome = Outcome(
        about.verdict,
        about.status,
        _said(answer, reply, status),
        answer.remote,
        retry_after=answer.retry_after(),
        identity=f"{about.uses}={names[about.uses]}" if about.uses else "",
        mend=about.mend.format(key=key_length, **names),
        connect_s=answer.connect_s,
        send_s=answer.send_s,
    )
    return dict.fromkeys(request.recipients, outcome)


def _one_of_many(answer: Answer, reply: _Reply | None, request: Letter, key_length: int) -> dict[str, Outcome]:
    """The outcomes of one request among several."""
    outcomes = _judged(answer, reply, request, key_length)
    if reply:
        return outcomes
    unclear = f"{answer.status}: nothing about this message among the answers"
    return {recipient: replace(outcome, reply=unclear) for recipient, outcome in outcomes.items()}


def _about(status: int, reply: _Reply | None, request: Letter) -> _About:
    """What an error with this status means."""
    if status == 401:
        return _About(Verdict.PAUSE, "4.7.8", _KEY)
    if status == 404:  # nothing in a message leads to it but the name of a template
        return _template_missing() if request.uses.get("template") else _About(Verdict.PAUSE, "4.3.5", _NOWHERE)
    if reply and status in (400, 403, 422):
        found = _by_text(status, _QUOTED.sub(" ", reply.text), request)
        if found:
            return found
    if status == 403:
        return _About(Verdict.PAUSE, "4.7.1", _FORBIDDEN if reply else _IN_FRONT)
    if reply and status == 422:
        return _sender_unverified("", request)
    verdict = verdicts.http(status, documented=reply is not None)
    return _About(verdict, "5.3.4" if status == 413 else verdicts.status(verdict))


def _by_text(status: int, text: str, request: Letter) -> _About | None:
    """What the words of a refusal mean; None where they say nothing."""
    if status != 403 and _PARTS.search(text) and (_ACCOUNT.search(text) or _UNVERIFIED.search(text)):
        return _About(Verdict.RETRY, "4.3.0")  # it may be quoting the message, which must stop nobody else's
    if _ACCOUNT.search(text):
        return _About(Verdict.PAUSE, "4.7.0", _STOPPED)
    if _TEMPLATE.search(text) and request.uses.get("template"):
        return _About(Verdict.PERM_MSG, "5.6.0") if _VALUES.search(text) else _template_missing()
    if _UNVERIFIED.search(text) and (status != 403 or _SENDER.search(text)):
        return _sender_unverified(text, request)
    if status == 403:
        return None
    if _DOUBTFUL.search(text):
        return _About(Verdict.RETRY, "4.3.0")
    if _RECIPIENT.search(text):
        return _recipient_refused(request)
    if _SENDER.search(text):  # there is one, and of a form that is taken: what is left is the account's word on it
        is_form = status == 400 and _FORM.search(text) and not _DOMAIN.search(text)
        return _About(Verdict.PERM_MSG, "5.6.0") if is_form else _sender_unverified(text, request)
    if _ADDRESS.search(text):
        return _recipient_refused(request)
    return _About(Verdict.PERM_MSG, "5.6.0") if _CONTENT.search(text) else None


def _recipient_refused(request: Letter) -> _About:
    """Nothing was sent to anybody; where there are several, the next requests are for one each."""
    if len(request.recipients) == 1:
        return _About(Verdict.PERM_RCPT, "5.1.3")
    return _About(Verdict.RETRY, verdicts.OTHERS_REFUSED)


def _template_missing() -> _About:
    return _About(Verdict.CONFIG, "4.3.5", _CREATE, "template")


def _sender_unverified(text: str, request: Letter) -> _About:
    """The From's domain, or the Reply-To's, which has to be verified too."""
    if re.search(r"reply", text, re.I) and request.uses.get("reply_to"):
        return _About(Verdict.CONFIG, "4.7.1", _VERIFY_REPLY, "reply_to")
    return _About(Verdict.CONFIG, "4.7.1", _VERIFY, "domain")
