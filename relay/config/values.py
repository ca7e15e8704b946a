"""The kinds of values a configuration is made of, and how each is read from text: times, sizes, addresses, names.

Reading one fails with `mistake(text, mend)`, a pydantic error whose mend survives into the report. The texts quote what
was written, except for secrets. relay/config/kinds.py makes the models' types of the readers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from relay import address as addresses
from relay import users
from relay.transports import net

_IDENTITY = "give the login an identity (relay passwd --identity app1 -), and write that here"
_LONGEST_WAIT = 60  # seconds
DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZES = {unit.lower(): number for unit, number in SIZE_UNITS.items()}
_NUMBER_UNIT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
_FIELD_NAME = re.compile(r"[!-9;-~]+")
_PRINTABLE_ASCII = re.compile(r"[!-~]+")
_ENDPOINT = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_LONGEST_SOCKET_PATH = 107  # octets, unix(7)
_WORDS = {bool: "true or false", int: "a number", str: "text", list: "a list", dict: "a map of keys", type(None): "nothing"}


def mistake(text: str, mend: str = "") -> PydanticCustomError:
    """The error a reader raises. Braces in the texts are taken as they are."""
    return PydanticCustomError("mistake", "{text}", {"text": text, "mend": mend})


def kind_of(value: object) -> str:
    """What a value is, in an admin's words."""
    return _WORDS.get(type(value), "something else")


def text(value: Any) -> str:
    """One line of text, not empty. A whole number is taken as it was written."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        raise mistake("has no value")
    if not isinstance(value, str):
        raise mistake(f"expected text, not {kind_of(value)}", "quote it" if isinstance(value, bool) else "")
    written = value.removesuffix("\n")
    if not written:
        raise mistake("is empty")
    if "\n" in written or "\t" in written:
        raise mistake("must be one line")
    return written


def whole_number(least: int, most: int, mend: str = "") -> Callable[[Any], int]:
    """A reader for whole numbers between `least` and `most`; `mend` says why not more."""

    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value):  # quoted, or from a reference
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise mistake(f"expected a whole number, not {kind_of(value)}")
        if not least <= value <= most:
            raise mistake(f"{value} is not between {least} and {most}", mend if value > most else "")
        return value

    return read


def boolean(value: Any) -> bool:
    """true or false, in nothing but these words."""
    if value in ("true", "false"):  # quoted, or from a reference
        return bool(value == "true")
    if isinstance(value, bool):
        return value
    guess = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(str(value).lower(), "")
    raise mistake(f"expected true or false, not {kind_of(value)}", f"did you mean {guess}?" if guess else "")


def version(value: Any) -> int:
    """The only version there is."""
    if value != 1 or isinstance(value, bool):
        raise mistake("this release reads version 1 only", "version: 1")
    return 1


def duration(value: Any) -> float:
    """Seconds, from `200ms 30s 5m 2h 5d 1w`; a float (which YAML never gives here) is seconds already."""
    if isinstance(value, float):
        return value
    written = text(value)
    match = _NUMBER_UNIT.fullmatch(written)
    if not match:
        raise mistake(f'"{written}" is not a duration', "write 30s, 5m, 2h or 5d")
    number, unit = match.groups()
    if not unit:
        raise mistake(f'"{written}" has no unit', f"write {number}s, {number}m, {number}h or {number}d")
    if unit not in DURATION_UNITS and unit != "ms":
        near = {"sec": "s", "min": "m", "hour": "h", "day": "d", "week": "w"}.get(unit.lower().rstrip("s"), unit.lower()[:1])
        mend = f'did you mean "{number}{near}"?' if near in DURATION_UNITS else "write 30s, 5m, 2h or 5d"
        raise mistake(f'"{unit}" is not a unit of time (s, m, h, d, w)', mend)
    seconds = float(number) / 1000 if unit == "ms" else float(number) * DURATION_UNITS[unit]
    if seconds > 3650 * 86400:
        raise mistake(f'"{written}" is longer than ten years')
    return seconds


def positive_duration(value: Any) -> float:
    """Seconds, at least one."""
    seconds = duration(value)
    if seconds < 1:
        raise mistake("must be at least 1s")
    return seconds


def wait(value: Any) -> float:
    """Seconds that one message may wait for others, at most a minute."""
    if isinstance(value, int | str) and re.fullmatch(r"[0-9]{1,6}", str(value)):
        raise mistake(f'"{value}" has no unit', f"write {value}ms, or {value}s")
    seconds = duration(value)
    if seconds > _LONGEST_WAIT:
        raise mistake("is longer than 1m: the first message of a batch would be late", "write 200ms, say")
    return seconds


def size(value: Any) -> int:
    """Octets, from `512kB 40MB 1GiB`."""
    written = text(value)
    match = _NUMBER_UNIT.fullmatch(written)
    if not match:
        raise mistake(f'"{written}" is not a size', "write 512kB, 40MB or 1GiB")
    number, unit = match.groups()
    if unit.lower() not in _SIZES:
        near = next((known for known in SIZE_UNITS if unit and known.lower().startswith(unit.lower()[:1]) and known != "B"), "MB")
        raise mistake(f'"{written}" has no unit' if not unit else f'"{unit}" is not a unit of size', f'did you mean "{number}{near}"?')
    return int(float(number) * _SIZES[unit.lower()])


def message_size(value: Any) -> int:
    """Octets of a message, at least 1 kB and at most 1 GiB."""
    octets = size(value)
    if not 1000 <= octets <= 2**30:
        raise mistake(f"{value} is not between 1kB and 1GiB")
    return octets


def name(value: Any) -> str:
    """A name given by the admin; it stands in logs, metrics and commands."""
    written = text(value)
    if not _NAME.fullmatch(written):
        raise mistake(f'"{written}" cannot be a name', "letters, digits, dots, - and _; at most 63 of them")
    return written


def host(value: Any) -> str:
    """A host name or an IP address, without port or scheme."""
    written = text(value)
    try:
        return str(ip_address(written.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    if "://" in written:
        raise mistake(f'"{written}" is a URL', "write only the host name")
    front, colon, port = written.rpartition(":")
    if colon and port.isdigit() and _HOST.fullmatch(front):
        raise mistake(f'"{written}" holds a port', f"host: {front}, port: {port}")
    if not _HOST.fullmatch(written):
        raise mistake(f'"{written}" is not a host name')
    return written


def hostname(value: Any) -> str:
    """A name for this host that can stand in Received fields and mail addresses."""
    written = text(value)
    if not _HOST.fullmatch(written) or not addresses.valid(f"mailer-daemon@{written}"):
        raise mistake(f'"{written}" is not a host name', "write the host's full name: relay.example.com")
    return written


def endpoint(value: Any) -> str:
    """`127.0.0.1:25`, `[::1]:25` or `unix:/path`; port 0 for any free one."""
    written = text(value)
    if written.startswith("unix:"):
        return _unix(written)
    match = _ENDPOINT.fullmatch(written)
    if not match:
        raise mistake(f'"{written}" is not an address to listen on', _endpoint_mend(written))
    try:
        ip = ip_address(match["six"] if match["six"] is not None else match["four"])
    except ValueError:
        mend = f'did you mean "127.0.0.1:{match["port"]}"?' if match["four"] in {"", "*", "localhost"} else "write an IP address and a port"
        raise mistake(f'"{written}" does not begin with an IP address', mend) from None
    if int(match["port"]) > 65535:
        raise mistake(f"{match['port']} is not a port (0 to 65535)")
    return f"[{ip}]:{int(match['port'])}" if ip.version == 6 else f"{ip}:{int(match['port'])}"


def local_endpoint(value: Any) -> str:
    """An endpoint of this host: loopback or a unix socket."""
    address = endpoint(value)
    if not beyond_this_host(address):
        return address
    host, _, port = address.rpartition(":")
    raise mistake(
        f"{host.strip('[]')} is reached from other hosts, and the admin API has no logins", f'listen on this host only: "127.0.0.1:{port}"'
    )


def beyond_this_host(address: str) -> bool:
    """Whether other hosts can reach what listens on an endpoint."""
    return not address.startswith("unix:") and not net.is_loopback(address.rpartition(":")[0].strip("[]"))


def _unix(written: str) -> str:
    path = written.removeprefix("unix:")
    if not path.startswith("/") or path.endswith("/"):
        raise mistake(f'"{written}" does not name a socket by its whole path', 'write "unix:/run/relay/smtp.sock"')
    if len(path.encode()) > _LONGEST_SOCKET_PATH:
        raise mistake(f"the path of a unix socket has at most {_LONGEST_SOCKET_PATH} octets; this one has {len(path.encode())}")
    return written


def _endpoint_mend(written: str) -> str:
    if written.isdigit():
        return f'did you mean "127.0.0.1:{written}"?'
    if written.startswith("/"):
        return f'did you mean "unix:{written}"?'
    if match := re.fullmatch(r"(.*:.*):([0-9]{1,5})", written):
        return f'did you mean "[{match[1]}]:{match[2]}"?'
    return 'write "127.0.0.1:25", "[::1]:25" or "unix:/path"'


def base_url(value: Any) -> str:
    """https://host[:port][/path], or http on this host; without the last slash."""
    written = text(value)
    try:
        parts = urlsplit(written)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        port_ok = False
    if not port_ok:
        raise mistake("is not a URL", 'write "https://host" or "https://host:port"')
    if "@" in parts.netloc:
        raise mistake("a URL with a user name or password in it is not taken", "remove what stands before the @")
    if parts.query or parts.fragment or not _PRINTABLE_ASCII.fullmatch(written):  # not quoted: a query may hold a token
        raise mistake("a base URL has no query, fragment or spaces")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise mistake(f'"{written}" is not an https URL', 'write "https://host"')
    if parts.scheme == "http" and not net.is_loopback(parts.hostname):
        raise mistake(f"http to {parts.hostname} would send the token in clear", "use https (http is for this host only)")
    return written.rstrip("/")


def absolute_path(value: Any) -> Path:
    """A whole path."""
    if isinstance(value, Path):
        return value
    written = text(value)
    if not written.startswith("/"):
        raise mistake(f'"{written}" is not a whole path', "begin it with /" if not written.startswith("~") else "~ is not expanded")
    return Path(written)


def secret_path(value: Any) -> Path:
    """The whole path of a file with secrets. Not quoted where it is none: the secret itself may have been written."""
    written = text(value)
    if not written.startswith("/"):
        raise mistake("is not a whole path", "name the file, beginning with /")
    return Path(written)


def spool(value: Any) -> Path:
    """The spool's directory."""
    if isinstance(value, str) and value.startswith(("postgresql://", "postgres://")):
        raise mistake("a PostgreSQL spool is not built yet", "name a directory")
    return absolute_path(value)


def mail_address(value: Any) -> str:
    """An e-mail address by the strict grammar."""
    written = text(value)
    if "@" not in written or not addresses.valid(written):
        inner = re.search(r"<([^<>]+)>\s*$", written)
        raise mistake(f'"{written}" is not a mail address', f'did you mean "{inner[1]}"?' if inner else "write user@example.com")
    if "*" in written or "?" in written:  # its grammar allows them, and nobody has such an address
        raise mistake(f'"{written}" is a pattern, and one address is wanted', "write user@example.com")
    return written


def reverse_path(value: Any) -> str:
    """The sender of a mail: an address, or `<>`."""
    return "<>" if value == "<>" else mail_address(value)


def recipient(value: Any) -> str:
    """A recipient: an address, or postmaster (RFC 5321 §4.5.1)."""
    return str(value) if isinstance(value, str) and value.lower() == "postmaster" else mail_address(value)


def user(value: Any) -> str:
    """What a login is known by. Not quoted where it looks like a token: nobody is ever known by one."""
    written = text(value)
    if users.is_token(written):
        raise mistake("a name that looks like a token is never told to anybody, so nothing can go by it", _IDENTITY)
    return written


def client_address(value: Any) -> str:
    """An IP address, or `unix` for a client of a unix socket."""
    written = text(value)
    if written == "unix":
        return written
    try:
        return str(ip_address(written))
    except ValueError:
        raise mistake(f'"{written}" is not an IP address', "write 127.0.0.1, ::1 or unix") from None


def secret(value: Any) -> SecretStr:
    """A password: one line, any printable characters."""
    return value if isinstance(value, SecretStr) else SecretStr(text(value))


def token(value: Any) -> SecretStr:
    """An API token: printable ASCII without spaces, for it goes into a header field."""
    found = secret(value)
    if any(char.isspace() for char in found.get_secret_value()):
        raise mistake("holds white space, and a token or key has none", "paste it again without blanks and line ends")
    if not _PRINTABLE_ASCII.fullmatch(found.get_secret_value()):
        raise mistake("a token or key has printable ASCII characters only")
    return found


def pasted_token(value: Any) -> SecretStr:
    """An API token without the white space it was pasted with."""
    if isinstance(value, str) and (bare := "".join(value.split())):
        value = bare
    return token(value)


def or_null(read: Callable[[Any], str]) -> Callable[[Any], str | None]:
    """A reader that takes null too, for keys whose null is worth writing."""
    return lambda value: None if value is None else read(value)


def network(value: Any) -> IPv4Network | IPv6Network:
    """A network in CIDR form, or one address."""
    written = text(value)
    try:
        return ip_network(written)
    except ValueError:
        pass
    try:
        mend = f'did you mean "{ip_network(written, strict=False)}"?'
    except ValueError:
        mend = "write 10.0.0.0/8, 192.0.2.7 or fd00::/8"
    raise mistake(f'"{written}" is not a network', mend)


def field_name(value: Any) -> str:
    """A header field's name, in lower case."""
    written = text(value)
    if not _FIELD_NAME.fullmatch(written):
        raise mistake(
            f'"{written}" is not the name of a header field', f'did you mean "{written.rstrip(": ")}"?' if written.endswith(":") else ""
        )
    return written.lower()


def names(value: Any) -> Any:
    """A name, or several; what is told of otherwise is left to the reader of each."""
    if isinstance(value, str) and len(found := re.split(r"(?:[\s,;>|]|->)+", value.strip())) > 1 and all(map(_NAME.fullmatch, found)):
        raise mistake(f'"{value}" names several', f"write a list: [{', '.join(found)}]")
    if isinstance(value, dict) and value and all(isinstance(weight, int) for weight in value.values()):
        raise mistake("expected names, not keys and values", "to share the mail among them: split, in place of via")
    return value


def fields(value: Any) -> Any:
    """Header fields by name. A name written in two ways is one field: the second would take the place of the first."""
    seen: set[str] = set()
    for key in value if isinstance(value, dict) else ():
        if str(key).lower() in seen:
            raise mistake(f'"{key}" is named twice: case does not count', "write one list: [a, b]")
        seen.add(str(key).lower())
    return value


def one_or_more(value: Any) -> Any:
    """A single value stands for a list of one."""
    if value is None:
        raise mistake("has no value")
    if isinstance(value, (list, tuple)):
        if not value:
            raise mistake("the list is empty", "remove the key, or name something")
        return value
    return [value]
