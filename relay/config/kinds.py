"""The annotated types of the configuration's keys: how a value is read, written again, and described in JSON Schema.

The readers are in relay/config/values.py. What is written here can be read again: a time in its largest whole unit, a
size likewise, a secret as `[secret]`. The patterns of the schema are for editors: they are never narrower than the
readers, and any text may hold a reference (`${env:NAME}`) in place of its value.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, SecretStr, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from relay.config import aws, values, vendors
from relay.config.problems import did_you_mean

SECRET = "[secret]"
REFERENCE = r"\$\{"  # in a pattern: the value is to be had elsewhere

_ESCAPED = "$${"


def written_duration(seconds: float) -> str:
    """Seconds as an admin writes them: the largest unit that gives a whole number."""
    if 0 < seconds < 1 and round(seconds * 1000) / 1000 == seconds:
        return f"{round(seconds * 1000)}ms"
    units = [unit for unit, length in values.DURATION_UNITS.items() if unit != "w" and seconds and seconds % length == 0]
    unit = units[-1] if units else "s"
    return f"{seconds / values.DURATION_UNITS[unit]:.6f}".rstrip("0").rstrip(".") + unit


def written_size(octets: int) -> str:
    """Octets as an admin writes them: the unit that gives the smallest whole number."""
    return min((f"{octets // length}{unit}" for unit, length in values.SIZE_UNITS.items() if octets % length == 0), key=len)


def _written_secret(_: Any) -> str:
    return SECRET


def _written_text(text: str) -> str:
    return text.replace("${", _ESCAPED)


def _pattern(regex: str, *examples: str, also: str = "") -> WithJsonSchema:
    kinds: Any = ["string", also] if also else "string"
    return WithJsonSchema(
        {"type": kinds, "pattern": f"^(?:{regex})$|{REFERENCE}", **({"examples": list(examples)} if examples else {})}, mode="validation"
    )


def _range(least: int, most: int) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": ["integer", "string"], "minimum": least, "maximum": most, "pattern": f"^[0-9]+$|{REFERENCE}"}, mode="validation"
    )


class OneOrMore:
    """Marks a tuple in whose place a single item may stand."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(values.one_or_more, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        array = handler(schema)
        return {"anyOf": [array["items"], {**array, "minItems": 1}]}


class choice:  # reads like a function in an annotation
    """A reader for one word of a Literal type; `refused` gives what is said of a word that is not one (text, mend), or None."""

    def __init__(self, options: Any, refused: Callable[[str], tuple[str, str] | None] | None = None) -> None:
        self._known: tuple[str, ...] = get_args(options)
        self._refused = refused

    def _read(self, value: Any) -> Any:
        written = values.text(value if value is not True and value is not False else str(value).lower())
        if written in self._known:
            return written
        if self._refused and (said := self._refused(written)):
            raise values.mistake(*said)
        raise values.mistake(f'"{written}" is not known here (known: {", ".join(self._known)})', did_you_mean(written, self._known))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self._known)}, {"type": "string", "pattern": REFERENCE}]}


_TEXT = _pattern(r"[^\t\n]+", also="integer")
_NAME = _pattern("[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", also="integer")
_FLAG = WithJsonSchema({"type": ["boolean", "string"], "pattern": f"^(?:true|false)$|{REFERENCE}"}, mode="validation")
_HOST = _pattern(r"\[?[A-Za-z0-9_.:-]+\]?", "mail.example.net", also="integer")
_SIZE = _pattern(r"[0-9]{1,12}(?:\.[0-9]{1,6})? ?(?:[kKmMgG][iI]?)?[bB]", "512kB", "40MB", "1GiB")
_DURATION = _pattern(r"[0-9]{1,12}(?:\.[0-9]{1,6})? ?(?:ms|[smhdw])", "30s", "5m", "2h", "5d")
_PATH = _pattern("/.*", "/etc/relay/relay.yaml")
_URL = _pattern("https?://[!-~]+")
_MAIL = _pattern(r"[^\s]+@[^\s]+", "user@example.com")
_ENDPOINT = _pattern(
    r"[0-9.]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}|unix:/.*[^/]", "127.0.0.1:25", "[::1]:25", "unix:/run/relay/smtp.sock"
)
_TOKEN = _pattern("[!-~]+", "${env:TOKEN}", "${file:/etc/relay/token}", "${cred:token}", also="integer")
_SECRET = _pattern(r"[^\t\n]+", "${env:PASSWORD}", "${file:/etc/relay/password}", "${cred:password}", also="integer")
_NETWORK = _pattern(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?", "10.0.0.0/8", "192.0.2.7", "fd00::/8")
_ADDRESS_GLOB = _pattern(r"<>|[Pp][Oo][Ss][Tt][Mm][Aa][Ss][Tt][Ee][Rr]|.*\*.*|[^\s<>]*@[^\s<>]*", "*@example.com", "<>")

_AS_TEXT = PlainSerializer(_written_text, when_used="json-unless-none")
_AS_TIME = PlainSerializer(written_duration, when_used="json")
_AS_SIZE = PlainSerializer(written_size, when_used="json-unless-none")
_AS_SECRET = PlainSerializer(_written_secret, when_used="json-unless-none")

OptionalText = Annotated[str | None, BeforeValidator(values.text), _AS_TEXT, _TEXT]
Name = Annotated[str, BeforeValidator(values.name), _NAME]
Flag = Annotated[bool, BeforeValidator(values.boolean), _FLAG]
OptionalFlag = Annotated[bool | None, BeforeValidator(values.boolean), _FLAG]
Port = Annotated[int, BeforeValidator(values.whole_number(1, 65535)), _range(1, 65535)]
Concurrency = Annotated[int, BeforeValidator(values.whole_number(1, 1000)), _range(1, 1000)]
Batch = Annotated[int, BeforeValidator(values.whole_number(1, 500, "one request takes at most 500 messages")), _range(1, 500)]
PauboxBatch = Annotated[int, BeforeValidator(values.whole_number(1, 50, "one request to Paubox takes at most 50 messages")), _range(1, 50)]
Duration = Annotated[float, BeforeValidator(values.duration), _AS_TIME, _DURATION]
PositiveDuration = Annotated[float, BeforeValidator(values.positive_duration), _AS_TIME, _DURATION]
Wait = Annotated[float, BeforeValidator(values.wait), _AS_TIME, _DURATION]
Size = Annotated[int, BeforeValidator(values.size), _AS_SIZE, _SIZE]
OptionalSize = Annotated[int | None, BeforeValidator(values.size), _AS_SIZE, _SIZE]
MessageSize = Annotated[int, BeforeValidator(values.message_size), _AS_SIZE, _SIZE]
Host = Annotated[str, BeforeValidator(values.host), _HOST]
OptionalHost = Annotated[str | None, BeforeValidator(values.host), _HOST]
Hostname = Annotated[str, BeforeValidator(values.hostname), _HOST]
Endpoint = Annotated[str, BeforeValidator(values.endpoint), _ENDPOINT]
LocalEndpoint = Annotated[str, BeforeValidator(values.local_endpoint), _ENDPOINT]
BaseUrl = Annotated[str, BeforeValidator(values.base_url), _URL]
OptionalBaseUrl = Annotated[str | None, BeforeValidator(values.base_url), _URL]
PauboxUrl = Annotated[str, BeforeValidator(vendors.paubox_url), _URL]
LowCodeUrl = Annotated[str, BeforeValidator(vendors.lowcode_url), _URL]
AbsolutePath = Annotated[Path, BeforeValidator(values.absolute_path), _PATH]
OptionalPath = Annotated[Path | None, BeforeValidator(values.absolute_path), _PATH]
OptionalSecretPath = Annotated[Path | None, BeforeValidator(values.secret_path), _PATH]
SpoolPath = Annotated[Path, BeforeValidator(values.spool), _PATH]
MailAddress = Annotated[str, BeforeValidator(values.mail_address), _AS_TEXT, _MAIL]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(values.secret), _AS_SECRET, _SECRET]
Token = Annotated[SecretStr, BeforeValidator(values.token), _AS_SECRET, _TOKEN]
OptionalToken = Annotated[SecretStr | None, BeforeValidator(values.token), _AS_SECRET, _TOKEN]
PastedToken = Annotated[SecretStr, BeforeValidator(values.pasted_token), _AS_SECRET, _SECRET]
OptionalApiUser = Annotated[str | None, BeforeValidator(vendors.api_user), _pattern(vendors.API_USER.pattern, also="integer")]
OptionalSandboxId = Annotated[str | None, BeforeValidator(vendors.sandbox_id), _pattern(vendors.SANDBOX_ID.pattern, also="integer")]
OptionalKeyId = Annotated[str | None, BeforeValidator(aws.key_id), _TOKEN]
Region = Annotated[str, BeforeValidator(aws.region), _pattern(aws.REGION.pattern, "eu-west-1")]
_CONFIGURATION_SET = _pattern(aws.CONFIGURATION_SET.pattern, also="integer")
ConfigurationSet = Annotated[str, BeforeValidator(aws.configuration_set), _CONFIGURATION_SET]
OptionalConfigurationSet = Annotated[str | None, BeforeValidator(aws.configuration_set), _CONFIGURATION_SET]
OptionalTenant = Annotated[str | None, BeforeValidator(aws.tenant), _pattern(aws.TENANT.pattern, also="integer")]
OptionalIdentityArn = Annotated[str | None, BeforeValidator(aws.identity_arn), _pattern(aws.IDENTITY_ARN.pattern)]
Glob = Annotated[str, BeforeValidator(values.glob), _AS_TEXT, _TEXT]
AddressGlob = Annotated[str, BeforeValidator(values.address_glob), _AS_TEXT, _ADDRESS_GLOB]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(values.network), _NETWORK]
FieldName = Annotated[str, BeforeValidator(values.field_name)]
Asked = Annotated[str, BeforeValidator(vendors.asked)]
Version = Annotated[int, BeforeValidator(values.version), WithJsonSchema({"const": 1}, mode="validation")]
NullOrName = Annotated[
    str | None,
    BeforeValidator(values.or_null(values.name)),
    WithJsonSchema({"anyOf": [{"type": "null"}, _NAME.json_schema]}, mode="validation"),
]
NullOrMailAddress = Annotated[
    str | None,
    BeforeValidator(values.or_null(values.mail_address)),
    _AS_TEXT,
    WithJsonSchema({"anyOf": [{"type": "null"}, _MAIL.json_schema]}, mode="validation"),
]
Controls = Literal["ses", "postmark", "mailtrap", "relay"]
