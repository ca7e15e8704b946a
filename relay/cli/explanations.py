"""What `relay explain` found, as lines for people: one screen for an ordinary mail. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relay.cli.show import address, size
from relay.log import clean

Json = Mapping[str, Any]

SHOWN = 5  # addresses named of recipients that fare alike


def lines(found: Json) -> Iterator[str]:
    """The mail, the listener's verdict, the edits, each recipient's route, each provider."""
    octets = "" if found["message_size"] is None else f", {size(found['message_size'])}"
    yield f"from {address(found['reverse_path'])}{octets}, from client {clean(found['client'])}"
    yield from _listener(found["listener"])
    yield from _edits(found["edits"])
    yield ""
    yield from _recipients(found["recipients"])
    if found["providers"]:
        yield ""
    for provider in found["providers"]:
        yield from _provider(provider, "nothing else is lost" if found["listener"]["losses"] else "nothing is lost")
    if found["message_size"] is None:
        yield ""
        yield "a header alone says neither the size nor what the providers would do; name the whole message for that"


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


def _recipients(recipients: Sequence[Json]) -> Iterator[str]:
    """Those who fare alike are told of once."""
    alike: dict[str, list[Json]] = {}
    for recipient in recipients:
        alike.setdefault("\n".join(_route(recipient)), []).append(recipient)
    for text, group in alike.items():
        names = ", ".join(address(recipient["address"]) for recipient in group[:SHOWN])
        more = f" and {len(group) - SHOWN} more" if len(group) > SHOWN else ""
        yield f"to {names}{more}"
        yield from text.splitlines()


def _route(recipient: Json) -> Iterator[str]:
    for tried in recipient["tried"]:
        if tried["against"]:
            first, *more = map(clean, tried["against"])
            yield f"    not {tried['route']}: {first}"
            yield from (f"        and {reason}" for reason in more)
    yield f"    route {recipient['route']}, by {', then '.join(recipient['via'])}"


def _losses(losses: Sequence[Json]) -> Iterator[str]:
    yield from (f"    lost ({loss['grade']}): {clean(loss['what'])}" for loss in losses)


def _provider(provider: Json, nothing: str) -> Iterator[str]:
    head = provider["name"] if provider["name"] == provider["type"] else f"{provider['name']} ({provider['type']})"
    if provider["cannot"]:
        yield f"{head}: cannot carry it"
        yield from (f"    {clean(reason)}" for reason in provider["cannot"])
        return
    count = provider["requests"]
    losses = "" if provider["losses"] else f", {nothing}"
    yield f"{head}: {count} {'request' if count == 1 else 'requests'}{losses}"
    yield from (f"    {clean(why)}" for why in provider.get("why", ()))
    yield from _losses(provider["losses"])
