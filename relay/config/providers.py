"""The configuration's providers: one section for each type, with every key, its default and one sentence on it.

Providers that are spoken to by SMTP know their host and their way to log in (relay/transports/presets.py); `host` and
`port` are for those who must go another way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from relay.config import kinds
from relay.config.kinds import choice
from relay.config.section import Section, setting

UnknownOutcome = Literal["retry", "hold"]
Tls = Literal["starttls", "implicit", "none"]
OnLoss = Literal["refuse", "warn"]
TrackLinks = Literal["None", "HtmlAndText", "HtmlOnly", "TextOnly"]
Login = Literal["auto", "plain", "login", "cram-md5"]
Mode = Literal["api", "smtp"]
Stream = Literal["transactional", "bulk", "sandbox"]


def _type(name: str) -> Any:
    return setting(name, description="Kind of provider; the provider's name by default.")


def _unknown_outcome() -> Any:
    return setting("retry", description="After an attempt without an answer: retry (the mail may arrive twice) or hold (an admin decides).")


def _limits(default: Section) -> Any:
    return setting(default, description="How much of the provider is used at once.")


def _ca_file() -> Any:
    return setting(None, examples=["/etc/relay/ca.pem"], description="Certificates to trust instead of the system's.")


def _ca_file_of_smtp() -> Any:
    return setting(None, examples=["/etc/relay/ca.pem"], description="With mode: smtp, certificates to trust instead of the system's.")


def _host(example: str) -> Any:
    return setting(None, examples=[example], description="With mode: smtp, another host than the provider's own.")


def _port() -> Any:
    return setting(587, description="With mode: smtp, the port; TLS is implicit on 465 and 2465, by STARTTLS on all others.")


def _mode() -> Any:
    return setting("api", description="api (its REST API) or smtp (its SMTP door).")


def _smtp_only(provider: str) -> Any:
    return Field(
        examples=["smtp"],
        description="smtp, which must be said: the REST API of this provider is not built yet.",
        json_schema_extra={"missing": f"the REST API of {provider} is not built yet"},
    )


def _timeout_of_reply() -> Any:
    return setting("60s", description="Longest wait for one reply.")


def _timeout_of_request() -> Any:
    return setting("60s", description="Longest time for one request, or with mode: smtp for one reply.")


def _not_built(provider: str) -> Any:
    def said(word: str) -> tuple[str, str] | None:
        return (f"the REST API of {provider} is not built yet", "set mode: smtp") if word in {"api", "auto"} else None

    return choice(Literal["smtp"], refused=said)


class LimitsConfig(Section):
    """How much of a provider is used at once."""

    concurrency: kinds.Concurrency = setting(20, description="Attempts under way at the same time.")


class PostmarkLimitsConfig(Section):
    """How much of Postmark is used at once."""

    concurrency: kinds.Concurrency = setting(10, description="Requests under way at the same time.")


class MailtrapLimitsConfig(Section):
    """How much of Mailtrap is used at once."""

    concurrency: kinds.Concurrency = setting(10, description="Connections at the same time; Mailtrap takes 10 of an account.")


class PauboxLimitsConfig(Section):
    """How much of Paubox is used at once."""

    concurrency: kinds.Concurrency = setting(10, description="Connections at the same time.")


class SmtpProvider(Section):
    """Any SMTP smarthost."""

    type: Annotated[Literal["smtp"], choice(Literal["smtp"])] = _type("smtp")
    host: kinds.Host = Field(examples=["mail.example.net"], description="Host name or IP address of the smarthost.")
    port: kinds.Port = setting(587, description="Port of the smarthost; with tls: implicit the default is 465.")
    tls: Annotated[Tls, choice(Tls)] = setting(
        "starttls", description="starttls (required, never skipped), implicit, or none (for this host, or without credentials)."
    )
    username: kinds.OptionalText = setting(None, examples=["relay"], description="Name to log in with; without it relay does not log in.")
    password: kinds.OptionalSecret = setting(None, examples=["${cred:smarthost}"], description="Password to log in with.")
    login: Annotated[Login, choice(Login)] = setting(
        "auto", description="How to log in: plain, login, cram-md5, or auto: the first of these that the smarthost offers."
    )
    ca_file: kinds.OptionalPath = _ca_file()
    timeout: kinds.PositiveDuration = _timeout_of_reply()
    limits: LimitsConfig = _limits(LimitsConfig())
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = _unknown_outcome()

    @model_validator(mode="before")
    @classmethod
    def _port_by_tls(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tls") == "implicit":
            return {"port": 465, **data}
        return data


class SesProvider(Section):
    """Amazon SES."""

    type: Annotated[Literal["ses"], choice(Literal["ses"])] = _type("ses")
    region: kinds.Region = Field(examples=["eu-west-1"], description="AWS region whose SES is used.")
    access_key_id: kinds.OptionalKeyId = setting(
        None,
        examples=["${env:AWS_ACCESS_KEY_ID}"],
        description="Access key ID; without it the usual places of AWS are looked at (extra aws).",
    )
    secret_access_key: kinds.OptionalToken = setting(
        None, examples=["${env:AWS_SECRET_ACCESS_KEY}"], description="Secret access key that belongs to access_key_id."
    )
    session_token: kinds.OptionalToken = setting(
        None, examples=["${env:AWS_SESSION_TOKEN}"], description="Session token of temporary keys; with mode: api only."
    )
    profile: kinds.OptionalText = setting(
        None, examples=["mail"], description="Profile in the files of the AWS command line, instead of keys (extra aws)."
    )
    smtp_password: kinds.OptionalToken = setting(
        None,
        examples=["${cred:ses-smtp}"],
        description="With mode: smtp, an SMTP password made by AWS; without it relay makes it from secret_access_key.",
    )
    configuration_set: kinds.OptionalConfigurationSet = setting(
        None, examples=["transactional"], description="Configuration set for mail that names none."
    )
    identity_arn: kinds.OptionalIdentityArn = setting(
        None,
        examples=["arn:aws:ses:eu-west-1:123456789012:identity/example.com"],
        description="Identity of another account that lets this one send (sending authorization).",
    )
    mode: Annotated[Mode, choice(Mode, later=("auto",))] = _mode()
    base_url: kinds.OptionalBaseUrl = setting(
        None, examples=["https://email.eu-west-1.amazonaws.com"], description="Where the API is; by default the region's."
    )
    host: kinds.OptionalHost = _host("email-smtp.eu-west-1.amazonaws.com")
    port: kinds.Port = _port()
    ca_file: kinds.OptionalPath = _ca_file_of_smtp()
    timeout: kinds.PositiveDuration = _timeout_of_request()
    limits: LimitsConfig = _limits(LimitsConfig())
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = _unknown_outcome()


class PostmarkProvider(Section):
    """Postmark."""

    type: Annotated[Literal["postmark"], choice(Literal["postmark"])] = _type("postmark")
    token: kinds.OptionalToken = setting(
        None,
        examples=["${env:POSTMARK_TOKEN}"],
        description="Server API token (Servers > API Tokens); with mode: smtp an SMTP token may stand in its place.",
    )
    smtp_access_key: kinds.OptionalToken = setting(
        None, examples=["${cred:postmark-access}"], description="With mode: smtp, access key of an SMTP token."
    )
    smtp_secret_key: kinds.OptionalToken = setting(
        None, examples=["${cred:postmark-secret}"], description="With mode: smtp, secret key of the SMTP token."
    )
    stream: kinds.Name = setting("outbound", description="Message stream for mail that names none.")
    mode: Annotated[Mode, choice(Mode, later=("auto",))] = _mode()
    base_url: kinds.BaseUrl = setting("https://api.postmarkapp.com", description="Where the API is; https, or http on this host.")
    host: kinds.OptionalHost = _host("smtp-broadcasts.postmarkapp.com")
    port: kinds.Port = _port()
    ca_file: kinds.OptionalPath = _ca_file_of_smtp()
    on_loss: Annotated[OnLoss, choice(OnLoss)] = setting(
        "refuse", description="When the API cannot carry a part of a message: refuse it, or warn and send the rest."
    )
    track_opens: kinds.OptionalFlag = setting(
        None, examples=[False], description="Open tracking; without it the server's own setting holds."
    )
    track_links: Annotated[TrackLinks | None, choice(TrackLinks)] = setting(
        None, examples=["None"], description="Link tracking: None, HtmlAndText, HtmlOnly or TextOnly."
    )
    timeout: kinds.PositiveDuration = _timeout_of_request()
    limits: PostmarkLimitsConfig = _limits(PostmarkLimitsConfig())
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = _unknown_outcome()


class MailtrapProvider(Section):
    """Mailtrap, by SMTP."""

    type: Annotated[Literal["mailtrap"], choice(Literal["mailtrap"])] = _type("mailtrap")
    mode: Annotated[Literal["smtp"], _not_built("Mailtrap")] = _smtp_only("Mailtrap")
    stream: Annotated[Stream, choice(Stream)] = setting("transactional", description="transactional, bulk or sandbox.")
    token: kinds.OptionalToken = setting(
        None, examples=["${env:MAILTRAP_TOKEN}"], description="API token; for the streams transactional and bulk."
    )
    username: kinds.OptionalText = setting(None, examples=["1a2b3c4d5e6f7a"], description="Name of the sandbox's SMTP login.")
    password: kinds.OptionalSecret = setting(None, examples=["${cred:mailtrap}"], description="Password of the sandbox's SMTP login.")
    host: kinds.OptionalHost = setting(None, examples=["live.smtp.mailtrap.io"], description="Another host than the one of the stream.")
    port: kinds.Port = setting(587, description="Port; TLS is implicit on 465, by STARTTLS on all others.")
    ca_file: kinds.OptionalPath = _ca_file()
    timeout: kinds.PositiveDuration = _timeout_of_reply()
    limits: MailtrapLimitsConfig = _limits(MailtrapLimitsConfig())
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = _unknown_outcome()


class PauboxProvider(Section):
    """Paubox, by SMTP."""

    type: Annotated[Literal["paubox"], choice(Literal["paubox"])] = _type("paubox")
    mode: Annotated[Literal["smtp"], _not_built("Paubox")] = _smtp_only("Paubox")
    api_key: kinds.Token = Field(examples=["${env:PAUBOX_API_KEY}"], description="API key of the Paubox account.")
    host: kinds.Host = setting("smtp.paubox.com", description="Where Paubox takes mail by SMTP.")
    port: kinds.Port = setting(587, description="Port; TLS is implicit on 465, by STARTTLS on all others.")
    ca_file: kinds.OptionalPath = _ca_file()
    timeout: kinds.PositiveDuration = _timeout_of_reply()
    limits: PauboxLimitsConfig = _limits(PauboxLimitsConfig())
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = _unknown_outcome()


class CaptureProvider(Section):
    """Keeps mail in a directory; nothing leaves this host."""

    type: Annotated[Literal["capture"], choice(Literal["capture"])] = _type("capture")
    directory: kinds.AbsolutePath = setting(  # filled in when left out
        None,
        examples=["/var/lib/relay/capture"],
        description="Where mail is kept; by default capture/NAME in the spool's directory.",
    )


ProviderConfig = SmtpProvider | SesProvider | PostmarkProvider | MailtrapProvider | PauboxProvider | CaptureProvider
PROVIDERS: Mapping[str, type[ProviderConfig]] = {
    "smtp": SmtpProvider,
    "ses": SesProvider,
    "postmark": PostmarkProvider,
    "mailtrap": MailtrapProvider,
    "paubox": PauboxProvider,
    "capture": CaptureProvider,
}
