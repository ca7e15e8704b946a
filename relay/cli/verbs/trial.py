"""`relay test`: send a test message through the running daemon."""

from __future__ import annotations

import time
from typing import Any

from relay.cli import door, exits, show
from relay.cli.exits import Stop
from relay.cli.verbs import common
from relay.cli.verbs.common import Options
from relay.log import clean

WAIT = 60.0  # seconds that `--wait` waits
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
    """Print each new outcome of a message to one recipient, until the last one or until patience ends."""
    seen, told = 0, False
    while time.monotonic() - began < WAIT:
        steps: Any = admin.get(f"/api/v1/queue/{queue_id}/timeline")["steps"]
        for step in steps[seen:]:
            word = show.step_word(step)
            print(f"{word:<8}  {step['provider'] or 'relay'}  {time.monotonic() - began:.2f} s  {clean(step['reply'])}", flush=True)
            if word == "sent":
                return exits.OK
            if word in ("bounced", "deleted"):
                return exits.UNAVAILABLE
        seen = len(steps)
        if not seen and not told:
            told = _say_what_it_waits_for(admin, queue_id, began)
        time.sleep(POLL)
    raise Stop(exits.TRY_LATER, f"not sent after {WAIT:.0f} s; it stays in the queue: relay log {queue_id}")


def _say_what_it_waits_for(admin: door.Admin, queue_id: str, began: float) -> bool:
    """Say that a message waits for a provider without having been tried; whether it does."""
    entry: Any = admin.get(f"/api/v1/queue/{queue_id}")
    [recipient] = entry["recipients"]
    if not recipient["waits"]:
        return False
    reason = clean(recipient["delay_reason"]).replace(f"waits for {recipient['waits']}", "paused", 1)
    print(f"{'waits':<8}  {recipient['provider']}  {time.monotonic() - began:.2f} s  {reason}", flush=True)
    return True
