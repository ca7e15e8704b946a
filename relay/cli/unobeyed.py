"""Control headers that a listener does not obey: what a mail asks for there in vain, and how to have it obeyed.

They are removed all the same (relay/edits.py), so that nothing of them is left to see: without a word nobody would know why a
tag never arrives. Pure; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from relay import directives, header
from relay.fidelity import Loss
from relay.log import clean

PREFIXES = {"ses": "x-ses-", "postmark": "x-pm-", "mailtrap": "x-mt-", "relay": "x-relay-"}  # in the order of the configuration
_ASK_NOTHING = frozenset({"x-relay-id", "x-pm-keepid"})  # our own stamp, and what the API does anyway
_SHOWN = 10  # fields named of one dialect


def losses(block: bytes, listener: str, controls: Collection[str]) -> Iterator[Loss]:
    """A loss for each dialect in the header block that the listener's `controls` do not name. A template that is not obeyed is a
    grave loss: the mail is another without it."""
    names = [name for name in dict.fromkeys(name for name, _ in header.fields(block)) if name not in _ASK_NOTHING]
    found = {dialect: [name for name in names if name.startswith(prefix)] for dialect, prefix in PREFIXES.items()}
    vain = {dialect: fields for dialect, fields in found.items() if fields and dialect not in controls}
    wanted = ", ".join(dialect for dialect in PREFIXES if dialect in controls or dialect in vain)
    for dialect, fields in vain.items():
        named = ", ".join(map(clean, fields[:_SHOWN])) + (f" and {len(fields) - _SHOWN} more" if len(fields) > _SHOWN else "")
        what = f"{named}: listener {listener} obeys no control headers of {dialect}; with controls: [{wanted}] it would"
        yield Loss("hard" if directives.read(block, [dialect]).template else "cosmetic", what)
