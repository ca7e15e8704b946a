"""Answers of the admin API as lines for people: 80 columns where the contents allow it, colour only on a terminal.

Pure: every function takes JSON values and gives lines. What clients and providers said is printed with its control
characters replaced, so that no mail can move a terminal's cursor.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from relay.budgets import LEARNED
from relay.log import clean

Json = Mapping[str, Any]

_COLOURS = {"up": 32, "sent": 32, "relayed": 32, "active": 32, "yes": 32}
_COLOURS |= {"throttled": 33, "partly": 33, "deferred": 33, "queued": 33, "hold": 33, "held": 33}
_COLOURS |= {"paused": 31, "bounced": 31, "failed": 31, "corrupt": 31, "no": 31}
_WORD_OF_STEP = {"OK": "sent", "PERM-RCPT": "bounced", "PERM-MSG": "bounced"}
_WORD_OF_STATE = {"held": "held", "deleted": "deleted"}


_OF_SHADOWS = {"carried": "as they are", "lossy": "with losses", "refused": "refused", "failed": "failed"}

MANY = 10  # recipients of one message that are shown where it is not asked for itself
Chosen = Callable[[Json], bool]

_COLOUR = re.compile("\033\\[[0-9]*m")


class Paint:
    """Colours state words, or not."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, word: str, width: int = 0) -> str:
        """`word`, padded to `width`, in the colour of its meaning."""
        text = f"{word:<{width}}"
        colour = _COLOURS.get(word)
        return f"\033[{colour}m{text}\033[0m" if self._on and colour else text


def size(octets: int | None) -> str:
    """`10.2 kB`"""
    if octets is None:
        return "?"
    value, units = float(octets), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 999.5 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if value >= 99.95 or unit == "B" else f"{value:.1f} {unit}"


def _parse(time: str) -> datetime:
    return datetime.fromisoformat(time).astimezone()


def local(time: str | None) -> str:
    """An API time as local time, `2026-11-20 17:57:01`."""
    return _parse(time).strftime("%Y-%m-%d %H:%M:%S") if time else "?"


def age(time: str | None, now: float) -> str:
    """`35s`, `12m`, `3h`, `2d`: how long ago an API time was, in one unit."""
    if not time:
        return "?"
    return span(max(0, round(now - _parse(time).timestamp())))


def span(seconds: int) -> str:
    """So many seconds in one unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length or (unit == "d" and seconds >= length):
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def address(text: str | None) -> str:
    """`<a@example.com>`; `<>` is the null reverse-path."""
    return f"<{clean(text or '')}>"


def columns(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows as aligned columns, two spaces between them; the last column is as long as it is."""
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def status(shown: Json, now: float, paint: Paint) -> Iterator[str]:
    """`relay status`. That the daemon is down is said elsewhere, before the first answer."""
    if shown["running"]:
        yield f"relay {shown['version']} on {shown['hostname']}, pid {shown['pid']}, up {age(shown['started_time'], now)}"
    why = f" ({clean(shown['reason'])})" if shown["running"] and shown["reason"] else ""
    yield f"accepting mail: {paint('yes' if shown['accepting'] else 'no')}{why}"
    free = shown["spool"]["free"]
    yield f"spool: {shown['spool']['path']}" + (f", {size(free)} free" if free is not None else "")
    if shown["listeners"]:
        yield ""
        yield from columns([("listener", "address"), *((item["name"], item["address"]) for item in shown["listeners"])])
    if shown["providers"]:
        yield ""
        yield from _providers(shown["providers"], now, paint)
    for part in (ramps(shown["ramps"]), shadows(shown["shadows"])):
        yield from itertools.chain([""] if part else [], part)
    yield ""
    yield from _counts(shown["queue"], now)


def _providers(providers: Sequence[Json], now: float, paint: Paint) -> Iterator[str]:
    width = max(len("provider"), *(len(item["name"]) for item in providers))
    yield f"{'provider':<{width}}  {'state':<9}  active  waiting"
    for item in providers:
        yield f"{item['name']:<{width}}  {paint(item['state'], 9)}  {item['active']:>6}  {item['waiting']:>7}"
        yield from (f"    {line}" for line in standing(item, now))
        yield from (f"    {line}" for line in usage(item["usage"], now))


def standing(item: Json, now: float) -> Iterator[str]:
    """Since when and why a provider is not up, and what mends that; or what it is suspected of."""
    if item["reason"]:
        until = "until it is resumed" if item["by_admin"] else _next_try(item, now)
        yield f"for {age(item['since'], now)}, {until}"
        yield clean(item["reason"])
    if item["mend"]:
        yield f"to {'end' if item['by_admin'] else 'mend'} it: {clean(item['mend'])}"
    if item["suspect"]:
        yield f"suspect: one message met: {clean(item['suspect'])}; one more pauses it"


def usage(budgets: Sequence[Json], now: float) -> Iterator[str]:
    """How much of each budget of a provider is spent, and what pace was learned."""
    for budget in budgets:
        until = budget["until"]
        if budget["what"] == "learned":
            text = f"pace learned from its refusals: {budget['limit']:,} {budget['count']} in {LEARNED:.0f} s"
            yield text + (f", until {local(until)}" if until else "")
            continue
        text = f"budget {budget['what']}: {budget['used']:,} of {budget['limit']:,} {budget['count']}"
        yield text + (f", used up until {local(until)}" if until and budget["used"] >= budget["limit"] else "")


def ramps(found: Sequence[Json]) -> Sequence[str]:
    """The shares of each ramp as they are now, and its steps back."""
    lines: list[str] = []
    for ramp in found:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in ramp["shares"].items())
        lines.append(f"ramp of route {ramp['route']}: {shares}" + (f"; ends {local(ramp['until'])}" if ramp["until"] else ""))
        if ramp["behind"]:
            rest = f", rests until {local(ramp['held_until'])}" if ramp["held_until"] else ""
            lines.append(f"    stepped back, {span(ramp['behind'])} behind its dates{rest}: {clean(ramp['reason'])}".removesuffix(": "))
    return lines


def shadows(found: Sequence[Json]) -> Sequence[str]:
    """What each shadow has shown since the daemon's start, in messages."""
    lines: list[str] = []
    for shadow in found:
        counts = ", ".join(f"{shadow[result]:,} {word}" for result, word in _OF_SHADOWS.items())
        lines.append(f"shadow {shadow['provider']} of route {shadow['route']}: {counts}")
        if shadow["example"]:
            lines.append(f"    last: {clean(shadow['example'])}")
    return lines


def _next_try(provider: Json, now: float) -> str:
    """When a provider that is not up is tried: at a time, or once that is over with the first message that comes."""
    over = provider["until"] and _parse(provider["until"]).timestamp() <= now
    return "the next message tries it" if over and not provider["waiting"] else f"next try {local(provider['until'])}"


def _counts(queue: Json, now: float) -> Iterator[str]:
    if queue["recipients"]:
        yield from columns(
            [("recipients", "state", "provider"), *((str(i["count"]), i["state"], i["provider"] or "-") for i in queue["recipients"])]
        )
        oldest = ", ".join(f"{state} {age(time, now)}" for state, time in queue["oldest"].items())
        yield f"{queue['entries']} in the queue; oldest: {oldest}"
    else:
        yield "the queue is empty"
    if queue["corrupt"]:
        yield f"{queue['corrupt']} set aside as corrupt: relay queue list --state corrupt"


def queue(entries: Iterable[Json], now: float, paint: Paint, chosen: Chosen = lambda _: True) -> Iterator[str]:
    """`relay queue`: one line for each entry, and below it each recipient that waits, with the reason: of many only the first of
    those that were `chosen`."""
    yield f"{'queue id':<14}  {'state':<8}  {'age':>4}  {'size':>8}  from"
    for entry in entries:
        head = f"{entry['queue_id']:<14}  {paint(entry['queue_name'], 8)}  {age(entry['arrival_time'], now):>4}"
        if entry["queue_name"] == "corrupt":
            yield f"{head}  {clean(entry['reason'])}"
            continue
        yield f"{head}  {size(entry['message_size']):>8}  {address(entry['sender'])}"
        finished = entry["queue_name"] == "finished"
        waiting = [recipient for recipient in entry["recipients"] if finished or recipient["state"] in ("queued", "held")]
        shown = few(waiting, chosen)
        for recipient in shown:
            yield from _waiting(recipient, paint)
        if len(shown) < len(waiting):
            yield f"    {_others(waiting, shown, entry)}"


def few(recipients: Sequence[Json], chosen: Chosen) -> Sequence[Json]:
    """All where they are few; of many the first of those that were chosen, or simply the first where none is."""
    if len(recipients) <= MANY:
        return recipients
    return (list(filter(chosen, recipients)) or recipients)[:MANY]


def _others(recipients: Sequence[Json], shown: Sequence[Json], entry: Json) -> str:
    return f"and {len(recipients) - len(shown):,} more: relay queue show {entry['queue_id']}"


def _waiting(recipient: Json, paint: Paint) -> Iterator[str]:
    facts = [f"to {address(recipient['address'])}", paint(recipient["state"])] if recipient["state"] != "queued" else []
    facts = facts or [f"to {address(recipient['address'])}"]
    if recipient["attempts"]:
        facts.append(_attempts(recipient["attempts"], recipient["provider"]))
    if recipient["attempts"] and recipient["next_attempt"]:
        facts.append(f"next {local(recipient['next_attempt'])}")
    yield "    " + ", ".join(facts)
    if recipient["delay_reason"]:
        yield f"        {_why(recipient)}"
    if recipient["maybe_relayed"]:
        yield "        may have been delivered already"


def _attempts(count: int, last: str) -> str:
    return f"{count} attempts, the last by {last}" if count > 1 else f"{count} attempt by {last}"


def _why(recipient: Json) -> str:
    """Why a recipient waits, and when relay gives up where no next attempt is known."""
    expires = f"; expires {local(recipient['expires'])}" if recipient["expires"] else ""
    return clean(recipient["delay_reason"]) + expires


def story(entry: Json, steps: Sequence[Json], paint: Paint, chosen: Chosen | None = None) -> Iterator[str]:
    """`relay log` and `relay queue show`: what became of one message; with `chosen`, of many recipients only the first of those."""
    client = entry["client"]
    where = f"{clean(client['name'])}[{clean(client['address'])}]"
    listener = f", listener {client['listener']}" if client["listener"] else ""
    user = f", logged in as {clean(client['username'])}" if client["username"] else ""
    yield f"{entry['queue_id']}  accepted {local(entry['arrival_time'])} from {where}{listener}{user}"
    yield f"  from {address(entry['sender'])}, {size(entry['message_size'])}, message-id {clean(entry['message_id']) or 'none'}"
    if entry["bounce"]:
        yield "  made by relay itself: a notice or an alert"
    shown = few(entry["recipients"], chosen) if chosen else entry["recipients"]
    fixed = {tuple(recipient["via"]) for recipient in shown} if not entry["bounce"] else set()
    if len(fixed) == 1 and (via := fixed.pop()):
        yield f"  fixed to {', '.join(via)}, whatever the routes say"
    of_each: dict[str, list[Json]] = {}
    for step in steps:
        of_each.setdefault(step["recipient"], []).append(step)
    for recipient in shown:
        yield f"  to {address(recipient['address'])}: {_standing(recipient, paint)}"
        if fixed and recipient["via"]:
            yield f"    fixed to {', '.join(recipient['via'])}, whatever the route says"
        for step in of_each.get(recipient["address"], ()):
            yield from _step(step, paint)
    if len(shown) < len(entry["recipients"]):
        yield f"  {_others(entry['recipients'], shown, entry)}"
    if entry["finished_time"]:
        yield f"  finished {local(entry['finished_time'])}"


def _standing(recipient: Json, paint: Paint) -> str:
    if recipient["state"] != "queued":
        return paint(recipient["state"])
    if not recipient["attempts"] and not recipient["delay_reason"]:
        return "waits for its first attempt"
    when = _why(recipient) if recipient["expires"] else f"next attempt {local(recipient['next_attempt'])}"
    text = f"{paint('queued')}, {when}"
    return text + (", may have been delivered already" if recipient["maybe_relayed"] else "")


def step_word(step: Json) -> str:
    """sent, deferred, bounced, held or deleted: the log's word for an outcome."""
    return _WORD_OF_STEP.get(step["verdict"]) or _WORD_OF_STATE.get(step["state"], "deferred")


def _step(step: Json, paint: Paint) -> Iterator[str]:
    if step["state"] == "deleted" and not step["verdict"]:
        yield f"    {local(step['time'])}  {paint('deleted', 8)}  by the admin"
        return
    way = f"route {step['route']}, " if step["route"] else ""
    by = f"{way}provider {step['provider']}, {clean(step['remote'])}" if step["provider"] else "relay"
    yield f"    {local(step['time'])}  {paint(step_word(step), 8)}  {by}"
    remote_id = f", remote id {clean(step['remote_id'])}" if step["remote_id"] else ""
    twice = ": may have been delivered already" if step["verdict"] == "UNKNOWN" else ""
    yield f"        {clean(step['reply'])}{twice} (dsn {step['status']}{remote_id})"


def timeline(steps: Sequence[Json], paint: Paint) -> Iterator[str]:
    """`relay queue show --timeline`: every outcome in order of time."""
    for step in steps:
        head, *reply = _step(step, paint)
        yield f"{head.strip()}, to {address(step['recipient'])}"
        yield from reply
    if not steps:
        yield "no attempt yet"


def wrapped(line: str, width: int) -> Iterator[str]:
    """A line in pieces of at most `width` columns where its words allow it; the later ones stand two columns further in."""
    indent = len(line) - len(line.lstrip(" "))
    first, *more = re.split("( +)", line[indent:])
    current = " " * indent + first
    for gap, word in zip(more[::2], more[1::2], strict=True):
        if len(_COLOUR.sub("", current + gap + word)) > width:
            yield current
            current = " " * (indent + 2) + word
        else:
            current += gap + word
    yield current


def octets(data: bytes, terminal: bool) -> bytes:
    """Stored octets for standard output: as they are, or on a terminal without what would steer it."""
    if not terminal:
        return data
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text).encode()
