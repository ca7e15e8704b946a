"""What `relay explain` found, as lines for people: one screen for an ordinary mail. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from relay.cli.show import address, local, size, wrapped
from relay.log import clean
from relay.ramps import percent

Json = Mapping[str, Any]
Tried = tuple[str, tuple[str, ...]]  # a route, and what is against it

SHOWN = 5  # addresses named of recipients that fare alike
WIDTH = 120  # columns
LONGEST = 100  # characters of a reason
DAY = 86400.0
_FOLD = re.compile(r"\r\n(?=[ \t])")


def lines(found: Json) -> Iterator[str]:
    """The mail, the listener's verdict, the edits, each recipient's route, each provider: each line fits a terminal of 120 columns."""
    for line in _lines(found):
        yield from wrapped(line, WIDTH)


def _lines(found: Json) -> Iterator[str]:
    octets = "" if found["message_size"] is None else f", {size(found['message_size'])}"
    user = f", logged in as {clean(found['user'])}" if found["user"] else ""
    yield f"from {address(found['reverse_path'])}{octets}, from client {clean(found['client'])}{user}"
    yield from _listener(found["listener"])
    yield from _edits(found["edits"])
    yield from _rewritten(found["rewritten"])
    yield ""
    yield from _recipients(found["recipients"])
    if found["providers"]:
        yield ""
    for provider in found["providers"]:
        yield from _provider(provider, "nothing else is lost" if found["listener"]["losses"] else "nothing is lost")
    if found["message_size"] is None:
        yield ""
        yield "a header alone says neither the size (for larger, smaller) nor what the providers would do; name the whole message"
    elif not found["daemon"]:
        yield ""
        yield "the daemon was not asked: pauses, what is used of budgets and steps back of ramps are not known"


def _listener(listener: Json) -> Iterator[str]:
    where = f"listener {listener['name']} ({listener['address']})"
    wants = f", wants {' and '.join(listener['wants'])}" if listener["wants"] else ""
    obeys = f"; obeys control headers of {', '.join(listener['controls'])}" if listener["controls"] else "; obeys no control headers"
    if not listener["refusals"]:
        yield f"{where}: takes it (at most {size(listener['max_size'])}{wants}){obeys}"
    else:
        yield f"{where}: refuses it"
        yield from (f"    {clean(refusal)}" for refusal in listener["refusals"])
    yield from _losses(listener["losses"])


def _edits(edits: Sequence[Json]) -> Iterator[str]:
    """The names of the fields that are added and removed."""
    added = [name for edit in edits if edit["kind"] != "remove" for name in _names(edit["text"])]
    removed = [clean(_REMOVED.get(edit["text"]) or edit["text"]) for edit in edits if edit["kind"] == "remove"]
    yield f"edits: {', '.join(added)} added" + (f"; {', '.join(removed)} removed" if removed else "")


_REMOVED = {"from ": "the mbox line", " ": "white space above the header"}


def _names(text: str) -> list[str]:
    """The fields in the text of an edit; an empty line is what ends a header block."""
    found = text.split("\r\n")[:-1]
    return [line.partition(":")[0] if line else "the empty line below the header" for line in found if not line.startswith(("\t", " "))]


def _rewritten(rewritten: Json) -> Iterator[str]:
    """What senders.rewrite changes."""
    path = [f"reverse-path is {address(rewritten['reverse_path'])}"] if rewritten["reverse_path"] is not None else []
    changed = [
        f"{line.partition(':')[0]} is{clean(line.partition(':')[2])}"
        for edit in rewritten["edits"]
        if edit["kind"] != "remove"
        for line in _unfolded(edit["text"])
        if not line.startswith("X-")
    ]
    if path or changed:
        yield f"rewritten: {', '.join([*path, *changed])}"


def _unfolded(text: str) -> list[str]:
    return _FOLD.sub(" ", text).split("\r\n")[:-1]


def _recipients(recipients: Sequence[Json]) -> Iterator[str]:
    """Those who fare alike are told of once; and once, where some fare otherwise, of the routes that take none of them."""
    alike: dict[tuple[tuple[Tried, ...], tuple[str, ...]], list[Json]] = {}
    for recipient in recipients:
        alike.setdefault((_reasons(recipient, alike=True), tuple(_route(recipient))), []).append(recipient)
    common: list[Tried] = []
    if len(alike) > 1:
        common = [same[0] for same in takewhile(lambda same: len(set(same)) == 1, zip(*(against for against, _ in alike), strict=False))]
    if common:
        yield "to each of them"
        yield from _against(common)
    for (against, route), group in alike.items():
        names = ", ".join(address(recipient["address"]) for recipient in group[:SHOWN])
        more = f" and {len(group) - SHOWN} more" if len(group) > SHOWN else ""
        yield f"to {names}{more}"
        own = against if len(group) > 1 else _reasons(group[0])
        yield from _against(own[len(common) :])
        yield from route


def _reasons(recipient: Json, *, alike: bool = False) -> tuple[Tried, ...]:
    """Each route that does not take it, and why; `alike`: in the same words as for others whose address fits no better."""
    own = f"to: {recipient['address']} is "
    return tuple(
        (tried["route"], tuple(reason.replace(own, "to: they are ") if alike else reason for reason in tried["against"]))
        for tried in recipient["tried"]
        if tried["against"]
    )


def _against(tried: Sequence[Tried]) -> Iterator[str]:
    """Each route that does not take a recipient, and why."""
    for route, reasons in tried:
        first, *more = map(_short, reasons)
        yield f"    not {route}: {first}"
        yield from (f"        and {reason}" for reason in more)


def _route(recipient: Json) -> Iterator[str]:
    """The route that takes it, what chose the providers, and what the others are for."""
    by = f", by {', then '.join(recipient['via'])}" if recipient["via"] else ""
    yield f"    route {recipient['route']}{by}"
    yield from (f"        {fact}" for fact in (*_share(recipient), *_guard(recipient), *_order(recipient)))


def _share(recipient: Json) -> Iterator[str]:
    """How a split or a ramp chose."""
    split, ramp = recipient["split"], recipient["ramp"]
    if split:
        shares = ", ".join(f"{name} {percent(share)}" for name, share in split["shares"].items())
        chosen = f"; here {split['chosen']}" if split["chosen"] else ""
        chosen += ", and another message may go otherwise" if chosen and split["sticky"] == "message" else ""
        yield f"{'ramp' if ramp else 'split'} by {split['sticky']}: {shares}{chosen}"
    if ramp:
        yield _standing_of_ramp(ramp)


def _standing_of_ramp(ramp: Json) -> str:
    days = f"{ramp['over'] / DAY:g}"
    if not ramp["begun"]:
        return f"the ramp begins {_day(ramp['from'])} and takes {days} days"
    if ramp["done"] >= 1:
        return f"the ramp is over since {_day(ramp['until'])}"
    lag = f", {ramp['behind'] / DAY:.1f} days behind its dates" if ramp["behind"] else ""
    rests = f", rests until {_day(ramp['held_until'])}" if ramp["held_until"] else ""
    why = f": {clean(ramp['reason'])}" if ramp["reason"] and (lag or rests) else ""
    gone = ramp["done"] * ramp["over"] / DAY
    return f"day {gone:.1f} of {days}, from {_day(ramp['from'])} to {_day(ramp['until'])}{lag}{rests}{why}"


def _day(time: str) -> str:
    """A date; with its time where that is not midnight in UTC."""
    return time[:10] if time[10:].startswith("T00:00:00") else time[:16].replace("T", " ")


def _guard(recipient: Json) -> Iterator[str]:
    """What the staging guard makes of the recipient."""
    guard = recipient["guard"]
    if not guard:
        return
    allowed = " or ".join(guard["allow"])
    if guard["lets"]:
        yield f"staging guard: let through, as {allowed}"
        return
    not_one = f"not {allowed}" if allowed else "nobody is let through"
    if guard["refused"]:
        yield f"staging guard: refused, and its sender told ({not_one})"
    elif guard["redirect"]:
        yield f"staging guard: {address(guard['redirect'])} gets it instead ({not_one})"
    else:
        yield f"staging guard: captured by {guard['capture']} ({not_one})"


def _order(recipient: Json) -> Iterator[str]:
    """What the later providers are for, who goes first at a busy one, what is built beside."""
    more = recipient["via"][1:]
    if more:
        spills = ", has no budget left now" if recipient["overflow"] == "spill" else ""
        patience = f"or has deferred it for {duration(recipient['patience'])}"
        yield f"{', '.join(more)}: when the one before is paused, cannot carry it{spills}, {patience}"
    if recipient["priority"] != "normal":
        yield f"{recipient['priority']} priority: {_SHARES[recipient['priority']]}"
    if shadow := recipient["shadow"]:
        sends = "sent to it, which delivers to nobody" if shadow["sends"] else "nothing of it is sent"
        yield f"shadow: built for {shadow['provider']}, too; {sends}"


_SHARES = {"high": "4 turns at a busy provider for 1 of normal mail", "low": "1 turn at a busy provider for 4 of normal mail"}


def duration(seconds: float) -> str:
    """`15m`, `36h`, `2d`: in the largest unit that divides it."""
    return next((f"{seconds / length:g}{unit}" for unit, length in _UNITS if seconds and seconds % length == 0), f"{seconds:g}s")


_UNITS = (("d", 86400), ("h", 3600), ("m", 60))


def _short(text: str) -> str:
    """A reason on one line: of long texts in a message, how they begin."""
    text = clean(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _losses(losses: Sequence[Json]) -> Iterator[str]:
    yield from (f"    lost ({loss['grade']}): {clean(loss['what'])}" for loss in losses)


def _provider(provider: Json, nothing: str) -> Iterator[str]:
    kind = [] if provider["name"] == provider["type"] else [provider["type"]]
    kind += ["the shadow"] if provider["shadow"] else []
    head = provider["name"] + (f" ({', '.join(kind)})" if kind else "")
    if provider["cannot"]:
        yield f"{head}: cannot carry it"
        yield from (f"    {_short(reason)}" for reason in provider["cannot"])
    else:
        count = provider["requests"]
        losses = "" if provider["losses"] else f", {nothing}"
        yield f"{head}: {count} {'request' if count == 1 else 'requests'}{losses}"
        yield from (f"    {_short(why)}" for why in provider.get("why", ()))
        yield from _losses(provider["losses"])
    yield from (f"    {fact}" for fact in (*_stands(provider["standing"]), *_budget(provider["budget"], provider["standing"])))


def _stands(standing: Json | None) -> Iterator[str]:
    """Whether it could be used now, as the daemon knows."""
    if not standing:
        return
    waiting = f"; {standing['waiting']:,} wait for it" if standing.get("waiting") else ""
    why = f": {clean(standing['reason'])}" if standing["reason"] else ""
    yield f"now {standing['state']}{waiting}{why}"
    if standing.get("suspect"):
        yield f"suspect: one message met {clean(standing['suspect'])}"


def _budget(budget: Json, standing: Json | None) -> Iterator[str]:
    """What it may be given in a time, and how much of that is used where the daemon says so."""
    if usage := standing and standing.get("usage"):
        used = ", ".join(_used(one) for one in usage if one["what"] != "learned")
        learned = [f"slowed down to {one['limit']:,} in 10 s" for one in usage if one["what"] == "learned"]
        yield f"budget in {budget['count']}: {'; '.join([f'used {used}'] * bool(used) + learned)}"
        return
    limits = list(budget["rates"])
    limits += [f"{budget[key]:,} {key}" for key in ("daily", "monthly") if budget[key] is not None]
    limits += [f"{' and '.join(budget['asked'])} as the account says"] if budget["asked"] else []
    if limits:
        yield f"budget in {budget['count']}: {', '.join(limits)}"


def _used(usage: Json) -> str:
    limit = usage["what"] if "/" in usage["what"] else f"{usage['limit']:,} {usage['what']}"
    if usage["until"] and usage["used"] >= usage["limit"]:
        return f"all of {limit} (until {local(usage['until'])})"
    return f"{usage['used']:,} of {limit}"
