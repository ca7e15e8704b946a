"""Previews of requests and transactions: as JSON, as lines for people, as commands for a shell. Pure.

No secret is in a Preview; the commands name shell variables in their place. A command's body stands in a here-document whose
delimiter is quoted, so that the shell changes nothing in it.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from relay.cli.show import octets, size
from relay.log import clean
from relay.transports.base import Preview

SECRET = "[secret]"
_LEAST = 200  # characters of base64 that are shortened for people
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_BASE64_LINES = re.compile(r"(?m)^(?:[A-Za-z0-9+/]{60,}\n){3,}[A-Za-z0-9+/]*={0,2}$")
_VARIABLE = re.compile(r"\$[A-Z_][A-Z0-9_]*")
_SPECIAL = re.compile(r'[\\"`$]')
_OPTIONAL = frozenset({"$AWS_SESSION_TOKEN"})  # only temporary keys have one; curl leaves out a field without a value


def as_json(preview: Preview) -> dict[str, object]:
    """One object: what is sent as it is sent, a JSON body as a JSON value, a mail as base64 beside its envelope. `why` is there
    only where the provider's first choice is not taken."""
    head: dict[str, object] = {"method": preview.method, "url": preview.url, "headers": dict(preview.headers)}
    if preview.method == "POST":
        head["body"] = json.loads(preview.body)
    else:
        head["envelope"] = {"reverse_path": preview.reverse_path, "recipients": list(preview.recipients)}
        head["body_base64"] = base64.b64encode(preview.body).decode()
    losses = [{"grade": loss.grade, "what": loss.what} for loss in preview.losses]
    why = {"why": preview.why} if preview.why else {}
    return {**head, "recipients": list(preview.recipients), "losses": losses, **why}


def lines(preview: Preview) -> Iterator[str]:
    """For people: request line, headers, body with long base64 shortened, recipients, losses."""
    yield f"{preview.method} {preview.url}"
    yield from (f"{name}: {clean(value)}" for name, value in preview.headers.items())
    if preview.method == "POST":
        yield ""
        yield from json.dumps(_shortened(json.loads(preview.body)), indent=2, ensure_ascii=False).splitlines()
    else:
        yield f"MAIL FROM:<{clean(preview.reverse_path)}>"
        yield from (f"RCPT TO:<{clean(recipient)}>" for recipient in preview.recipients)
        yield ""
        yield from _BASE64_LINES.sub(_count, octets(preview.body, terminal=True).decode()).splitlines()
    yield ""
    yield from _about(preview)


def _about(preview: Preview) -> Iterator[str]:
    """For whom, why in this way, what is lost."""
    yield f"for {', '.join(map(clean, preview.recipients))}"
    if preview.why:
        yield clean(way(preview))
    yield from losses(preview)


def way(preview: Preview) -> str:
    """In which way it leaves, and why not in the one that comes first; "" where that is taken."""
    if not preview.why:
        return ""
    if preview.method == "SMTP":
        return f"by SMTP and not by the API: {preview.why}"
    return f"as it is (raw), because it cannot be taken apart: {preview.why}"


def losses(preview: Preview) -> Iterator[str]:
    """What is lost, the grave losses first."""
    for grade in ("hard", "cosmetic"):
        yield from (f"lost ({grade}): {clean(loss.what)}" for loss in preview.losses if loss.grade == grade)
    if not preview.losses:
        yield "nothing is lost"


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _shortened(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    if isinstance(value, str) and len(value) >= _LEAST and _BASE64.fullmatch(value):
        return f"… {size(len(value))} of base64"
    return clean_text(value) if isinstance(value, str) else value


def clean_text(text: str) -> str:
    """Text that moves no cursor: JSON escapes the C0 characters, and these are the rest."""
    return "".join(char if char.isprintable() or char < " " else "?" for char in text)


def _count(found: re.Match[str]) -> str:
    return f"… {size(len(found[0]))} of base64"


def curl(preview: Preview, ca_file: str = "") -> str:
    """The command that sends it, below comments that say for whom and what is lost: bash, base64 and curl; it ends with a line
    end. `preview.login` names the variables to set; `ca_file` holds the certificates to trust by SMTP. A variable that is not set
    and a refusal are errors: the command's exit code is then not 0."""
    about = "".join(f"# {line}\n" for line in _about(preview))
    login = " ".join(quoted(option) for option in preview.login)
    begin = "curl -sS --fail-with-body" if preview.method == "POST" else "curl -sS"
    # A URL with a secret in it is one of the options that log in.
    begin += "" if SECRET in preview.url else f" {shlex.quote(preview.url)}"
    if preview.method == "POST":
        fields = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in preview.headers.items() if SECRET not in value]
        options = " \\\n  ".join([begin, *([login] if login else []), *fields, "--data-binary @-"])
        return f"{about}{options} <<'{_delimiter(preview.body)}'\n{preview.body.decode()}\n{_delimiter(preview.body)}\n"
    recipients = [f"--mail-rcpt {shlex.quote(recipient)}" for recipient in preview.recipients]
    sender = f"--mail-from {shlex.quote(preview.reverse_path)}"
    trust = [f"--cacert {shlex.quote(ca_file)}"] if ca_file else []
    options = " \\\n  ".join([begin, *trust, *([login] if login else []), sender, *recipients, "--upload-file -"])
    return f"{about}base64 -d <<'EOF' | {options}\n{base64.encodebytes(preview.body).decode()}EOF\n"


def _delimiter(body: bytes) -> str:
    """A word that is no line of the body."""
    found, there = "EOF", set(body.split(b"\n"))
    while found.encode() in there:
        found += "_"
    return found


def quoted(option: str) -> str:
    """An option for the shell in which variables, and nothing else, are replaced; one that is not set is an error."""
    if not _VARIABLE.search(option):
        return shlex.quote(option)
    out, position = "", 0
    for variable in _VARIABLE.finditer(option):
        needed = "-" if variable[0] in _OPTIONAL else ":?"
        out += f"{_escaped(option[position : variable.start()])}${{{variable[0][1:]}{needed}}}"
        position = variable.end()
    return f'"{out}{_escaped(option[position:])}"'


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)
