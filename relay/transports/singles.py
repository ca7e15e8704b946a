"""Header fields that Amazon SES takes only once: by its API it refuses a message with two of them, and by SMTP as well.

Of such fields the first goes along, which is the one that readers of mail show. Two From or two Sender fields would be a
question of who is speaking: that is nobody's to decide here. A line of the header that begins with its colon is refused too, and
is left out. Pure; nothing here raises.
Amazon SES developer guide 2026-11, "Amazon SES header fields"; its refusals read `Duplicate header 'X'.` and `Empty header names
are illegal`.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay import header

FIELDS = frozenset(
    (  # noqa: SIM905 - in lines, so that they can be compared with the provider's own list
        "accept-language acceptlanguage archived-at auto-submitted bounces-to comments content-alternative content-base content-class "
        "content-description content-disposition content-duration content-id content-language content-length content-location content-md5 "
        "content-transfer-encoding content-type date delivered-to disposition-notification-options disposition-notification-to "
        "dkim-signature domainkey-signature errors-to from importance in-reply-to keywords list-archive list-help list-id list-owner "
        "list-post list-subscribe list-unsubscribe list-unsubscribe-post message-context message-id mime-version organization "
        "original-from original-message-id original-recipient original-subject precedence priority references reply-to return-path "
        "return-receipt-to sender solicitation sensitivity subject thread-index thread-topic user-agent vbr-info"
    ).split()
)
_SENDERS = ("from", "sender")


@dataclass(frozen=True, slots=True)
class Reduced:
    """A header block with one of each of these fields; why it cannot go even so, and which fields stay behind."""

    block: bytes
    reasons: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


def reduced(block: bytes) -> Reduced:
    """The header block with the first of each field that may stand once, and without lines that lack a name; the same octets where
    all is well."""
    kept: list[bytes] = []
    count: dict[str, int] = {}
    nameless = False  # the line before was left out, and with it go those that continue it
    lost: tuple[str, ...] = ()
    for name, whole in header.fields(block):
        nameless = not name and (whole.lstrip(b" \t").startswith(b":") or (nameless and whole[:1] in (b" ", b"\t")))
        if nameless:
            lost = ("a line of the header without a name is left out",)
            continue
        if name in FIELDS:
            count[name] = count.get(name, 0) + 1
        if count.get(name, 0) < 2:
            kept.append(whole)
    more = {name: number for name, number in count.items() if number > 1}
    return Reduced(
        b"".join(kept) if more or lost else block,
        tuple(f"there are {number} {name.title()} fields" for name, number in more.items() if name in _SENDERS),
        (*(f"of {number} {name.title()} fields only the first goes along" for name, number in more.items() if name not in _SENDERS), *lost),
    )
