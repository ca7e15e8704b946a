"""Replies of Postmark's API as outcomes, one for each recipient.

Judged by the pair (HTTP status, ErrorCode), because the numbers of both overlap: ErrorCode 422 is an invalid server, HTTP
422 any refusal. A refused message of a batch, which has HTTP status 200, is judged as it would be alone. What is in neither
table here is judged by relay/verdicts.py. Pure; raises nothing for any reply.
Postmark docs 2026-11: developer/api/overview#error-codes, support article "Getting a 403 that doesn't look like a Postmark
error"; texts as the official client libraries read them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from relay import address, verdicts
from relay.model import Outcome, Verdict
from relay.transports import net
from relay.transports.http import Answer
from relay.transports.rebuilding import Payload

# (HTTP status, ErrorCode) -> (verdict, enhanced status, name). What is not here is judged by verdicts.http.
_ROWS: Mapping[tuple[int, int], tuple[Verdict, str, str]] = {
    (401, 10): (Verdict.PAUSE, "4.7.8", "BadToken"),
    (503, 100): (Verdict.RETRY, "4.3.2", "Maintenance"),
    (500, 101): (Verdict.UNKNOWN, "4.4.2", "InternalError"),  # nobody says whether it was before or after the message was taken
    (422, 300): (Verdict.PERM_MSG, "5.6.0", "InvalidRequest"),
    (422, 400): (Verdict.CONFIG, "4.7.1", "SenderNotFound"),
    (422, 401): (Verdict.CONFIG, "4.7.1", "SenderNotConfirmed"),
    (422, 402): (Verdict.RETRY, "4.3.0", "InvalidJson"),  # a bug of ours: nobody is bounced for it before it expires
    (422, 403): (Verdict.RETRY, "4.3.0", "InvalidField"),
    (422, 405): (Verdict.PAUSE, "4.7.0", "NotAllowedToSend"),
    (422, 406): (Verdict.PERM_RCPT, "5.2.1", "InactiveRecipient"),
    (422, 409): (Verdict.RETRY, "4.3.0", "JsonRequired"),
    (422, 410): (Verdict.RETRY, "4.3.0", "TooManyMessages"),
    (422, 411): (Verdict.PERM_MSG, "5.7.1", "ForbiddenAttachment"),
    (422, 412): (Verdict.PAUSE, "4.7.0", "AccountPending"),
    (422, 413): (Verdict.PAUSE, "4.7.0", "AccountMayNotSend"),
    (422, 422): (Verdict.PAUSE, "4.7.0", "InvalidServer"),
    (429, 429): (Verdict.THROTTLE, "4.7.28", "RateLimit"),
    (422, 1101): (Verdict.CONFIG, "4.3.5", "TemplateNotFound"),
    (422, 1109): (Verdict.PERM_MSG, "5.6.0", "NoTemplateData"),
    (422, 1120): (Verdict.PERM_MSG, "5.6.0", "TemplateDataMissing"),
    (422, 1122): (Verdict.PERM_MSG, "5.6.0", "TemplateModelReserved"),
    (422, 1123): (Verdict.PERM_MSG, "5.6.0", "TemplateMixed"),
    (422, 1226): (Verdict.CONFIG, "4.3.5", "StreamNotFound"),
    (422, 1235): (Verdict.CONFIG, "4.3.5", "StreamNotFound"),
    (422, 1236): (Verdict.CONFIG, "4.3.5", "StreamCannotSend"),
    (422, 1480): (Verdict.PAUSE, "4.7.1", "AddressNotAllowed"),
}
CODES = frozenset(_ROWS)
"""The pairs of HTTP status and ErrorCode that are known."""
_OWN_STATUS = {code: status for status, code in _ROWS}  # the HTTP status that a code comes with
_IDENTITY = {400: "domain", 401: "domain", 1101: "template", 1226: "stream", 1235: "stream", 1236: "stream"}
_MENDS = {
    10: "check the token ({token} characters): server tokens are under Servers > API Tokens, an account token does not work here",
    400: "add {domain} as a domain (or the sender as a signature) in Postmark and confirm it",
    401: "confirm the sender signature or domain {domain} in Postmark",
    405: "the account may not send or is out of credits: look at its billing page in Postmark",
    412: "until Postmark has approved the account it delivers only to the sender's own domain: ask for approval",
    413: "Postmark has not approved the account to send: ask its support",
    422: "the token's server or account is not valid any more: look at it in Postmark",
    1101: "create the template {template} on this Postmark server",
    1226: "create the message stream {stream} in Postmark, or set stream: to one that exists",
    1235: "create the message stream {stream} in Postmark, or set stream: to one that exists",
    1236: "set stream: to a transactional or broadcast stream; {stream} cannot send",
    1480: "add this host's address to the allowed addresses of the Postmark server",
}
_MEND_401 = _MENDS[10]
_TOO_LARGE = (Verdict.PERM_MSG, "5.3.4", "")
# The number of a request that is too large, and of an account that may not send: nobody is bounced for what may be the account.
_SHARED_413 = (Verdict.RETRY, "4.3.0", "")
_MEND_403 = "a security layer in front of the API refused the request; if it goes on, tell Postmark support when it began"
# A batch is refused for what stands in it, and so is worth a second look in parts; but not where it is refused for what all of it
# meets again, or where nobody knows.
_ABOUT_CONTENT = frozenset({400, 413, 422})
_ABOUT_ALL = frozenset({Verdict.PAUSE, Verdict.THROTTLE, Verdict.UNKNOWN})
_MAX_READ = 32 * 1024  # characters of a reply's text that are looked at; 50 addresses take 13 thousand
_FIELD = re.compile(r"(?:Invalid|Error parsing) '(To|Cc|Bcc)'")
_INACTIVE = "inactive addresses:"
_PARTIAL = "Message OK, but will not deliver to these inactive addresses"
_ATOM = r"\w.!#$%&*+/=?^`{|}~-"  # what an address is made of before its @, without the apostrophe


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply in Postmark's own shape. `code` is None where it has no ErrorCode, as a queued message may."""

    code: int | None
    text: str
    message_id: str


def read(answer: Answer, request: Payload, *, token_length: int) -> dict[str, Outcome]:
    """What became of each recipient of `request`."""
    return _judged(answer, _reply(_json(answer.body)), request, answer.status, token_length)


def read_together(answer: Answer, requests: Sequence[Payload], *, token_length: int) -> list[dict[str, Outcome]] | None:
    """What became of each recipient of each of `requests`, which went as one: an item of the answer for each, in order.

    None where the whole was refused for what stands in it, so that nothing was taken; not where the token or the account was
    refused, which would be the same for each alone.
    """
    found = _json(answer.body)
    if isinstance(found, list) and 200 <= answer.status < 300:
        items = [_reply(item) for item in found[: len(requests)]]
        items += [None] * (len(requests) - len(items))
        return [_item(answer, item, request, token_length) for item, request in zip(items, requests, strict=True)]
    whole = _reply(found)
    code = whole.code if whole else None
    status = 422 if 200 <= answer.status < 300 and code else answer.status
    about_all = _row(code, status, documented=whole is not None)[0] in _ABOUT_ALL
    if 200 <= answer.status < 300 and not (code and about_all):  # not an answer to a batch
        return [_item(answer, None, request, token_length) for request in requests]
    if status in _ABOUT_CONTENT and not about_all:
        return None
    return [_judged(answer, whole, request, status, token_length) for request in requests]


def refusal(answer: Answer, *, uses: Mapping[str, str], token_length: int) -> Outcome:
    """What to make of an answer that is not 200 to a question that sends no mail and is about `uses` ({"stream": "outbound"})."""
    reply = _reply(_json(answer.body))
    status = 422 if reply and answer.status == 404 else answer.status
    return _outcome(answer, reply, _row(reply.code if reply else None, status, documented=reply is not None), uses, token_length)


def is_own(answer: Answer) -> bool:
    """Whether it has the shape of an answer of Postmark."""
    return _reply(_json(answer.body)) is not None


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _reply(found: object) -> _Reply | None:
    if not isinstance(found, dict):
        return None
    code, text, message_id = found.get("ErrorCode"), found.get("Message"), found.get("MessageID")
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    text = text[:_MAX_READ] if isinstance(text, str) else ""
    message_id = net.one_line(message_id, 100) if isinstance(message_id, str) else ""
    return _Reply(code, text, message_id) if code is not None or (message_id and text) else None


def _item(answer: Answer, item: _Reply | None, request: Payload, token_length: int) -> dict[str, Outcome]:
    """What became of one message of a batch. The rest of the answer is about others: nothing of it is told here."""
    if item is None:
        said = f"{answer.status}: no answer for this message among those for its batch"
        lost = Outcome(Verdict.UNKNOWN, "4.4.2", said, answer.remote, connect_s=answer.connect_s, send_s=answer.send_s)
        return dict.fromkeys(request.recipients, lost)
    return _judged(answer, item, request, 422 if item.code else answer.status, token_length)


def _judged(answer: Answer, reply: _Reply | None, request: Payload, status: int, token_length: int) -> dict[str, Outcome]:
    """`status` is the HTTP status by which a refusal is judged."""
    if 200 <= answer.status < 300 and reply and not reply.code:
        return _accepted(answer, reply, request)
    row = _row(reply.code if reply else None, status, documented=reply is not None)
    template = _outcome(answer, reply, row, request.uses, token_length)
    return _by_recipient(reply, template, request) if reply else dict.fromkeys(request.recipients, template)


def _row(code: int | None, status: int, *, documented: bool = True) -> tuple[Verdict, str, str]:
    """(verdict, enhanced status, name) of a refusal."""
    known = _ROWS.get((_OWN_STATUS.get(code or 0, 0) if status in (200, 422) else status, code or 0))
    if known:
        return known
    own = _ROWS.get((_OWN_STATUS.get(code or 0, 0), code or 0))
    if own and own[0] is Verdict.PAUSE and 400 <= status < 500 and code != status:
        return own  # the account, by whatever status it is refused
    if status == 413:
        return _SHARED_413 if code == 413 else _TOO_LARGE
    verdict = verdicts.http(status, documented=documented)
    return verdict, verdicts.status(verdict), ""


def _outcome(answer: Answer, reply: _Reply | None, row: tuple[Verdict, str, str], uses: Mapping[str, str], token_length: int) -> Outcome:
    """`uses` is what the request used of the account: what a CONFIG blames is among it."""
    verdict, status, name = row
    code = (reply.code or 0) if reply else 0
    if reply:
        said = f"{answer.status} {code} {name}".rstrip() + f": {reply.text}"
    else:
        said = f"{answer.status}: not an answer of Postmark: {answer.body[:200].decode('utf-8', 'replace')}"
    blamed = uses.get(_IDENTITY.get(code, ""), "")
    if verdict is Verdict.CONFIG and not blamed:
        verdict, status = Verdict.RETRY, verdicts.status(Verdict.RETRY)
    mend = _MENDS.get(code, "") if verdict in (Verdict.PAUSE, Verdict.CONFIG) and name else ""
    if not mend and verdict is Verdict.PAUSE:
        mend = _MEND_401 if answer.status == 401 else _MEND_403
    return Outcome(
        verdict,
        status,
        net.one_line(said),
        answer.remote,
        retry_after=answer.retry_after(),
        identity=f"{_IDENTITY[code]}={blamed}" if verdict is Verdict.CONFIG else "",
        mend=mend.format(token=token_length, **uses),
        connect_s=answer.connect_s,
        send_s=answer.send_s,
    )


def _accepted(answer: Answer, reply: _Reply, request: Payload) -> dict[str, Outcome]:
    """Taken, but Postmark says which recipients it will not deliver to."""
    said = f"{answer.status} MessageID={reply.message_id or '-'}"
    taken = Outcome(
        Verdict.OK,
        "2.0.0",
        said if reply.text in ("OK", "") else net.one_line(f"{said}: {reply.text}"),
        answer.remote,
        remote_id=reply.message_id,
        connect_s=answer.connect_s,
        send_s=answer.send_s,
    )
    _, _, listed = reply.text.partition(_INACTIVE)
    inactive = replace(
        taken,
        verdict=Verdict.PERM_RCPT,
        status="5.2.1",
        reply=net.one_line(f"{answer.status} 0 InactiveRecipient: {reply.text}"),
        remote_id="",
    )
    named = _named(listed, request.recipients)
    return {recipient: inactive if recipient in named else taken for recipient in request.recipients}


def _by_recipient(reply: _Reply, refused: Outcome, request: Payload) -> dict[str, Outcome]:
    """A refusal that concerns some recipients only, told apart."""
    everybody = request.recipients
    if refused.verdict is Verdict.PERM_RCPT:
        named = _named(reply.text.partition(_INACTIVE)[2], everybody)
        if reply.text.startswith(_PARTIAL):
            taken = replace(refused, verdict=Verdict.OK, status="2.0.0", remote_id=reply.message_id)
            return {recipient: refused if recipient in named else taken for recipient in everybody}
        # "All recipients are inactive", and yet it does not name all. Integrators report that Postmark then delivers to
        # the rest (not in its docs, 2026-11), so the rest must neither be bounced nor sent by another provider.
        rest = replace(refused, verdict=Verdict.UNKNOWN, status="4.4.2")
        return {recipient: refused if recipient in (named or everybody) else rest for recipient in everybody}
    if refused.verdict is Verdict.PERM_MSG and reply.code == 300 and (found := _FIELD.match(reply.text)):
        boxes = {"To": request.addressed.to, "Cc": request.addressed.cc, "Bcc": request.addressed.bcc}[found[1]]
        named = _named(reply.text, everybody)
        if not named and len(boxes) == 1:
            named = {boxes[0].address}
        bad = replace(refused, verdict=Verdict.PERM_RCPT, status="5.1.3")
        # Nothing was sent; the next request is without the bad ones.
        rest = replace(refused, verdict=Verdict.RETRY, status=verdicts.OTHERS_REFUSED)
        return {recipient: bad if recipient in named else rest for recipient in everybody}
    return dict.fromkeys(everybody, refused)


def _named(text: str, recipients: Sequence[str]) -> set[str]:
    """The recipients whose address stands in `text`, where Postmark writes it in lower case.

    The known addresses are looked for, the longest first: an apostrophe may belong to an address or quote it, which a text
    alone does not tell. A quoting one stands behind what can be in no address.
    """
    known: dict[str, set[str]] = {}
    for recipient in recipients:
        for form in (recipient.lower(), address.key(recipient)):
            known.setdefault(form, set()).add(recipient)
    forms = "|".join(re.escape(form) for form in sorted(known, key=len, reverse=True))
    found = re.findall(rf"(?<![{_ATOM}])(?<![{_ATOM}]')(?:{forms})(?!\.?[\w-])", text.lower())
    return {recipient for form in found for recipient in known[form]}
