"""`relay test`: send a test message through the running daemon."""

from __future__ import annotations

import time
from typing import Any

from relay.cli import door, exits, show
from relay.cli.exits import Stop
from relay.cli.verbs import common
from relay.cli.verbs.common import Options
from relay.log import clean
from relay.model import line_of

WAIT = 60.0  # seconds that `--wait` waits at most
POLL = 0.1  # seconds between two looks meanwhile


def send(options: Options) -> int:
    """Send a test message, and with --wait see it through."""
    admin, began = common.admin(options), time.monotonic()
    values = {"to": options.to, "from": options.sender, "via": options.via}
    queue_id = str(admin.post("/api/v1/test", {key: value for key, value in values.items() if value is not None})["queue_id"])
    print(f"accepted  {queue_id}  {time.monotonic() - began:.2f} s", flush=True)
    if not options.wait:
        print(f"what becomes of it: relay log {queue_id}")
        return exits.OK
    return _await(admin, queue_id, began)


def _await(admin: door.Admin, queue_id: str, began: float) -> int:
    """Print each new outcome of a message to one recipient, until the last one, until a pause that only an admin can end, or until
    patience ends."""
    seen, told = 0, ""
    while time.monotonic() - began < WAIT:
        steps: Any = admin.get(f"/api/v1/queue/{queue_id}/timeline")["steps"]
        for step in steps[seen:]:
            word = show.step_word(step)
            print(f"{word:<8}  {step['provider'] or 'relay'}  {time.monotonic() - began:.2f} s  {clean(step['reply'])}", flush=True)
            if word == "sent":
                return exits.OK
            if word in ("bounced", "deleted"):
                return exits.UNAVAILABLE
            if word == "held":
                raise Stop(exits.TRY_LATER, f"not sent: it is held: relay queue show {queue_id}, then relay queue release {queue_id}")
        seen = len(steps)
        told = _look_what_it_waits_for(admin, queue_id, began, told)
        time.sleep(POLL)
    raise Stop(exits.TRY_LATER, f"not sent after {WAIT:.0f} s; it stays in the queue: relay log {queue_id}")


def _look_what_it_waits_for(admin: door.Admin, queue_id: str, began: float, told: str) -> str:
    """Say once what a message waits for, and return that; `told` is what was said before. Raises Stop where that is paused."""
    entry: Any = admin.get(f"/api/v1/queue/{queue_id}")
    [recipient] = entry["recipients"]
    waits: str = recipient["waits"]
    if not waits:
        return told
    status: Any = admin.get("/api/v1/status")
    name, _, identity = waits.partition(" ")
    standing = [one for one in status["providers"] if one["name"] == name and not line_of(waits)]
    paused = [one for one in standing if one["state"] in ("paused", "partly")]
    reason = clean(recipient["delay_reason"])
    if paused:
        said = "" if paused[0]["by_admin"] else f"{identity} paused: ".lstrip()
        reason = reason.replace(f"waits for {waits}: ", said, 1).replace(f"waits for {waits}", said.removesuffix(": "), 1)
    if waits != told:
        print(f"{'waits':<8}  {recipient['provider']}  {time.monotonic() - began:.2f} s  {reason}", flush=True)
    for provider in paused:  # the only one; who is slowed down or busy goes on by himself
        if provider["mend"] and provider["reason"].startswith(f"{identity}: " if identity else ""):
            print(f"          to mend it: {clean(provider['mend'])}", flush=True)
        text = f"not sent: {waits} is paused; the message waits in the queue until that is over: relay log {queue_id}"
        raise Stop(exits.TRY_LATER, text)
    return waits
