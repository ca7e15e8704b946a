"""The configuration's records: every section, every key, its default and one sentence on it.

The sentences are the reference: relay.yaml.example and docs/config.md carry the same ones. Defaults are written as an
admin would write them. A record is frozen and valid by itself; what concerns two keys or two sections is judged in
relay/config/checks.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from relay.config import values
from relay.config.values import (
    AbsolutePath,
    AddressGlob,
    BaseUrl,
    Concurrency,
    Controls,
    Duration,
    Endpoint,
    FieldName,
    Flag,
    Glob,
    Host,
    MessageSize,
    Name,
    Network,
    PositiveDuration,
    Size,
    Token,
    choice,
    one_or_more,
)


def key(default: Any, *, description: str, alias: str | None = None, examples: list[Any] | None = None) -> Any:
    """A key that may be left out. Its default is written as in the file and read like a value from it; None, "" and ()
    have no written form."""
    return Field(default, description=description, alias=alias, examples=examples, validate_default=default not in (None, "", ()))


class Section(BaseModel):
    """A map of known keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenConfig(Section):
    """One place where clients hand in mail."""

    name: Name = Field(examples=["local"], description="Name of the listener in logs, metrics and routes.")
    address: Endpoint = Field(
        examples=["127.0.0.1:25"], description="IP address and port, or unix:/path; only addresses of this host in this release."
    )
    max_size: MessageSize = key("40MB", description="Largest message taken, announced by SIZE.")
    controls: tuple[Annotated[Controls, choice(Controls, later=("ses", "mailtrap"))], ...] = key(
        ("postmark", "relay"), description="Dialects of control headers obeyed here; all of them are always stripped."
    )


class LimitsConfig(Section):
    """How much of a provider is used at once."""

    concurrency: Concurrency = key(20, description="Attempts under way at the same time.")


class PostmarkLimitsConfig(Section):
    """How much of Postmark is used at once."""

    concurrency: Concurrency = key(10, description="Requests under way at the same time.")


UnknownOutcome = Literal["retry", "hold"]
Tls = Literal["starttls", "implicit", "none"]
OnLoss = Literal["refuse", "warn"]
TrackLinks = Literal["None", "HtmlAndText", "HtmlOnly", "TextOnly"]
Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "text", "json"]


class SmtpProvider(Section):
    """Any SMTP smarthost."""

    type: Annotated[Literal["smtp"], choice(Literal["smtp"])] = key("smtp", description="Kind of provider; the provider's name by default.")
    host: Host = Field(examples=["mail.example.net"], description="Host name or IP address of the smarthost.")
    port: values.Port = key(587, description="Port of the smarthost; with tls: implicit the default is 465.")
    tls: Annotated[Tls, choice(Tls)] = key(
        "starttls", description="starttls (required, never skipped), implicit, or none (for this host, or without credentials)."
    )
    username: Annotated[str | None, BeforeValidator(values.text)] = key(
        None, examples=["relay"], description="Name to log in with; without it relay does not log in."
    )
    password: Annotated[SecretStr | None, BeforeValidator(values.secret)] = key(
        None, examples=["${cred:smarthost}"], description="Password to log in with."
    )
    ca_file: Annotated[Path | None, BeforeValidator(values.certificates)] = key(
        None, examples=["/etc/relay/ca.pem"], description="Certificates to trust instead of the system's."
    )
    timeout: PositiveDuration = key("60s", description="Longest wait for one reply.")
    limits: LimitsConfig = key(LimitsConfig(), description="How much of the provider is used at once.")
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = key(
        "retry", description="After an attempt without an answer: retry (the mail may arrive twice) or hold (an admin decides)."
    )

    @model_validator(mode="before")
    @classmethod
    def _port_by_tls(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tls") == "implicit":
            return {"port": 465, **data}
        return data


class PostmarkProvider(Section):
    """Postmark's REST API."""

    type: Annotated[Literal["postmark"], choice(Literal["postmark"])] = key(
        "postmark", description="Kind of provider; the provider's name by default."
    )
    token: Token = Field(examples=["${env:POSTMARK_TOKEN}"], description="Server API token (Servers > API Tokens).")
    stream: Name = key("outbound", description="Message stream for mail that names none.")
    base_url: BaseUrl = key("https://api.postmarkapp.com", description="Where the API is; https, or http on this host.")
    on_loss: Annotated[OnLoss, choice(OnLoss)] = key(
        "refuse", description="When the API cannot carry a part of a message: refuse it, or warn and send the rest."
    )
    track_opens: Annotated[bool | None, BeforeValidator(values.boolean)] = key(
        None, examples=[False], description="Open tracking; without it the server's own setting holds."
    )
    track_links: Annotated[TrackLinks | None, choice(TrackLinks)] = key(
        None, examples=["None"], description="Link tracking: None, HtmlAndText, HtmlOnly or TextOnly."
    )
    timeout: PositiveDuration = key("60s", description="Longest time for one request.")
    limits: PostmarkLimitsConfig = key(PostmarkLimitsConfig(), description="How much of the provider is used at once.")
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = key(
        "retry", description="After an attempt without an answer: retry (the mail may arrive twice) or hold (an admin decides)."
    )


class CaptureProvider(Section):
    """Keeps mail in a directory; nothing leaves this host."""

    type: Annotated[Literal["capture"], choice(Literal["capture"])] = key(
        "capture", description="Kind of provider; the provider's name by default."
    )
    directory: Annotated[Path, BeforeValidator(values.absolute_path)] = key(  # filled in when left out
        None,
        examples=["/var/lib/relay/capture"],
        description="Where mail is kept; by default capture/NAME in the spool's directory.",
    )


ProviderConfig = SmtpProvider | PostmarkProvider | CaptureProvider
PROVIDERS: Mapping[str, type[ProviderConfig]] = {"smtp": SmtpProvider, "postmark": PostmarkProvider, "capture": CaptureProvider}

_Globs = Annotated[tuple[AddressGlob, ...], BeforeValidator(one_or_more)]


class MatchConfig(Section):
    """Conditions of a route: all given ones must hold, a list means any of its items."""

    from_: _Globs = key((), alias="from", examples=["*@example.com"], description='Reverse-path (glob); "<>" is the null one.')
    to: _Globs = key((), examples=["*@example.net"], description="Recipient (glob); each recipient is routed by itself.")
    client: Annotated[tuple[Network, ...], BeforeValidator(one_or_more)] = key(
        (), examples=["127.0.0.0/8"], description="Network of the client (CIDR)."
    )
    listener: Annotated[tuple[Name, ...], BeforeValidator(one_or_more)] = key((), examples=["local"], description="Name of the listener.")
    header: dict[FieldName, Annotated[tuple[Glob, ...], BeforeValidator(one_or_more)]] = key(
        {}, examples=[{"List-Unsubscribe": "*"}], description="Header fields and globs on their text."
    )
    larger: Annotated[int | None, BeforeValidator(values.size)] = key(None, examples=["10MB"], description="Messages larger than this.")


class RouteConfig(Section):
    """Which mail goes by which providers; the first route that matches is taken."""

    name: Name = Field(examples=["default"], description="Name of the route in logs and metrics.")
    match: MatchConfig = key(MatchConfig(), description="Conditions; the last route has none and takes the rest.")
    via: Annotated[tuple[Name, ...], BeforeValidator(one_or_more)] = Field(
        examples=["postmark"], description="Provider, or several in order: the next one only where the mail was surely not taken."
    )
    patience: Duration = key(
        "15m", description="How long a message that one provider keeps deferring stays with it before the next of via is tried."
    )


class QueueConfig(Section):
    """The spool and its times."""

    spool: AbsolutePath = key("/var/lib/relay", description="Directory of the spool.")
    retry: Annotated[tuple[PositiveDuration, ...], BeforeValidator(one_or_more)] = key(
        ("1m", "5m", "15m", "30m", "1h", "2h", "4h"), description="Waits between attempts; the last one repeats."
    )
    expire: PositiveDuration = key("5d", description="When a message is given up and its sender told.")
    keep_history: Duration = key("30d", description="How long relay remembers what became of a message.")
    keep_bodies: Duration = key("0s", description="How long the text of a finished message is kept.")
    min_free: Size = key("100MB", description="Free disk space below which no mail is taken.")


class BounceConfig(Section):
    """The messages relay sends back."""

    sender: Annotated[str, BeforeValidator(values.mail_address)] = key(  # filled in when left out
        "",
        alias="from",
        examples=["mailer-daemon@example.com"],
        description="From address of bounces; by default mailer-daemon@ and the hostname.",
    )


class AdminConfig(Section):
    """The admin API."""

    listen: Annotated[tuple[Endpoint, ...], BeforeValidator(one_or_more)] = key(
        ("unix:/run/relay/admin.sock",), description="Where the admin API listens: unix:/path or addresses of this host."
    )
    metrics: Flag = key(True, description="Serve /metrics beside the API.")


class LogConfig(Section):
    """The log, written to standard error."""

    level: Annotated[Level, choice(Level)] = key("info", description="Least level written: debug, info, warning or error.")
    format: Annotated[Format, choice(Format, later=("journald",))] = key(
        "auto", description="auto, text (as Postfix writes) or json; auto is text."
    )


class Root(Section):
    """The top level. `providers` is checked provider by provider, each by its own type."""

    version: Annotated[int, BeforeValidator(values.version)] = key(1, description="Version of this file's format.")
    hostname: Annotated[str, BeforeValidator(values.hostname)] = key(
        "",
        examples=["relay.example.com"],
        description="Name of this host in Received, EHLO and bounces; by default the system's.",
    )
    listen: tuple[ListenConfig, ...] = key(({"name": "local", "address": "127.0.0.1:25"},), description="Where clients hand in mail.")
    providers: dict[Name, ProviderConfig] = Field(examples=[{}], description="Accounts that carry mail, by name; at least one.")
    routes: tuple[RouteConfig, ...] = key((), description="Which mail goes by which provider; with a single provider it may be left out.")
    queue: QueueConfig = key(QueueConfig(), description="The spool and its times.")
    bounce: BounceConfig = key(BounceConfig(), description="The messages relay sends back.")
    admin: AdminConfig = key(AdminConfig(), description="The admin API.")
    log: LogConfig = key(LogConfig(), description="The log, written to standard error.")


LATER: Mapping[type[Section], frozenset[str]] = {
    Root: frozenset({"senders", "tests"}),
    ListenConfig: frozenset({"tls", "cert", "key", "auth", "allow"}),
    SmtpProvider: frozenset({"mode", "batch", "on_loss"}),
    PostmarkProvider: frozenset({"mode", "batch", "host", "port", "smtp_access_key", "smtp_secret_key"}),
    CaptureProvider: frozenset({"limits", "timeout", "unknown_outcome"}),
    LimitsConfig: frozenset({"rate", "daily", "monthly", "count"}),
    PostmarkLimitsConfig: frozenset({"rate", "daily", "monthly", "count"}),
    MatchConfig: frozenset({"header_from", "user", "directive", "smaller", "not"}),
    RouteConfig: frozenset({"split", "sticky", "fallback"}),
    QueueConfig: frozenset({"maildrop"}),
    BounceConfig: frozenset({"to", "postmaster", "delay_warning", "via"}),
    AdminConfig: frozenset(),
    LogConfig: frozenset({"mask"}),
}
"""Keys of the format that this release does not have; they are refused, and the refusal says so."""

LATER_TYPES = frozenset({"ses", "mailtrap", "paubox", "lowcodeapi"})
"""Types of providers that this release does not have."""


def keys_of(section: type[Section]) -> dict[str, Any]:
    """Key as written in the file -> its field."""
    return {field.alias or name: field for name, field in section.model_fields.items()}
