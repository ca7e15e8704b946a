"""The annotated types of the configuration's keys: how a value is read, written again, and described in JSON Schema.

The readers are in relay/config/values.py. What is written here can be read again: a time in its largest whole unit, a
size likewise, a secret as `[secret]`. The patterns of the schema are for editors: they are never narrower than the
readers, and any text may hold a reference (`${env:NAME}`) in place of its value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, PlainValidator, SecretStr, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from relay import budgets, ramps
from relay.config import amounts, aws, globs, values, vendors
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


def _written_number(number: float) -> int | str:
    return int(number) if number == int(number) else amounts.written_number(number)


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


class or_word:  # reads like a function in an annotation
    """A reader for a type in whose place a word may stand, such as `off`, which is then the value.

    `of` is the type itself; `refused` are words that stand elsewhere, and why not here.
    """

    def __init__(self, *words: str, of: Any, refused: Mapping[str, tuple[str, str]] | None = None) -> None:
        self._words, self._of, self._refused = words, of, refused or {}

    def _read(self, value: Any, inner: Callable[[Any], Any]) -> Any:
        if value in self._words:
            return value
        word = str(value).lower() if isinstance(value, str | bool) else ""
        if word in self._refused:
            raise values.mistake(*self._refused[word])
        if word in _NO_LIMIT and "off" in self._words:
            raise values.mistake(
                f'"{value}" is not known here' if isinstance(value, str) else "true or false is not known here", "did you mean off?"
            )
        return inner(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler.generate_schema(self._of)
        written = core_schema.wrap_serializer_function_ser_schema(self._written, schema=inner)
        return core_schema.no_info_wrap_validator_function(self._read, inner, serialization=written)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self._words)}, handler(schema), {"type": "string", "pattern": REFERENCE}]}

    def _written(self, value: Any, inner: Callable[[Any], Any]) -> Any:
        return value if isinstance(value, str) else inner(value)


_NO_LIMIT = frozenset({"off", "none", "no", "unlimited", "never", "null", "false"})
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
Glob = Annotated[str, BeforeValidator(globs.glob), _AS_TEXT, _TEXT]
MailboxGlob = Annotated[str, BeforeValidator(globs.mailbox_glob), _AS_TEXT, _ADDRESS_GLOB]
AddressGlob = Annotated[str, BeforeValidator(globs.address_glob), _AS_TEXT, _ADDRESS_GLOB]
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

_RATE = _pattern(r"[0-9]{1,10}(?:\.0{1,6})? ?/ ?(?:[0-9]{1,6}(?:\.[0-9]{1,3})? ?)?(?:ms|[smhd])", "14/s", "150/10s")
_WEIGHT = WithJsonSchema({"type": ["number", "string"], "minimum": 0, "pattern": rf"^[0-9]+(\.[0-9]+)?$|{REFERENCE}"}, mode="validation")
_MOMENT = _pattern("[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ][0-9]{2}:[0-9]{2}.*)?", "2026-12-01", "2026-12-01 08:00")
_SENDER = _pattern(r"<>|[^\s]+@[^\s]+", "app@example.com", "<>")
_CLIENT = _pattern(r"[0-9A-Fa-f:.]+|unix", "127.0.0.1")

Rate = Annotated[
    budgets.Rate, PlainValidator(amounts.rate), PlainSerializer(amounts.written_rate, when_used="json"), _RATE
]  # so many in a window
Rates = Annotated[tuple[Rate, ...], OneOrMore()]
Budget = Annotated[int, BeforeValidator(amounts.budget), _range(1, 10**12)]
_ASKED_OF_SES: Mapping[str, tuple[str, str]] = {
    "auto": ("only Amazon SES says what its account may send", "write the figure that the provider gives, or off")
}
OffOrRates = Annotated[tuple[Rate, ...] | Literal["off"], or_word("off", of=Rates, refused=_ASKED_OF_SES)]
OffOrAutoOrRates = Annotated[tuple[Rate, ...] | Literal["off", "auto"], or_word("off", "auto", of=Rates)]
OffOrBudget = Annotated[int | Literal["off"], or_word("off", of=Budget, refused=_ASKED_OF_SES)]
OffOrAutoOrBudget = Annotated[int | Literal["off", "auto"], or_word("off", "auto", of=Budget)]
OffOrMonthly = Annotated[
    int | Literal["off"],
    or_word("off", of=Budget, refused={"auto": ("Amazon SES gives rates and daily figures only", "write a figure, or off")}),
]
Weight = Annotated[float, BeforeValidator(amounts.weight), PlainSerializer(_written_number, when_used="json"), _WEIGHT]
Shares = Annotated[
    tuple[float, float],
    PlainValidator(amounts.shares),
    PlainSerializer(amounts.written_shares, when_used="json"),
    _pattern(r"[0-9]+(?:\.[0-9]+)? ?\.\. ?[0-9]+(?:\.[0-9]+)?", "100..0", "0..100"),
]
Percentage = Annotated[
    float,
    BeforeValidator(amounts.percentage),
    PlainSerializer(amounts.written_percentage, when_used="json"),
    _pattern(r"[0-9]{1,3}(?:\.[0-9]{1,6})? ?%", "5%"),
]
Moment = Annotated[float, BeforeValidator(amounts.moment), PlainSerializer(amounts.written_moment, when_used="json"), _MOMENT]
_LAST = "a ramp looks at the last 1000 messages, no more"
Least = Annotated[int, BeforeValidator(values.whole_number(1, ramps.LAST, _LAST)), _range(1, ramps.LAST)]
ReversePath = Annotated[str, BeforeValidator(values.reverse_path), _AS_TEXT, _SENDER]
Recipient = Annotated[str, BeforeValidator(values.recipient), _AS_TEXT, _pattern(r"[Pp][Oo][Ss][Tt][Mm][Aa][Ss][Tt][Ee][Rr]|[^\s]+@[^\s]+")]
OptionalClientAddress = Annotated[str | None, BeforeValidator(values.client_address), _CLIENT]
Text = Annotated[str, BeforeValidator(values.text), _AS_TEXT, _TEXT]
SenderGlob = Annotated[str, BeforeValidator(globs.sender_glob), _AS_TEXT, _ADDRESS_GLOB]
User = Annotated[str, BeforeValidator(values.user), _AS_TEXT, _TEXT]
UserGlob = Annotated[str, BeforeValidator(values.user), BeforeValidator(globs.glob), _AS_TEXT, _TEXT]
Directive = Annotated[str, BeforeValidator(vendors.directive)]
