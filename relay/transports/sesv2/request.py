"""Messages as requests of Amazon SES's API v2 (SendEmail), in one of its forms.

`raw` is the message as it is (raw.py); `simple` is the message taken apart (simple.py), which loses what the form has no place
for. Two forms try the one and take the other: `simple or raw` where something would be lost that changes the mail, `lossless`
where anything at all would. A mail that asks for a template has that form and no other. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from relay import reencoding
from relay.directives import Directives
from relay.errors import CannotCarry
from relay.fidelity import Loss
from relay.transports.sesv2 import raw, simple
from relay.transports.sesv2.options import Account, Options
from relay.transports.sesv2.payload import Payload
from relay.transports.sesv2.raw import Source, Terms

Form = Literal["raw", "simple", "simple or raw", "lossless"]


def payload(
    source: Source,
    recipients: Sequence[str],
    *,
    asked: Directives,
    account: Account,
    queue_id: str,
    form: Form,
    terms: Terms,
    apart: bool = False,
) -> tuple[Payload, ...]:
    """The requests that carry a stored message to `recipients`, each of whom is in exactly one; with `apart` each has one of his own.

    The header is taken as it leaves, directives from the header as it came. Raises CannotCarry with every reason found.
    """
    options = Options()
    options.add(asked, account, queue_id, sealed=reencoding.sealed(source.message, source.block, source.changes))
    if asked.template or form == "simple":
        return simple.requests(source, recipients, asked, options, terms, apart=apart)
    if form == "raw":
        return raw.requests(source, recipients, asked, options, terms, apart=apart)
    found: tuple[Payload, ...] = ()
    try:
        found = simple.requests(source, recipients, asked, options, terms._replace(on_loss="refuse"), apart=apart)
        expected = {*options.losses, *(Loss("cosmetic", what) for what in asked.ignored)}
        why = "; ".join(loss.what for loss in found[0].losses if loss not in expected) if form == "lossless" else ""
    except CannotCarry as error:
        why = str(error)
    if not why:
        return found
    try:
        return raw.requests(source, recipients, asked, options, terms, apart=apart, why=why)
    except CannotCarry:
        if found:  # what is lost is cosmetic, and better lost than the mail
            return found
        raise
