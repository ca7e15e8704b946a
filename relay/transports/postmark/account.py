"""What Postmark says of a server token, as checks of a probe: the server it belongs to, and the stream mail goes by.

Only what would keep mail from being sent fails a check; what an admin may want to know besides has a `mend` and no verdict.
Nothing of the answer is shown but the fields named here: it holds the server's tokens too. Pure; raises nothing for any
reply. Postmark docs 2026-11: developer/api/server-api, developer/api/message-streams-api, "Sandbox mode".
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from relay.model import Verdict
from relay.transports import net
from relay.transports.base import Check, unanswered
from relay.transports.http import Answer
from relay.transports.postmark.reply import is_own, refusal
from relay.transports.postmark.request import PostmarkSettings

TEST_TOKEN = "POSTMARK_API_TEST"  # requests with it are looked at and answered, and nothing is sent
_SENDS = {"Transactional", "Broadcasts"}  # types of stream


def server(answer: Answer, settings: PostmarkSettings) -> list[Check]:
    """From the answer to GET /server. The first check is `login`; there are others only where that is good."""
    if settings.token == TEST_TOKEN:
        return [
            Check("login", None, f"{TEST_TOKEN}: Postmark looks at requests and delivers nothing", "for real mail set token to a server's")
        ]
    found = _fields(answer)
    if "Name" not in found:
        return [_not_told("login", answer, settings, {})]
    checks = [Check("login", True, f"server {net.one_line(str(found['Name']), 100)}")]
    kind = net.one_line(str(found.get("DeliveryType", "")), 40)
    if kind == "Sandbox":
        checks.append(Check("delivery", None, "Sandbox: Postmark delivers nothing of it", "use the token of a Live server to reach people"))
    elif kind:
        checks.append(Check("delivery", True, kind))
    if "TrackOpens" in found or "TrackLinks" in found:
        checks.append(_tracking(found, settings))
    return checks


def stream(answer: Answer, settings: PostmarkSettings) -> Check:
    """From the answer to GET /message-streams/ID."""
    name = settings.stream
    found = _fields(answer)
    if "MessageStreamType" in found:
        kind = net.one_line(str(found["MessageStreamType"]), 40)
        if found.get("ArchivedAt"):
            return Check("stream", False, f"{name}: {kind}, archived", f"restore the stream {name} in Postmark, or set stream: to another")
        if kind not in _SENDS:
            return Check("stream", False, f"{name}: {kind}, which sends nothing", "set stream: to a transactional or broadcast stream")
        return Check("stream", True, f"{name}: {kind}")
    return _not_told("stream", answer, settings, {"stream": name})


def _fields(answer: Answer) -> dict[str, object]:
    """The fields of an answer that is what was asked for."""
    try:
        found = json.loads(answer.body) if answer.status == 200 else {}
    except (ValueError, RecursionError):
        found = {}
    return found if isinstance(found, dict) else {}


def _tracking(found: dict[str, object], settings: PostmarkSettings) -> Check:
    """A server that tracks opens does so whatever a mail asks for."""
    opens = found.get("TrackOpens") is True
    links = net.one_line(str(found.get("TrackLinks", "")), 40) or "None"
    text = f"of the server: opens {'yes' if opens else 'no'}, links {links}"
    if opens and settings.track_opens is False:
        return Check("tracking", None, text, "switch open tracking off in the settings of the Postmark server: track_opens: false does not")
    return Check("tracking", True, text)


def _not_told(what: str, answer: Answer, settings: PostmarkSettings, uses: Mapping[str, str]) -> Check:
    """An answer that is not what was asked for: a refusal for good, or one that says nothing of the account."""
    if answer.status == 200:  # of which nothing is shown: half of the true answer holds tokens too
        return unanswered(what, "200: not what Postmark answers to this question", 200, settings.base_url, own=False)
    refused = refusal(answer, uses=uses, token_length=len(settings.token))
    if refused.verdict in (Verdict.PAUSE, Verdict.CONFIG):
        return Check(what, False, refused.reply, refused.mend)
    return unanswered(what, refused.reply, answer.status, settings.base_url, own=is_own(answer))
