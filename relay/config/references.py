"""Secrets kept outside the configuration: `${env:NAME}`, `${file:/path}` and `${cred:NAME}`.

Resolved in every text value after the file is parsed, so that a mistake names the line that asks for the secret. What
was found never becomes part of a mistake's text. `${cred:NAME}` is systemd's LoadCredential (systemd.exec(5)): a file in
$CREDENTIALS_DIRECTORY, which only the service sees. `$${` stands for a plain `${`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from relay.config.problems import Loc, Report, did_you_mean

KINDS = ("env", "file", "cred")
UNRESOLVED = "unresolved"
_REFERENCE = re.compile(r"\$\$(?=\{)|\$\{([^}]*)(\}?)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME = re.compile(r"[A-Za-z0-9_.@-]+")
_LARGEST = 64 * 1024  # octets of one secret
NOT_CHECKED = "not checked here (only set inside the service)"


class _Missing(Exception):
    """A reference that cannot be resolved; the text names no value."""

    def __init__(self, text: str, mend: str = "") -> None:
        self.mend = mend
        super().__init__(text)


class _Malformed(_Missing):
    """What is written is no reference at all."""


class _Elsewhere(Exception):
    """A reference that only the service can resolve."""


def readable_by_others(mode: int) -> bool:
    """Whether users beyond owner and group may read, or change, a regular file of this mode."""
    return stat.S_ISREG(mode) and bool(mode & (stat.S_IROTH | stat.S_IWOTH))


def resolve(data: Any, report: Report, environ: Mapping[str, str], *, inside_service: bool, for_sending: bool = True) -> Any:
    """A copy of `data` with every reference replaced; mistakes, and what cannot be checked here, go to the report.

    Where nothing is to be sent, a reference that is well written and cannot be resolved is replaced without a word.
    """
    return _Resolver(report, environ, inside_service, for_sending).walk(data, ())


class _Resolver:
    def __init__(self, report: Report, environ: Mapping[str, str], inside_service: bool, for_sending: bool) -> None:
        self._report = report
        self._environ = environ
        self._inside_service = inside_service
        self._for_sending = for_sending

    def walk(self, data: Any, loc: Loc) -> Any:
        if isinstance(data, dict):
            return {key: self.walk(value, (*loc, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [self.walk(value, (*loc, index)) for index, value in enumerate(data)]
        if isinstance(data, str) and "${" in data:
            return self._text(data, loc)
        return data

    def _text(self, text: str, loc: Loc) -> str:
        out, position = [], 0
        for match in _REFERENCE.finditer(text):
            out += [text[position : match.start()], self._one(match, loc)]
            position = match.end()
        found = "".join([*out, text[position:]])
        self._report.resolved[loc] = (found, text)
        return found

    def _one(self, match: re.Match[str], loc: Loc) -> str:
        if match[0] == "$$":
            return "$"
        try:
            return self._value(match[1], closed=bool(match[2]))
        except _Missing as missing:
            if self._for_sending or isinstance(missing, _Malformed):
                self._report.add(loc, str(missing), missing.mend)
        except _Elsewhere:
            if self._for_sending:
                self._report.warn(loc, NOT_CHECKED)
        self._report.silenced.add(loc)
        return UNRESOLVED

    def _value(self, reference: str, *, closed: bool) -> str:
        kind, colon, name = reference.partition(":")
        if not closed:
            raise _Malformed("a reference ${ is not closed", "write ${env:NAME}; $${ stands for a plain ${")
        if not colon:
            # Not echoed: it may be a password that happens to hold "${".
            raise _Malformed("a reference names its kind", "write ${env:NAME}, ${file:/path} or ${cred:NAME}; $${ stands for a plain ${")
        if kind not in KINDS:
            raise _Malformed("unknown kind of reference (known: env, file, cred)", did_you_mean(kind, KINDS))
        if kind == "env":
            value = self._from_env(name)
        elif kind == "file":
            value = _from_file(name)
        else:
            value = self._from_credential(name)
        value = value.rstrip("\r\n")
        if not value:
            raise _Missing(f"{kind}:{name} is empty")
        if _CONTROL.search(value):
            raise _Missing(f"{kind}:{name} holds a control character or more than one line")
        return value

    def _from_env(self, name: str) -> str:
        if name not in self._environ:
            raise _Missing(f"the environment variable {name} is not set", did_you_mean(name, self._environ, 0.8) or f"export {name}=…")
        return self._environ[name]

    def _from_credential(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise _Missing("a credential's name has letters, digits and ._@- only")
        directory = self._environ.get("CREDENTIALS_DIRECTORY")
        if not directory and not self._inside_service:
            raise _Elsewhere
        if not directory:
            raise _Missing("there are no credentials: $CREDENTIALS_DIRECTORY is not set", f"LoadCredential={name}:/path in the unit")
        return _read(Path(directory) / name, f"credential {name}", f"LoadCredential={name}:/path in the unit")


def _from_file(name: str) -> str:
    path = Path(name)
    if not path.is_absolute():
        raise _Missing("a secret's file is named by its whole path", "${file:/etc/relay/NAME}")
    return _read(path, f"file ({name})", private=True)


def _mend_of(path: Path, error: OSError | ValueError) -> str:
    """What to do about a secret's file that cannot be read."""
    if isinstance(error, PermissionError):
        return "let the user who runs relay read it, and nobody beyond its group: mode 640, group of the service"
    if not isinstance(error, FileNotFoundError):
        return "name a file that holds nothing but the secret"
    with suppress(OSError):
        near = did_you_mean(path.name, os.listdir(path.parent), 0.8)
        return near.replace('"', f'"{path.parent}/', 1) or f"write the secret into it, and nothing else, then chmod 640 {path}"
    return f"there is no directory {path.parent}, or it cannot be looked into"


def _read(path: Path, what: str, mend: str = "", *, private: bool = False) -> str:
    try:
        # Without O_NONBLOCK opening a FIFO would wait for somebody to write into it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise _Missing(f"{what} is not a regular file", "name a file that holds nothing but the secret")
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        raise _Missing(f"cannot read {what}: {getattr(error, 'strerror', None) or error}", mend or _mend_of(path, error)) from None
    if private and readable_by_others(mode):
        raise _Missing(f"{what} can be read by others (mode {stat.S_IMODE(mode):04o})", f"chmod 640 {path}")
    if len(data) > _LARGEST:
        raise _Missing(f"{what} is larger than {_LARGEST} octets")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _Missing(f"{what} is not UTF-8 text") from None
