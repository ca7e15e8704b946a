"""The configuration's records: every section, every key, its default and one sentence on it.

A record is frozen and valid by itself; what concerns two keys or two sections is judged in relay/config/checks.py. The
providers are in relay/config/providers.py, the routes in relay/config/rules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from relay.config import kinds, values
from relay.config.kinds import Controls, OneOrMore, choice
from relay.config.limits import (
    BatchConfig,
    LimitsConfig,
    LowCodeLimitsConfig,
    MailtrapLimitsConfig,
    PauboxBatchConfig,
    PauboxLimitsConfig,
    PostmarkLimitsConfig,
    SesLimitsConfig,
)
from relay.config.providers import (
    CaptureProvider,
    LowCodeProvider,
    MailtrapProvider,
    PauboxProvider,
    PostmarkProvider,
    ProviderConfig,
    SesProvider,
    SmtpProvider,
)
from relay.config.rules import CaseConfig, Globs, MatchConfig, NotConfig, RampConfig, RouteConfig, StepBackConfig
from relay.config.section import Section, setting

ListenTls = Literal["off", "optional", "required", "implicit"]
BounceTo = Literal["sender", "postmaster"]
Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "text", "json", "journald"]
Mask = Literal["none", "local", "full"]


_OTHER_TLS = {
    **dict.fromkeys(("starttls", "true", "yes", "on"), "required (TLS by STARTTLS), or optional, or implicit (TLS from the first octet)"),
    **dict.fromkeys(("none", "false", "no"), "off"),
    **dict.fromkeys(("ssl", "tls", "smtps"), "implicit (TLS from the first octet), or required (TLS by STARTTLS)"),
}


def _other_tls(word: str) -> tuple[str, str] | None:
    """Words that providers and other programs use for what a listener calls something else."""
    known = ", ".join(get_args(ListenTls))
    return (f'"{word}" is not known here (known: {known})', f"write {mend}") if (mend := _OTHER_TLS.get(word.lower())) else None


class ListenConfig(Section):
    """One place where clients hand in mail."""

    name: kinds.Name = Field(examples=["local"], description="Name of the listener in logs, metrics and routes.")
    address: kinds.Endpoint = Field(
        examples=["127.0.0.1:25"], description="IP address and port, or unix:/path; other hosts need auth or allow."
    )
    tls: Annotated[ListenTls, choice(ListenTls, refused=_other_tls)] = setting(
        "off", description="off, optional (STARTTLS is offered), required (no mail before STARTTLS) or implicit (TLS from the first octet)."
    )
    cert: kinds.OptionalPath = setting(
        None, examples=["/etc/relay/tls.crt"], description="Certificate in PEM form, with those between it and the root."
    )
    key: kinds.OptionalSecretPath = setting(
        None, examples=["/etc/relay/tls.key"], description="Private key of the certificate, in PEM form."
    )
    auth: kinds.OptionalSecretPath = setting(
        None, examples=["/etc/relay/users"], description="File of users (relay passwd); with it every mail needs a login."
    )
    allow: Annotated[tuple[kinds.Network, ...], OneOrMore()] = setting(
        (), examples=["10.0.0.0/8"], description="Networks that may hand in mail here; without it all that reach the address."
    )
    proxy: Annotated[tuple[kinds.Network, ...], OneOrMore()] = setting(
        (),
        examples=["10.0.0.2"],
        description="Networks of proxies: what comes from there begins with a PROXY header that names the client.",
    )
    max_size: kinds.MessageSize = setting("40MB", description="Largest message taken, announced by SIZE.")
    controls: tuple[Annotated[Controls, choice(Controls)], ...] = setting(  # filled in when left out
        (),
        examples=[["ses", "postmark", "mailtrap", "relay"]],
        description="Dialects of control headers obeyed here, by default all on this host and none elsewhere; all are always stripped.",
    )

    @model_validator(mode="before")
    @classmethod
    def _controls_by_address(cls, data: dict[str, Any]) -> dict[str, Any]:
        """All dialects for clients of this host; a proxy's clients are elsewhere."""
        address = data.get("address")
        if not isinstance(address, str) or "controls" in data or data.get("proxy") or values.beyond_this_host(address):
            return data
        return {**data, "controls": get_args(Controls)}


class SendersConfig(Section):
    """Who may stand in MAIL FROM, and what takes its place on the way out."""

    allow: Globs = setting((), examples=["*@example.com"], description="Reverse-paths (globs) that are taken; without it all are.")
    users: dict[kinds.User, Globs] = setting(
        {}, examples=[{"app1": ["*@shop.example.com"]}], description="User -> the only reverse-paths (globs) that this login may use."
    )
    rewrite: dict[kinds.SenderGlob, kinds.MailAddress] = setting(
        {},
        examples=[{"root@*": "alerts@example.com"}],
        description="Sender (glob) -> the address that takes its place in reverse-path and From; the first that fits.",
    )


class QueueConfig(Section):
    """The spool and its times."""

    spool: kinds.SpoolPath = setting("/var/lib/relay", description="Directory of the spool.")
    retry: Annotated[tuple[kinds.PositiveDuration, ...], OneOrMore()] = setting(
        ("1m", "5m", "15m", "30m", "1h", "2h", "4h"), description="Waits between attempts; the last one repeats."
    )
    expire: kinds.PositiveDuration = setting("5d", description="When a message is given up and its sender told.")
    keep_history: kinds.Duration = setting("30d", description="How long relay remembers what became of a message.")
    keep_bodies: kinds.Duration = setting("0s", description="How long the text of a finished message is kept.")
    min_free: kinds.Size = setting("100MB", description="Free disk space below which no mail is taken.")


class BounceConfig(Section):
    """The messages relay sends back."""

    to: Annotated[BounceTo, choice(BounceTo)] = setting("sender", description="Who is told: sender, or postmaster in the sender's place.")
    sender: kinds.MailAddress = setting(  # filled in when left out
        "",
        alias="from",
        examples=["mailer-daemon@example.com"],
        description="From address of bounces; by default mailer-daemon@ and the hostname.",
    )
    postmaster: kinds.NullOrMailAddress = setting(
        None, examples=["postmaster@example.com"], description="Who is told of bounces that cannot be delivered; by default only the log."
    )
    delay_warning: kinds.Duration = setting("4h", description="After how long the sender is told of a delay; 0s is never.")
    via: kinds.NullOrName = setting(
        None, examples=["smarthost"], description="Provider that carries bounces; by default those of the original's route."
    )
    alerts: kinds.Flag = setting(
        False, description="Mail the postmaster when a provider is paused or back, has used up a quota, or a ramp has stepped back."
    )


class AdminConfig(Section):
    """The admin API."""

    listen: Annotated[tuple[kinds.LocalEndpoint, ...], OneOrMore()] = setting(
        ("unix:/run/relay/admin.sock",), description="Where the admin API listens: unix:/path or addresses of this host."
    )
    metrics: kinds.Flag = setting(True, description="Serve /metrics beside the API.")


class LogConfig(Section):
    """The log, written to standard error or the journal."""

    level: Annotated[Level, choice(Level)] = setting("info", description="Least level written: debug, info, warning or error.")
    format: Annotated[Format, choice(Format)] = setting(
        "auto", description="text (as Postfix writes), json, journald (with its own fields), or auto: journald under systemd, else text."
    )
    mask: Annotated[Mask, choice(Mask)] = setting("none", description="Hide in mail addresses: none, local (before the @) or full.")


class Root(Section):
    """The top level. `providers` is checked provider by provider, each by its own type."""

    version: kinds.Version = setting(1, description="Version of this file's format.")
    hostname: kinds.Hostname = setting(
        "",
        examples=["relay.example.com"],
        description="Name of this host in Received, EHLO and bounces; by default the system's.",
    )
    listen: tuple[ListenConfig, ...] = setting(({"name": "local", "address": "127.0.0.1:25"},), description="Where clients hand in mail.")
    providers: dict[kinds.Name, ProviderConfig] = Field(examples=[{}], description="Accounts that carry mail, by name; at least one.")
    routes: tuple[RouteConfig, ...] = setting(
        (), description="Which mail goes by which provider; with a single provider it may be left out."
    )
    senders: SendersConfig = setting(SendersConfig(), description="Which senders may use relay.")
    queue: QueueConfig = setting(QueueConfig(), description="The spool and its times.")
    bounce: BounceConfig = setting(BounceConfig(), description="The messages relay sends back.")
    admin: AdminConfig = setting(AdminConfig(), description="The admin API.")
    log: LogConfig = setting(LogConfig(), description="The log, written to standard error or the journal.")
    tests: tuple[CaseConfig, ...] = setting((), description="Mails, and which route and provider is expected of each; run by relay check.")


LATER: Mapping[type[Section], frozenset[str]] = {
    Root: frozenset(),
    ListenConfig: frozenset(),
    SmtpProvider: frozenset(),
    SesProvider: frozenset(),
    PostmarkProvider: frozenset(),
    MailtrapProvider: frozenset(),
    PauboxProvider: frozenset(),
    LowCodeProvider: frozenset(),
    CaptureProvider: frozenset(),
    LimitsConfig: frozenset(),
    SesLimitsConfig: frozenset(),
    PostmarkLimitsConfig: frozenset(),
    MailtrapLimitsConfig: frozenset(),
    PauboxLimitsConfig: frozenset(),
    LowCodeLimitsConfig: frozenset(),
    BatchConfig: frozenset(),
    PauboxBatchConfig: frozenset(),
    MatchConfig: frozenset(),
    NotConfig: frozenset(),
    RouteConfig: frozenset(),
    RampConfig: frozenset(),
    StepBackConfig: frozenset(),
    CaseConfig: frozenset(),
    SendersConfig: frozenset(),
    QueueConfig: frozenset({"maildrop"}),
    BounceConfig: frozenset(),
    AdminConfig: frozenset(),
    LogConfig: frozenset(),
}
"""Keys of the format that this release does not have; they are refused, and the refusal says so."""

_NO_REQUESTS = "by SMTP each mail is a transaction of its own"
_NO_API = "a smarthost is spoken to by SMTP"
_NO_SMTP = "LowCodeAPI has a REST API only"
_ONE_REQUEST = "Amazon SES takes one message in a request, unless it is a template"
_HERE = "mail is kept on this host: nothing is waited for"

NEVER: Mapping[type[Section], Mapping[str, str]] = {
    SmtpProvider: {
        "mode": _NO_API,
        "base_url": _NO_API,
        "on_loss": "by SMTP nothing of a message is lost",
        "batch": _NO_REQUESTS,
        "streams": "a smarthost has no streams",
    },
    LimitsConfig: {"size": "the smarthost itself says how much it takes"},
    SesProvider: {"batch": _ONE_REQUEST},
    LowCodeProvider: {
        **dict.fromkeys(("host", "port", "ca_file"), _NO_SMTP),
        "batch": _ONE_REQUEST,
        "region": "it belongs to the credential stored with LowCodeAPI",
    },
    PauboxProvider: {"streams": "Paubox has no streams"},
    CaptureProvider: dict.fromkeys(("limits", "timeout", "unknown_outcome", "mode", "batch", "on_loss"), _HERE),
}
"""Keys that other providers have and these never will, and why."""
