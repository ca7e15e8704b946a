"""Replies of Amazon SES's API v2 as outcomes, one for each recipient.

Judged by the error's code, which stands in the header x-amzn-errortype or in the body, and where one code stands for several
things by its text; never by the HTTP status alone. What has no row here is judged by relay/verdicts.py. A request that is
refused is refused as a whole: nobody got the mail. Pure; raises nothing for any reply.
Amazon SES API v2 reference 2026-11 (SendEmail, Common Errors), developer guide 2026-11 ("Errors related to the sending
quotas", "Troubleshooting verification"); names and statuses of the errors as in botocore 1.44.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from relay import address, mailboxes, verdicts
from relay.model import Outcome, Verdict
from relay.transports import net
from relay.transports.http import Answer
from relay.transports.sesv2.payload import Payload

_LOGIN, _EXPIRED = "{login}", "{expired}"  # who asks says what to do about his keys
_REGION = "check region ({region}): Amazon knows no such region for these keys"
_DENIED = "allow ses:SendEmail and ses:SendRawEmail for the sender's identity to the owner of the key (docs/providers/ses.md, Set-up)"
_LOST = "the signature did not arrive: check base_url and what stands between this host and Amazon"
_QUOTA = "the account's quota of 24 hours is used up: wait, or ask Amazon for more (SES console, Account dashboard)"
_SUSPENDED = "Amazon has suspended sending for this account: look at the SES console and the account's mail from Amazon"
_PAUSED = "sending is paused for the account in {region}: look at its reputation and resume it (SES console, Account dashboard)"
_SET_PAUSED = "sending is paused for configuration set {configuration_set}: resume it in the SES console"
_LIMIT = "the account has reached a limit of Amazon SES: look at its quotas in {region}"
_FORBIDDEN = "something in front of the API refused the request: check base_url, and the account in the AWS console"
_VERIFY = "verify {domain} (or the sender's address) in {region}: SES console, Identities; each region verifies for itself"
_MAIL_FROM = "the custom MAIL FROM domain of {domain} is not verified: publish its MX record, or switch it off (SES console, Identities)"
_TEMPLATE_DENIED = "allow the owner of the key what the reply names (ses:SendTemplatedEmail, say) for template {template}"
_TENANT_PAUSED = "sending is paused for tenant {tenant}: look at its reputation and resume it (SES console, Tenants)"
_TENANT_LACKS = "associate what the reply names with tenant {tenant}: all that a mail uses must belong to it (SES console, Tenants)"
_MISSING = {
    "template": "create template {template} in {region}, or correct the app's X-Relay-Template",
    "configuration_set": "create configuration set {configuration_set} in {region}, or correct configuration_set",
    "contact_list": "create contact list {contact_list} or its topic in {region}, or correct the app's X-SES-List-Management-Options",
    "tenant": "create tenant {tenant} in {region}, or correct tenant (or the app's X-SES-Tenant)",
    "domain": "read the reply: it names what does not exist in {region}",
}

# Code without `Exception` at its end -> (verdict, enhanced status, mend).
_ROWS: Mapping[str, tuple[Verdict, str, str]] = {
    "TooManyRequests": (Verdict.THROTTLE, "4.7.28", ""),
    "Throttling": (Verdict.THROTTLE, "4.7.28", ""),
    "MaxSendingRateExceeded": (Verdict.THROTTLE, "4.7.28", ""),
    "DailyQuotaExceeded": (Verdict.PAUSE, "4.7.28", _QUOTA),
    "LimitExceeded": (Verdict.PAUSE, "4.7.28", _LIMIT),
    "AccountSuspended": (Verdict.PAUSE, "4.7.0", _SUSPENDED),
    "SendingPaused": (Verdict.PAUSE, "4.7.0", _PAUSED),
    "AccountSendingPaused": (Verdict.PAUSE, "4.7.0", _PAUSED),
    "ConfigurationSetSendingPaused": (Verdict.CONFIG, "4.7.0", _SET_PAUSED),
    "ConfigurationSetDoesNotExist": (Verdict.CONFIG, "4.3.5", _MISSING["configuration_set"]),
    "TemplateDoesNotExist": (Verdict.CONFIG, "4.3.5", _MISSING["template"]),
    "TemplateAccessDenied": (Verdict.CONFIG, "4.7.1", _TEMPLATE_DENIED),
    "IdentityAccessDenied": (Verdict.CONFIG, "4.7.1", _DENIED),
    "TenantSendingPaused": (Verdict.CONFIG, "4.7.0", _TENANT_PAUSED),
    "TenantLacksResource": (Verdict.CONFIG, "4.7.1", _TENANT_LACKS),
    "MissingRenderingAttribute": (Verdict.PERM_MSG, "5.6.0", ""),
    "InvalidRenderingParameter": (Verdict.PERM_MSG, "5.6.0", ""),
    "MailFromDomainNotVerified": (Verdict.CONFIG, "4.7.1", _MAIL_FROM),
    "MessageRejected": (Verdict.PERM_MSG, "5.6.0", ""),
    "BadRequest": (Verdict.PERM_MSG, "5.6.0", ""),
    "NotFound": (Verdict.CONFIG, "4.3.5", ""),
    "UnrecognizedClient": (Verdict.PAUSE, "4.7.8", _LOGIN),
    "InvalidClientTokenId": (Verdict.PAUSE, "4.7.8", _LOGIN),
    "InvalidAccessKeyId": (Verdict.PAUSE, "4.7.8", _LOGIN),
    "SignatureDoesNotMatch": (Verdict.PAUSE, "4.7.8", _LOGIN),
    "InvalidSignature": (Verdict.PAUSE, "4.7.8", _LOGIN),
    "IncompleteSignature": (Verdict.PAUSE, "4.7.8", _LOGIN),
    "MissingAuthenticationToken": (Verdict.PAUSE, "4.7.8", _LOST),
    "ExpiredToken": (Verdict.PAUSE, "4.7.8", _EXPIRED),
    "RequestExpired": (Verdict.PAUSE, "4.7.8", ""),
    "RequestTimeTooSkewed": (Verdict.PAUSE, "4.7.8", ""),
    "RequestInTheFuture": (Verdict.PAUSE, "4.7.8", ""),
    "AccessDenied": (Verdict.PAUSE, "4.7.1", _DENIED),
    "NotAuthorized": (Verdict.PAUSE, "4.7.1", _DENIED),
    "OptInRequired": (Verdict.PAUSE, "4.7.1", _DENIED),
    "ConcurrentModification": (Verdict.RETRY, "4.3.0", ""),
}
CODES = frozenset(_ROWS)
"""The codes that are known, without `Exception`."""
# What a refusal of the message, or one with a code that has no row, is really about. Only where the text begins so: a refusal of
# the message may quote the message. The API gives the texts of its SMTP door under codes that blame the message.
_ACCOUNT = r"(?:sending|(?:the |this |your )?account)"
_BY_TEXT = tuple(
    (re.compile(pattern, re.I), code)
    for pattern, code in (
        (r".{0,20}\bdaily message quota", "DailyQuotaExceeded"),
        (r".{0,20}\bmaximum (?:\S+ )*sending rate", "MaxSendingRateExceeded"),
        (r"sending (?:is )?(?:paused|suspended|disabled|shut down) for (?:the )?configuration set", "ConfigurationSetSendingPaused"),
        (r"sending (?:is )?(?:paused|suspended|disabled|shut down) for (?:the |this )?tenant", "TenantSendingPaused"),
        (r"configuration set \S+ does not exist", "ConfigurationSetDoesNotExist"),
        (r"template \S+ does not exist", "TemplateDoesNotExist"),
        (
            r"(?:the )?(?:resource|identit|configuration set|template).{0,300}\bnot associated with (?:the |this )?tenant",
            "TenantLacksResource",
        ),
        (rf"{_ACCOUNT}\b[^.:]{{0,60}}\bsuspended", "AccountSuspended"),
        (rf"{_ACCOUNT}\b[^.:]{{0,60}}\b(?:paused|disabled|shut down)", "AccountSendingPaused"),
        (r"access denied|user:? \S+ is not authorized to perform", "AccessDenied"),
    )
)
# What a code is about by how it begins, and by which words an answer says what was not found.
_ABOUT = {"ConfigurationSet": "configuration_set", "Template": "template", "Tenant": "tenant"}
_WORDS = {"template": ("template",), "configuration_set": ("configuration set",), "tenant": ("tenant",), "contact_list": ("list", "topic")}
_SIGNING = frozenset({_LOGIN, _EXPIRED})
_SKEW_CODES = frozenset({"RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"})
_SKEW_TEXT = re.compile(r"signature (?:expired|not yet current)", re.I)
_TEMPLATE_TEXT = re.compile(r"\bses:SendTemplatedEmail\b|\bses:[^:\s]*:[^:\s]*:template/", re.I)
_DENIED_IDENTITY = re.compile(r":identity/(?:[^\s/'\"`@]*@)?([\w.-]*\w)")
_RATE = re.compile(r"\brate\b")
_REGION_TEXT = re.compile(r"credential should be scoped to a valid region", re.I)
_CODE = re.compile(r"[A-Za-z0-9_.]{1,100}")
_CANONICAL = re.compile(r"The Canonical String for this request.*", re.S)  # quotes the whole request, its token too
_UNVERIFIED = "email address is not verified"
_FAILED = re.compile(r"failed the check in region [\w-]+: *", re.I)
_MORE = ("...", "…")
_DOMAIN = re.compile(r"[\w-]+(?:\.[\w-]+)+")
_ABOUT_ADDRESSES = re.compile(r"address|domain|recipient|route-addr|local part", re.I)
_MAX_READ = 32 * 1024  # characters of a reply's text that are looked at; 50 addresses take 13 thousand
_MAX_PAGE = 200  # of what is not an answer of AWS
_NO_SKEW = 60.0  # seconds; a clock that is this near is not what a signature fails for


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked. `login` and `expired` say what to do where the keys are refused, or have expired; `secrets` is what no text may
    repeat, and what stands in its place. `behind` is how many seconds this host's clock is behind the remote's, where that is
    known; `clock` says what to do about the time of a signature that is not made here; `asked` is whose
    answer it should be."""

    region: str
    login: str
    expired: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    behind: float | None = None
    clock: str = ""
    asked: str = "Amazon SES"


class Judged(NamedTuple):
    """What an answer that does not concern a message means; `own` where it has the shape of an answer of AWS."""

    verdict: Verdict
    code: str
    reply: str
    mend: str
    own: bool


@dataclass(frozen=True, slots=True)
class _Reply:
    """`documented` says that it has the shape of an answer of AWS."""

    documented: bool
    code: str
    text: str
    message_id: str


def read(answer: Answer, request: Payload, asker: Asker) -> dict[str, Outcome]:
    """What became of each recipient of `request`."""
    reply = _parse(answer, asker.secrets)
    if 200 <= answer.status < 300 and reply.message_id:
        clock = "" if asker.behind is None else f" (signed again by Amazon's clock: this host's is {_apart(asker.behind)} it)"
        said = f"{answer.status} MessageId={reply.message_id}{clock}"
        taken = Outcome(
            Verdict.OK,
            "2.0.0",
            said,
            answer.remote,
            remote_id=reply.message_id,
            connect_s=answer.connect_s,
            send_s=answer.send_s,
        )
        return dict.fromkeys(request.recipients, taken)
    code = _meant(answer, reply)
    names = _names(request)
    if code == "AccessDenied" and (domain := _denied(reply, request)):
        code, names = "IdentityAccessDenied", {**names, "domain": domain}
    verdict, status, mend = _judged(answer, reply, code, asker)
    identity = ""
    if verdict is Verdict.CONFIG:
        kind = _kind(code, reply, request)
        identity = f"{kind}={names[kind]}"
        mend = mend or _MISSING[kind]
    refusal = Outcome(
        verdict,
        status,
        _said(answer, reply, asker),
        answer.remote,
        retry_after=answer.retry_after(),
        identity=identity,
        mend=_filled(mend, names, asker) if verdict in (Verdict.PAUSE, Verdict.CONFIG) else "",
        connect_s=answer.connect_s,
        send_s=answer.send_s,
    )
    return _by_recipient(reply, refusal, request, asker)


def judge(answer: Answer, asker: Asker) -> Judged:
    """What a refusal of any request means: its verdict, the code it stands for, its text, and what to do."""
    reply = _parse(answer, asker.secrets)
    code = _meant(answer, reply)
    verdict, _, mend = _judged(answer, reply, code, asker)
    return Judged(verdict, code, _said(answer, reply, asker), _filled(mend, {}, asker), reply.documented)


def skewed(answer: Answer) -> bool:
    """Whether the request was refused for the time it was signed at."""
    reply = _parse(answer, {})
    return answer.status >= 400 and (reply.code in _SKEW_CODES or _SKEW_TEXT.search(reply.text) is not None)


def keys_refused(outcomes: Mapping[str, Outcome]) -> bool:
    """Whether other keys might be taken."""
    return any(outcome.verdict is Verdict.PAUSE and outcome.status in ("4.7.8", "4.7.1") for outcome in outcomes.values())


def _parse(answer: Answer, secrets: Mapping[str, str]) -> _Reply:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    body: Mapping[str, object] = found if isinstance(found, dict) else {}

    def text(*names: str) -> str:
        return next((value for name in names if isinstance(value := body.get(name), str)), "")

    code = answer.headers.get("x-amzn-errortype", "") or text("__type", "code", "Code")
    code = code.partition(":")[0].rpartition("#")[2].strip().removesuffix("Exception")
    said = text("message", "Message") if body else answer.body[:_MAX_READ].decode("utf-8", "replace")
    for secret, name in secrets.items():
        said = said.replace(secret, name) if secret else said
    said = _CANONICAL.sub("", said[: _MAX_READ if body else _MAX_PAGE])
    known = _CODE.fullmatch(code) is not None
    identifier = text("MessageId")
    return _Reply(known, code if known else "", said, net.one_line(identifier, 100) if identifier else "")


def _said(answer: Answer, reply: _Reply, asker: Asker) -> str:
    """Code and text, and the request's number, which Amazon's support asks for."""
    if not reply.documented:
        return net.one_line(f"{answer.status}: not an answer of {asker.asked}: {reply.text}")
    said = net.one_line(f"{answer.status} {reply.code}: {reply.text}")
    number = answer.headers.get("x-amzn-requestid", "")
    return f"{said} (request {number})" if re.fullmatch(r"[\w-]{1,64}", number) else said


def _meant(answer: Answer, reply: _Reply) -> str:
    """The code that says what the reply is about: its own, or the one that its text stands for."""
    if reply.code == "SendingPaused":
        text = reply.text.lower()
        whose = next((whose for word, whose in (("configuration set", "ConfigurationSet"), ("tenant", "Tenant")) if word in text), "")
        return whose + reply.code
    if reply.code == "AccessDenied" and _TEMPLATE_TEXT.search(reply.text):
        return "TemplateAccessDenied"  # what one app asks for must not stop the others
    row = _ROWS.get(reply.code)
    ours = reply.documented or answer.body.startswith(b"{")  # what stands in front of the API has texts of its own
    if ours and answer.status // 100 == 4 and (row is None or row[0] is Verdict.PERM_MSG):
        return next((code for pattern, code in _BY_TEXT if pattern.match(reply.text)), reply.code)
    return reply.code


def _denied(reply: _Reply, request: Payload) -> str:
    """The sender's domain that a refusal of access names: an app with a From that the key may not use must not stop the others."""
    found = _DENIED_IDENTITY.search(reply.text)
    return found[1].lower() if found and found[1].lower() in request.domains else ""


def _judged(answer: Answer, reply: _Reply, code: str, asker: Asker) -> tuple[Verdict, str, str]:
    """Verdict, enhanced status and mend, the one with its blanks, of a reply that means `code`."""
    text = reply.text.lower()
    row = _ROWS.get(code) if answer.status >= 400 else None  # a 2xx with an error in it says both
    if row is None:
        verdict = verdicts.http(answer.status, documented=reply.documented)
        status = "5.3.4" if answer.status == 413 else verdicts.status(verdict)
        return verdict, status, _key_mend(reply, _LOGIN, asker) if answer.status == 401 else _FORBIDDEN
    verdict, status, mend = row
    if verdict in (Verdict.THROTTLE, Verdict.PAUSE) and "daily message quota" in text:
        return _ROWS["DailyQuotaExceeded"]
    if verdict in (Verdict.THROTTLE, Verdict.PAUSE) and (
        "maximum sending rate" in text or (code == "LimitExceeded" and _RATE.search(text))
    ):
        return _ROWS["MaxSendingRateExceeded"]
    if verdict is Verdict.PERM_MSG and text.startswith(_UNVERIFIED):
        return Verdict.CONFIG, "4.7.1", _VERIFY
    if mend in _SIGNING or not mend:
        mend = _key_mend(reply, mend, asker)
    return verdict, status, mend


def _key_mend(reply: _Reply, mend: str, asker: Asker) -> str:
    """What to do about keys, region or clock; `mend` where nothing better is known."""
    if reply.code in _SKEW_CODES or _SKEW_TEXT.search(reply.text):
        return asker.clock or _clock_mend(asker.behind)
    return _REGION if _REGION_TEXT.search(reply.text) else mend


def _clock_mend(behind: float | None) -> str:
    if behind is None or abs(behind) < _NO_SKEW:
        return "Amazon does not take the time of the signature: check this host's clock (timedatectl)"
    return f"this host's clock is {_apart(behind)} Amazon's: put it right (timedatectl set-ntp true)"


def _apart(behind: float) -> str:
    return f"{abs(behind):.0f} s {'behind' if behind > 0 else 'ahead of'}"


def _names(request: Payload) -> dict[str, str]:
    """What a CONFIG finding can be about, the most telling first; those that the request does not use are left out."""
    return {**request.uses, "domain": request.domains[0]}


def _kind(code: str, reply: _Reply, request: Payload) -> str:
    names = _names(request)
    about = next((kind for start, kind in _ABOUT.items() if code.startswith(start)), "")
    if about or code != "NotFound":
        return about if about in names else "domain"
    text = reply.text.lower()
    said = (kind for kind, words in _WORDS.items() if kind in names and any(word in text for word in (*words, names[kind].lower())))
    return next(said, next(iter(names)))


def _filled(mend: str, names: Mapping[str, str], asker: Asker) -> str:
    blanks = {**dict.fromkeys(_MISSING, "(the identity's default)"), **names}
    return mend.format(**blanks, region=asker.region, login=asker.login, expired=asker.expired)


def _by_recipient(reply: _Reply, refusal: Outcome, request: Payload, asker: Asker) -> dict[str, Outcome]:
    """A refusal that concerns some recipients only, told apart; nothing was sent, so the others are tried again without them."""
    everybody = request.recipients
    others = replace(refusal, verdict=Verdict.RETRY, status=verdicts.OTHERS_REFUSED, identity="", mend="")
    if refusal.verdict is Verdict.CONFIG and reply.text.lower().startswith(_UNVERIFIED):
        found = _FAILED.search(reply.text)
        failed = _identities(reply.text[found.end() :]) if found else set()
        if len(everybody) > 1 and reply.text.rstrip().endswith(_MORE):
            return dict.fromkeys(everybody, others)  # the sender may be among those that are left out
        senders = {address.key(sender) for sender in request.senders} | set(request.domains)
        named = {recipient for recipient in everybody if address.key(recipient) in failed}
        if named and not failed & senders and failed <= {address.key(recipient) for recipient in named}:
            # An account in the sandbox, which may write only to addresses that are verified too.
            unverified = replace(refusal, verdict=Verdict.PERM_RCPT, status="5.7.1", identity="", mend="")
            return {recipient: unverified if recipient in named else others for recipient in everybody}
        domain = next((domain for domain in request.domains if any(one.rpartition("@")[2] == domain for one in failed)), request.domains[0])
        mend = _VERIFY.format(domain=domain, region=asker.region)
        return dict.fromkeys(everybody, replace(refusal, identity=f"domain={domain}", mend=mend))
    if refusal.verdict is Verdict.PERM_MSG and len(everybody) > 1 and _ABOUT_ADDRESSES.search(reply.text):
        return dict.fromkeys(everybody, others)
    return dict.fromkeys(everybody, refusal)


def _identities(text: str) -> set[str]:
    """The keys of the identities in a list of addresses, mailboxes, domains and ARNs."""
    found = {address.key(box.address.rpartition("identity/")[2]) for box in mailboxes.parse(text)}
    names = (one.strip().rpartition("/")[2].lower() for one in text.split(",") if "@" not in one)
    return found | {name for name in names if _DOMAIN.fullmatch(name)}
