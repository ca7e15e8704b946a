"""Lines of a configuration fit to be shown: everything that may be a secret is starred out, column for column.

A mistake is shown with its lines just where they are not what they should be: keys misspelled, colons forgotten, values on
lines of their own. So a value is shown only for a key of the format that holds no secret (`HARMLESS`); what stands for any
other key, or for none, is starred where it is long enough. References (`${env:…}`) stay. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from relay import users

_SECRETISH = re.compile("token|pass|secret|key|cred|pwd|auth", re.IGNORECASE)
_KEY = re.compile(
    r"""(?<!\$\{)(?<![^\s{\[,"':])(?P<key>[^\s:{}\[\],][^:{}\[\],]*)\s*:(?P<gap>\s*)"""
    r"""|(?P<word>\w*(?:token|pass|secret|cred|pwd|_key\b|apikey\b)\w*)[^:=\s\w]*\s*[:=]?\s*""",  # with its colon forgotten
    re.IGNORECASE,
)
_REST_OF_QUOTED = {'"': re.compile(r'(?:[^"\\]|\\.)*"'), "'": re.compile(r"[^']*(?:''[^']*)*'")}
_REFERENCE = re.compile(r"""["']?\$\{(?:env|file|cred):[^}]*\}["']?\s*(?:$|[,}\]#])""")
_PATH_KEYS = frozenset({"key", "auth"})  # of a listener: they name files
_PATH = re.compile(r"""["']?/(?:etc|home|opt|root|run|srv|tmp|usr|var)/""")  # no secret begins like this
_FLOW_VALUE = re.compile(r"[^,}]*(?:,[^,}:]+(?=[,}]))*")  # with what a comma in it would cut off
_AFTER_VALUE = re.compile(r"\s*(?:$|[,}\]]|\s#)")
_USERINFO = re.compile(r"(://)([^/\s@]+)(@)")
_QUERY = re.compile(r"""(://[^\s"'?]*\?)([^\s"'}]+)()""")
_LOWCODE_TOKEN = re.compile(r"((?<![A-Za-z0-9])at_)([\w-]+)()", re.ASCII)  # LowCodeAPI's examples have it in the URL
_NAME_OF_LOGIN = re.compile(r"(?<![\w.:-])[\w.-]{16,}(?![\w.-])")  # some providers' is their token
_FIRST_WORD = re.compile(r"[\s\-'\"]*([^\s:'\"]*)")
_MORE = re.compile(r"\s*[\s=]\s*\S")
_LONG_WORD = re.compile(r"\S{6}")  # no secret is shorter
_NO_SECRET = re.compile(
    r"""$|[#{\[]|["']?(?:[\w.-]{0,5}|[0-9.]{1,9}\.\.[0-9.]{1,9})["']?\s*(?:$|[,}\]])"""
)  # a section, shares, or too short

_HARMLESS = """
    address admin alerts allow allow_non_tls allow_recipients base_url batch bounce by ca_file capture cert client concurrency
    configuration_set content_mode controls count daily deferred delay_warning directive directory dual_stack expect expire fallback
    fips force_secure_notification format from header header_from host hostname html identity_arn keep_bodies keep_history larger least
    level limits listen listener log login maildrop mask match max max_size metrics min_free mode monthly name not on_loss over
    overflow patience port postmaster priority profile providers proxy queue ramp rate redirect refused region retry rewrite route
    routes sandbox_id senders shadow shared_with size smaller split spool step_back sticky stream streams tenant tests timeout tls to
    track_links track_opens type unknown_outcome user username users version via wait
"""
HARMLESS = frozenset(_HARMLESS.split())
"""The keys of the format whose values may be shown."""


def looks_secret(key: str) -> bool:
    """Whether the value of a key so named should not be shown. Misspelled names count."""
    key = re.sub("[^a-z]", "", key.lower())
    return _SECRETISH.search(key) is not None or bool(get_close_matches(key, ("token", "password", "secret"), 1, 0.7))


def masked(lines: Sequence[str]) -> list[str]:
    """The lines with every value starred out that may be a secret, whichever line it ends on."""
    shown = []
    quote = ""  # a secret value goes on until this quotation mark
    below: int | None = None  # lines indented deeper than this continue a secret value
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if quote:
            closed = _REST_OF_QUOTED[quote].match(line)
            start = closed.end() if closed else len(line)
            quote = "" if closed else quote
        elif below is not None and (not line.strip() or indent > below):
            start = len(line)
        else:
            start, below = 0, None
            line = _stray(line)
        line = _stars(line[:start]) + line[start:]
        if start < len(line):
            line, rest = _masked(line, start)
            if rest is not None:
                quote = line[rest] if line[rest : rest + 1] in _REST_OF_QUOTED else ""
                below = None if quote else indent
                line = line[:rest] + _stars(line[rest:])
        for secret in (_USERINFO, _QUERY, _LOWCODE_TOKEN):
            line = secret.sub(lambda match: match[1] + _stars(match[2]) + match[3], line)
        line = _NAME_OF_LOGIN.sub(lambda match: _stars(match[0]) if users.is_token(match[0]) else match[0], line)
        shown.append(line)
    return shown


def _stars(text: str) -> str:
    return re.sub(r"\S", "*", text)


def _stray(line: str) -> str:
    """A line without a key, starred out: it may be the value of a key above it, and a secret. Items of lists, comments, and a
    key of which only the colon is missing stay."""
    found, begins = _KEY.search(line), line.lstrip()
    if found and (found["key"] or (found.start() == len(line) - len(begins) and _MORE.match(line, found.end("word")))):
        return line
    if begins.startswith(("- ", "#")) or _first_word(line) in HARMLESS or not _LONG_WORD.search(line):
        return line
    return _stars(line)


def _first_word(text: str) -> str:
    found = _FIRST_WORD.match(text)
    return found[1] if found else ""


def _masked(line: str, position: int) -> tuple[str, int | None]:
    """The line, from `position` on, with the secret values that end in it starred out; and where one begins that may not."""
    while match := _KEY.search(line, position):
        start = position = match.end()
        if reference := _REFERENCE.match(line, start):
            position = reference.end()
            continue
        if not _to_be_starred(line, match):
            continue
        key = match["key"] or ""
        if len(key.strip("-? ").split()) > 1:  # a colon is missing before this one
            return line, match.start("key") + len(_FIRST_WORD.match(key)[0])  # type: ignore[index] # it matches any text
        quote = line[start : start + 1]
        in_flow = line[:start].count("{") > line[:start].count("}")
        if quote in _REST_OF_QUOTED:
            end = _REST_OF_QUOTED[quote].match(line, start + 1)
        else:
            end = _FLOW_VALUE.match(line, start) if in_flow and re.search("[,}]", line[start:]) else None
        if end is None or not _AFTER_VALUE.match(line, end.end()):
            return line, start
        position = end.end()
        line = line[:start] + _stars(line[start:position]) + line[position:]
    return line, None


def _to_be_starred(line: str, match: re.Match[str]) -> bool:
    """Whether what follows a key may be a secret."""
    start, key = match.end(), (match["key"] or match["word"]).strip("-? \"'")
    if looks_secret(key):
        return not (key in _PATH_KEYS and _PATH.match(line, start))
    if key in HARMLESS or "*" in key or "header:" in line[:start]:
        return False
    # A colon without a space behind it is part of a value: 127.0.0.1:25, https://.
    return bool(match["gap"]) and not _NO_SECRET.match(line, start)
