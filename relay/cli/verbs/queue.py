"""`relay queue`: see and change what waits."""

from __future__ import annotations

import itertools
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.cli import door, exits, parser, progress, show
from relay.cli.exits import Stop
from relay.cli.verbs import common
from relay.cli.verbs.common import Options

SHOWN = 100  # entries unless told otherwise
_PAST = {"retry": "due now", "hold": "held", "release": "released", "reroute": "rerouted", "bounce": "bounced", "delete": "deleted"}


def listing(options: Options) -> int:
    """What waits, and why."""
    limit = getattr(options, "limit", None)
    if limit is not None and limit < 1:
        raise Stop(exits.USAGE, "--limit wants a number from 1")
    found = iter(common.admin(options).entries(parser.filters(options)))
    if common.as_json(options):
        for entry in itertools.islice(found, limit):
            common.print_json(entry)
        return exits.OK
    shown = list(itertools.islice(found, limit or SHOWN))
    if not shown:
        print("nothing in the queue" + (" matches" if parser.filters(options) else ""))
        return exits.OK
    common.lines(show.queue(shown, time.time(), common.paint(), _meant(parser.filters(options))))
    if next(found, None) is not None:
        print(f"the first {len(shown)} entr{'y' if len(shown) == 1 else 'ies'}; for more: --limit N, or --json for all")
    return exits.OK


def one(options: Options) -> int:
    """One entry: its story, its attempts, its headers or the message itself."""
    path = f"/api/v1/queue/{_quoted(options.id)}"
    admin = common.admin(options)
    if options.raw or options.headers:
        data = admin.get_bytes(f"{path}/{'raw' if options.raw else 'headers'}")
        sys.stdout.buffer.write(show.octets(data, sys.stdout.isatty()))
        sys.stdout.flush()
        return exits.OK
    steps: Any = admin.get(f"{path}/timeline")["steps"]
    if options.timeline:
        if common.as_json(options):
            for step in steps:
                common.print_json(step)
        else:
            common.lines(show.timeline(steps, common.paint()))
        return exits.OK
    entry = admin.get(path)
    if common.as_json(options):
        common.print_json({**entry, "steps": steps})
    else:
        common.lines(show.story(entry, steps, common.paint()))
    return exits.OK


def retry(options: Options) -> int:
    """Make recipients due now."""
    chosen = _chosen(options)
    admin = common.admin(options)
    done = _changed(admin, "retry", chosen)
    done.tell(_still_held(admin, options))
    return exits.OK


def _still_held(admin: door.Admin, options: Options) -> str:
    """How many of those that were named are held, and what releases them."""
    held = sum(_number(admin.post("/api/v1/queue/release", {**values, "dry_run": True})) for values in _held(_chosen(options)))
    return f"; {held:,} {'is' if held == 1 else 'are'} held: {_typed('release', options)}" if held else ""


def hold(options: Options) -> int:
    """Leave recipients alone until they are released."""
    chosen = _some(options)
    _changed(common.admin(options), "hold", chosen).tell()
    return exits.OK


def release(options: Options) -> int:
    """Send held recipients on their way again, after asking where one of them may have been delivered already."""
    chosen = _some(options)
    admin = common.admin(options)
    if not options.yes and (maybe := _maybe_relayed(admin, _held(chosen))):
        text = f"{_recipients(maybe)} may have been delivered already, and may then get the mail twice: relay queue list --state hold"
        if not sys.stdin.isatty():
            raise Stop(exits.USAGE, f"{text}\nAnswer at a terminal, or say --yes")
        print(text)
        _ask("release all the same? [y/N] ")
    _changed(admin, "release", chosen).tell()
    return exits.OK


def delete(options: Options) -> int:
    """Take recipients out of the queue, after asking."""
    return _after_asking(options, "delete", "{}? Nobody is told, no bounce is sent.")


def bounce(options: Options) -> int:
    """Give recipients up and have their senders told, after asking."""
    return _after_asking(options, "bounce", "{}? They get no mail, and their senders are told so.", {"why": options.why or ""})


def reroute(options: Options) -> int:
    """Fix the providers of recipients, whatever their routes say, after asking."""
    if options.by_routes:
        return _after_asking(options, "reroute", "{} by their routes again?", {"via": []})
    via = [name.strip() for name in options.via.split(",")]
    if not all(via):
        raise Stop(exits.USAGE, "--via wants providers' names: --via ses, or --via ses,postmark in the order in which they are tried")
    twice = " Who may have been delivered already may get the mail twice." if options.even_if_maybe_sent else ""
    question = f"{{}} to {' and, where that cannot, '.join(via)}, whatever their routes say?{twice}"
    return _after_asking(options, "reroute", question, {"via": via, "even_if_maybe_sent": options.even_if_maybe_sent})


def _after_asking(options: Options, verb: str, question: str, more: Mapping[str, object] | None = None) -> int:
    """Do it to what was named, once the number was agreed to; `question` follows the verb, with the recipients at {}."""
    chosen = [{**values, **(more or {})} for values in _some(options)]
    admin = common.admin(options)
    answers: list[Any] = [admin.post(f"/api/v1/queue/{verb}", {**values, "dry_run": True}) for values in chosen]
    count = sum(map(_number, answers))
    if nobody := answers[0].get("sandboxes"):
        question += f" What goes to {' or '.join(nobody)} is delivered to nobody."
    if count and not options.yes:
        _ask(f"{verb} {question.replace('{}', _recipients(count), 1)} [y/N] ")
    held = _still_held(admin, options) if verb == "reroute" else ""  # a new way is no release
    _changed(admin, verb, chosen).tell(held)
    return exits.OK


def _maybe_relayed(admin: door.Admin, chosen: Sequence[Mapping[str, str]]) -> int:
    """How many of the held recipients had an attempt of which nobody knows how it ended."""
    found: dict[tuple[object, str], bool] = {}
    for values in chosen:
        meant = _meant(values)
        if not _number(admin.post("/api/v1/queue/release", {**values, "dry_run": True})):
            continue
        for entry in admin.entries(values):
            recipients: Any = entry["recipients"]
            found |= {(entry["queue_id"], one["address"]): one["maybe_relayed"] for one in recipients if meant(one)}
    return sum(found.values())


def _held(chosen: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """What is held of what is meant; nothing where something else is asked for."""
    return [{**values, "state": "hold"} for values in chosen if values.get("state", "hold") == "hold"]


def _meant(values: Mapping[str, str]) -> show.Chosen:
    """Whether a recipient of an entry is one that the filters mean: an entry has others, too."""
    from relay.routing import matches

    def fits(recipient: Any) -> bool:
        if values.get("state") == "hold" and recipient["state"] != "held":
            return False
        patterns = {"address": values.get("to"), "provider": values.get("provider"), "route": values.get("route")}
        given = ((pattern, recipient[key] or "") for key, pattern in patterns.items() if pattern)
        return all(pattern.lower() == text.lower() or matches(pattern, text) for pattern, text in given)

    return fits


def _typed(verb: str, options: Options) -> str:
    """The command that does it to what was named; where nothing was, the one that shows what it would be."""
    given = parser.filters(options)
    words = [*options.ids, *(word for name, value in given.items() if name != "older" for word in (f"--{name}", value))]
    return shlex.join(["relay", "queue", verb, *words] if words else ["relay", "queue", "list", "--state", "hold"])


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise Stop(exits.USAGE, f"{question.removesuffix(' [y/N] ')}\nAnswer at a terminal, or say --yes")
    if input(question).strip().lower() not in ("y", "yes"):
        raise Stop(exits.OK, "nothing was done")


def _chosen(options: Options) -> list[dict[str, str]]:
    """The filters to act on: one for each id that was named, or one for all."""
    given = parser.filters(options)
    if not options.ids:
        return [given]
    if "id" in given:
        raise Stop(exits.USAGE, "give the ids one way: as arguments or by --id")
    return [{**given, "id": queue_id} for queue_id in dict.fromkeys(options.ids)]


def _some(options: Options) -> list[dict[str, str]]:
    """The same, where to name nothing is not to mean everything."""
    chosen = _chosen(options)
    if chosen == [{}] and not options.all:
        raise Stop(exits.USAGE, "say which: ids, filters, or --all")
    return chosen


@dataclass
class _Done:
    """What a verb came to, over all that was named: changed, and left alone because it may have been delivered, or was under way."""

    verb: str
    of: int = 0
    recipients: int = 0
    pinned: int = 0
    busy: int = 0

    def tell(self, more: str = "") -> None:
        """Print it."""
        print(f"{_recipients(self.recipients)} {_PAST[self.verb]}{self._left()}{more}")

    def _left(self) -> str:
        pinned = f"; {self.pinned:,} may have been delivered already: --even-if-maybe-sent" if self.pinned else ""
        return pinned + (f"; {self.busy:,} under way just now, or changed meanwhile" if self.busy else "")


def _changed(admin: door.Admin, verb: str, chosen: Sequence[Mapping[str, object]]) -> _Done:
    """Have the daemon do it. Ctrl-C ends it between two chunks, and says how far it came."""
    done, last = _Done(verb), None
    try:
        with progress.shown(verb) as tell:
            for values in chosen:
                last = None
                for last in admin.change(f"/api/v1/queue/{verb}", dict(values)):
                    tell(done.recipients + _number(last), done.of + _number(last, "of"))
                if last is None or not last.get("done"):
                    why = (last or {}).get("error", "the daemon went away in the middle")
                    raise Stop(exits.TRY_LATER, f"{why}; {_so_far(done, last)}; to go on, say it again")
                for key in ("of", "recipients", "pinned", "busy"):
                    setattr(done, key, getattr(done, key) + _number(last, key))
                last = None
    except KeyboardInterrupt:
        raise Stop(exits.INTERRUPTED, f"stopped: {_so_far(done, last)}; to go on, say it again") from None
    return done


def _so_far(done: _Done, last: Mapping[str, object] | None) -> str:
    """What was done before it ended in the middle; of the chunk under way nobody was told."""
    if not done.of and last is None:
        return "how far it came is not known"
    here = (_number(last), _number(last, "of")) if last else (0, 0)
    return f"at least {done.recipients + here[0]:,} of {_recipients(done.of + here[1])} {_PAST[done.verb]}"


def _number(answer: Mapping[str, object], key: str = "recipients") -> int:
    count = answer[key]
    assert isinstance(count, int)
    return count


def _recipients(count: int) -> str:
    return f"{count:,} recipient{'' if count == 1 else 's'}"


def _quoted(queue_id: str) -> str:
    if not queue_id.isalnum() or not queue_id.isascii():
        raise Stop(exits.USAGE, f"{queue_id!r} is not a queue id")
    return queue_id
