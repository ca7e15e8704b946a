"""Replies of Postmark's API as outcomes, one for each recipient.

Judged by the pair (HTTP status, ErrorCode), because the numbers of both overlap: ErrorCode 422 is an invalid server, HTTP
422 any refusal. What is in neither table here is judged by relay/verdicts.py. Pure; raises nothing for any reply.
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
from relay.transports.postmark.request import Payload

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
_MEND_403 = "a security layer in front of the API refused the request; if it goes on, tell Postmark support when it began"
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
    reply = _parse(answer.body)
    if 200 <= answer.status < 300 and reply and not reply.code:
        return _accepted(answer, reply, request)
    status = 422 if answer.status == 200 else answer.status  # in a batch a refused message has HTTP status 200
    row = _ROWS.get((status, reply.code or 0)) if reply else None
    if row is None or reply is None:
        verdict = verdicts.http(answer.status, documented=reply is not None)
        row = (verdict, verdicts.status(verdict), "")
    template = _outcome(answer, reply, row, request, token_length)
    return _by_recipient(reply, template, request) if reply else dict.fromkeys(request.addressed.recipients, template)


def _parse(body: bytes) -> _Reply | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    code, text, message_id = found.get("ErrorCode"), found.get("Message"), found.get("MessageID")
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    text = text[:_MAX_READ] if isinstance(text, str) else ""
    message_id = net.one_line(message_id, 100) if isinstance(message_id, str) else ""
    return _Reply(code, text, message_id) if code is not None or (message_id and text) else None


def _outcome(answer: Answer, reply: _Reply | None, row: tuple[Verdict, str, str], request: Payload, token_length: int) -> Outcome:
    verdict, status, name = row
    code = (reply.code or 0) if reply else 0
    if reply:
        said = f"{answer.status} {code} {name}".rstrip() + f": {reply.text}"
    else:
        said = f"{answer.status}: not an answer of Postmark: {answer.body[:200].decode('utf-8', 'replace')}"
    mend = _MENDS.get(code, "") if verdict in (Verdict.PAUSE, Verdict.CONFIG) and name else ""
    if not mend and verdict is Verdict.PAUSE:
        mend = _MEND_401 if answer.status == 401 else _MEND_403
    identity = ""
    if verdict is Verdict.CONFIG:
        kind = _IDENTITY[code]
        identity = f"{kind}={getattr(request, kind)}"
    return Outcome(
        verdict,
        status,
        net.one_line(said),
        answer.remote,
        retry_after=answer.retry_after(),
        identity=identity,
        mend=mend.format(token=token_length, domain=request.domain, stream=request.stream, template=request.template),
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
    named = _named(listed, request.addressed.recipients)
    return {recipient: inactive if recipient in named else taken for recipient in request.addressed.recipients}


def _by_recipient(reply: _Reply, refusal: Outcome, request: Payload) -> dict[str, Outcome]:
    """A refusal that concerns some recipients only, told apart."""
    everybody = request.addressed.recipients
    if refusal.verdict is Verdict.PERM_RCPT:
        named = _named(reply.text.partition(_INACTIVE)[2], everybody)
        if reply.text.startswith(_PARTIAL):
            taken = replace(refusal, verdict=Verdict.OK, status="2.0.0", remote_id=reply.message_id)
            return {recipient: refusal if recipient in named else taken for recipient in everybody}
        # "All recipients are inactive", and yet it does not name all. Integrators report that Postmark then delivers to
        # the rest (not in its docs, 2026-11), so the rest must neither be bounced nor sent by another provider.
        rest = replace(refusal, verdict=Verdict.UNKNOWN, status="4.4.2")
        return {recipient: refusal if recipient in (named or everybody) else rest for recipient in everybody}
    if reply.code == 300 and (found := _FIELD.match(reply.text)):
        boxes = {"To": request.addressed.to, "Cc": request.addressed.cc, "Bcc": request.addressed.bcc}[found[1]]
        named = _named(reply.text, everybody)
        if not named and len(boxes) == 1:
            named = {boxes[0].address}
        bad = replace(refusal, verdict=Verdict.PERM_RCPT, status="5.1.3")
        rest = replace(
            refusal, verdict=Verdict.RETRY, status=verdicts.OTHERS_REFUSED
        )  # nothing was sent; the next request is without the bad ones
        return {recipient: bad if recipient in named else rest for recipient in everybody}
    return dict.fromkeys(everybody, refusal)


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
