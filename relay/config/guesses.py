"""What an unknown key was probably meant to be, and how a value of the wrong shape may be written. Pure.

A guess is part of a mend and of nothing else: relay never acts on one. No guess quotes more than a number, a word that the
section itself takes, or an example of the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from relay.config.problems import nearest
from relay.config.section import Section, example_of, keys_of, section_below

# What providers' own documents and other mail programs call a key, in lower case with _ for - -> our words for it; the first
# one that a section has.
_OTHER_WORDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("api_key", "apikey", "api_token", "server_token", "access_token", "token"), ("token", "api_key")),
    **dict.fromkeys(("stream_map", "stream_mapping", "message_streams"), ("streams",)),
    "message_stream": ("stream",),
    **dict.fromkeys(("config_set", "configset"), ("configuration_set",)),
    **dict.fromkeys(("inbox", "inbox_id", "test_inbox_id"), ("sandbox_id",)),
    **dict.fromkeys(("server", "hostname", "smtp_host", "relayhost", "smarthost"), ("host",)),
    **dict.fromkeys(("user", "smtp_user", "smtp_username", "username", "login"), ("username", "access_key_id", "user")),
    **dict.fromkeys(("pass", "smtp_pass"), ("password", "smtp_password")),
    "secret": ("secret_access_key", "password"),
    **dict.fromkeys(("begin", "begins", "start", "starts", "since"), ("from",)),
    **dict.fromkeys(("until", "end", "ends", "to", "for", "during", "days", "duration"), ("over",)),
    **dict.fromkeys(("weight", "weights", "percent", "balance"), ("split",)),
    **dict.fromkeys(("provider", "providers"), ("via", "expect")),
    **dict.fromkeys(("sender", "mail_from", "reverse_path"), ("from",)),
    **dict.fromkeys(("recipient", "recipients", "rcpt", "rcpt_to"), ("to",)),
    **dict.fromkeys(("cidr", "network", "ip"), ("client",)),
    **dict.fromkeys(("bigger", "min_size", "larger_than"), ("larger",)),
    **dict.fromkeys(("less", "max_size", "smaller_than"), ("smaller",)),
    **dict.fromkeys(("url", "api_url", "endpoint", "api_endpoint"), ("base_url",)),
}
_PLAIN = re.compile(r"[\w./-]+")


def meant(key: str, known: Collection[str]) -> str:
    """The known key that an unknown one was probably meant to be; "" where there is no guess."""
    folded = key.lower().replace("-", "_").strip()
    if own := next((word for word in _OTHER_WORDS.get(folded, ()) if word in known), ""):
        return own
    if near := nearest(folded, known):
        return near
    words = set(folded.split("_"))  # postmark_token
    return max((name for name in known if set(name.split("_")) <= words), key=len, default="")


def section_of(key: str, model: type[Section]) -> str:
    """The section below this one that a key belongs to; "" where there is none."""
    return next((name for name, inner in _sections(model).items() if key in keys_of(inner)), "")


_ANY_WORD = frozenset({"shared_with"})  # takes any word, which is no sign that it was meant


def shape(key: str, value: Any, model: type[Section]) -> str:
    """How what stands where keys and values are expected may be written: `write batch: {max: 500}`; "" without a guess."""
    inner = _sections(model).get(key)
    if inner is None:
        field = keys_of(model).get(key)
        example = example_of(field) if field else None
        return f"such as {key}: {_flow(example)}" if isinstance(example, dict) and example else ""
    if key == "batch" and value in (False, "off", "no", "none"):
        return "write batch: {max: 1}"
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    taker = next((name for name in keys_of(inner) if name not in _ANY_WORD and _takes(inner, name, value)), "")
    return f"write {key}: {_flow({taker: value})}" if taker else ""


def _sections(model: type[Section]) -> dict[str, type[Section]]:
    return {name: inner for name in keys_of(model) if (inner := section_below(model, name))}


def _takes(model: type[Section], key: str, value: object) -> bool:
    try:
        model.model_validate({key: value})
    except ValidationError:
        return False
    return True


def _flow(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in values.items()) + "}"


def _scalar(value: object) -> str:
    return str(value) if _PLAIN.fullmatch(str(value)) else json.dumps(value, ensure_ascii=False)
