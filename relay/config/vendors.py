"""The kinds of values that only one kind of provider knows: names of streams, numbers of sandboxes, URLs with a name in them or
with a token that must not be. Those of Amazon are in relay/config/aws.py.
"""

from __future__ import annotations

import re
from typing import Any

from relay import routing
from relay.config import values
from relay.config.problems import did_you_mean

_ASKED = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_PLACEHOLDER = re.compile(r"\{[^}]*\}|[{}]")
_LOWCODE_TOKEN = re.compile(r"(?<![A-Za-z0-9])at_", re.I)
METADATA = "metadata."
"""How the name of a directive begins that has a key of the app's own."""
API_USER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
SANDBOX_ID = re.compile(r"[0-9]{1,18}")


def asked(value: Any) -> str:
    """The name of a stream or configuration set, at whichever provider."""
    written = values.text(value)
    if not _ASKED.fullmatch(written):
        what = "a stream or configuration set"
        raise values.mistake(f'"{written}" cannot be the name of {what}', "letters, digits, dots, - and _; at most 64 of them")
    return written


def directive(value: Any) -> str:
    """What a control header may ask for, as relay calls it: `stream`, `tag`, `metadata.KEY`."""
    written = values.text(value)
    if written.startswith(METADATA) and len(written) > len(METADATA):
        return written
    if written not in routing.DIRECTIVES:
        known = f"{', '.join(routing.DIRECTIVES)}, {METADATA}KEY"
        text = f'"{written}" is nothing that a control header asks for (known: {known})'
        raise values.mistake(text, did_you_mean(written, routing.DIRECTIVES))
    return written


def paubox_url(value: Any) -> str:
    """A base URL in which `{username}` may stand for the key of that name."""
    written = values.text(value)
    if other := next((word for word in _PLACEHOLDER.findall(written) if word != "{username}"), ""):
        raise values.mistake(f"{other} stands for nothing", "{username} is all that is replaced")
    return values.base_url(written)


def lowcode_url(value: Any) -> str:
    """A base URL without the token, which LowCodeAPI's own examples have in it: a URL is shown and logged."""
    written = values.text(value)
    if "?" in written or _LOWCODE_TOKEN.search(written):
        raise values.mistake("a URL with a query or a token in it is not taken", "write the token below token:, and the URL without it")
    return values.base_url(written)


def api_user(value: Any) -> str:
    """The name of an API endpoint, as it stands in a URL."""
    written = values.text(value)
    if not API_USER.fullmatch(written):
        raise values.mistake(
            f'"{written}" cannot stand in a URL', "letters, digits, dots, - and _: the name in the URL of your API endpoint"
        )
    return written


def sandbox_id(value: Any) -> str:
    """The number of a sandbox."""
    written = values.text(value)
    if not SANDBOX_ID.fullmatch(written):
        raise values.mistake(f'"{written}" is not the number of a sandbox', "digits: the number in the URL of the sandbox's page")
    return written
