"""The configuration's providers: one section for each type, with every key, its default and one sentence on it.

Providers know where their API and their SMTP door are, and how to log in there; `base_url`, `host` and `port` are for those
who must go another way. What `mode: auto` makes of them is in relay/config/modes.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from relay.config import kinds
from relay.config.kinds import choice
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
from relay.config.section import Section, setting

UnknownOutcome = Literal["retry", "hold"]
Tls = Literal["starttls", "implicit", "none"]
OnLoss = Literal["refuse", "warn"]
TrackLinks = Literal["None", "HtmlAndText", "HtmlOnly", "TextOnly"]
Login = Literal["auto", "plain", "login", "cram-md5"]
Mode = Literal["auto", "api", "smtp"]
Stream = Literal["transactional", "bulk", "sandbox"]
LiveStream = Literal["transactional", "bulk"]
ContentMode = Literal["raw", "simple"]
AutoContentMode = Literal["auto", "raw", "simple"]
AuthScheme = Literal["token", "bearer"]
Html = Literal["base64", "plain"]


def _type(name: str) -> Any:
    return setting(name, description="Kind of provider; the provider's name by default.")


def _unknown_outcome() -> Any:
    return setting("retry", description="After an attempt without an answer: retry (the mail may arrive twice) or hold (an admin decides).")


def _limits(default: Section) -> Any:
    return setting(default, description="How much of the provider is used.")


def _ca_file() -> Any:
    return setting(None, examples=["/etc/relay/ca.pem"], description="Certificates to trust instead of the system's.")


def _ca_file_of_smtp() -> Any:
    return setting(None, examples=["/etc/relay/ca.pem"], description="By SMTP, certificates to trust instead of the system's.")


def _host(example: str) -> Any:
    return setting(None, examples=[example], description="By SMTP, another host than the provider's own.")


def _port() -> Any:
    return setting(587, description="By SMTP, the port; TLS is implicit on 465 and 2465, by STARTTLS on all others.")


def _mode() -> Any:
    return setting(
        "auto",
        description="auto (the REST API, and SMTP for what the API cannot carry whole), api (the REST API alone) or smtp (SMTP alone).",
    )


def _on_loss() -> Any:
    return setting("refuse", description="When the API cannot carry a part of a message: refuse it, or warn and send the rest.")


def _batch(default: Section) -> Any:
    return setting(default, description="Messages that go to the API in one request.")


def _streams(what: str, example: Mapping[str, str]) -> Any:
    return setting({}, examples=[example], description=f"What a mail asks for in another provider's words, and the {what} it gets.")


def _configuration_set() -> Any:
    return setting(None, examples=["transactional"], description="Configuration set for mail that names none.")


def _identity_arn() -> Any:
    return setting(
        None,
        examples=["arn:aws:ses:eu-west-1:123456789012:identity/example.com"],
        description="Identity of another account that lets this one send (sending authorization).",
    )


def _tenant() -> Any:
    return setting(None, examples=["clinic"], description="Tenant for mail that names none.")


def _timeout_of_reply() -> Any:
    return setting("60s", description="Longest wait for one reply.")


def _timeout_of_request() -> Any:
    return setting("60s", description="Longest time for one request, or by SMTP for one reply.")


def _refused_scheme(word: str) -> tuple[str, str]:
    """The word is not quoted: the whole header field, with the key in it, may have been written."""
    return "is not known here (known: token, bearer)", "write auth_scheme: token, and the key under api_key"


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
        None, examples=["${env:AWS_SESSION_TOKEN}"], description="Session token of temporary keys; not with mode: smtp."
    )
    profile: kinds.OptionalText = setting(
        None, examples=["mail"], description="Profile in the files of the AWS command line, instead of keys (extra aws)."
    )
    smtp_password: kinds.OptionalToken = setting(
        None,
        examples=["${cred:ses-smtp}"],
        description="With mode: smtp, an SMTP password made by AWS; without it relay makes it from secret_access_key.",
    )
    configuration_set: kinds.OptionalConfigurationSet = _configuration_set()
    identity_arn: kinds.OptionalIdentityArn = _identity_arn()
    tenant: kinds.OptionalTenant = _tenant()
    streams: dict[kinds.Asked, kinds.ConfigurationSet] = _streams("configuration set", {"broadcast": "newsletters"})
    mode: Annotated[Mode, choice(Mode)] = setting(
        "auto", description="auto or api (the REST API, which takes every message as it is), or smtp."
    )
    content_mode: Annotated[ContentMode, choice(ContentMode)] = setting(
        "raw", description="By the API, raw (the message as it is) or simple (taken apart where nothing that matters changes, else raw)."
    )
    base_url: kinds.OptionalBaseUrl = setting(
        None, examples=["https://email.eu-west-1.amazonaws.com"], description="Where the API is; by default the region's."
    )
    fips: kinds.Flag = setting(False, description="Use the region's API endpoint that is validated by FIPS 140.")
    dual_stack: kinds.Flag = setting(False, description="Use the region's API endpoint that is reached by IPv6 too.")
    host: kinds.OptionalHost = _host("email-smtp.eu-west-1.amazonaws.com")
    port: kinds.Port = _port()
    ca_file: kinds.OptionalPath = _ca_file_of_smtp()
    on_loss: Annotated[OnLoss, choice(OnLoss)] = _on_loss()
    timeout: kinds.PositiveDuration = _timeout_of_request()
    limits: SesLimitsConfig = _limits(SesLimitsConfig())
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
        None, examples=["${cred:postmark-access}"], description="By SMTP, access key of an SMTP token."
    )
    smtp_secret_key: kinds.OptionalToken = setting(
        None, examples=["${cred:postmark-secret}"], description="By SMTP, secret key of the SMTP token."
    )
    stream: kinds.Name = setting("outbound", description="Message stream for mail that names none.")
    streams: dict[kinds.Asked, kinds.Name] = _streams("message stream", {"bulk": "broadcast"})
    mode: Annotated[Mode, choice(Mode)] = _mode()
    base_url: kinds.BaseUrl = setting("https://api.postmarkapp.com", description="Where the API is; https, or http on this host.")
    host: kinds.OptionalHost = _host("smtp-broadcasts.postmarkapp.com")
    port: kinds.Port = _port()
    ca_file: kinds.OptionalPath = _ca_file_of_smtp()
    on_loss: Annotated[OnLoss, choice(OnLoss)] = _on_loss()
    track_opens: kinds.OptionalFlag = setting(
        None, examples=[False], description="Open tracking; without it the server's own setting holds."
    )
    track_links: Annotated[TrackLinks | None, choice(TrackLinks)] = setting(
        None, examples=["None"], description="Link tracking: None, HtmlAndText, HtmlOnly or TextOnly."
    )
    batch: BatchConfig = _batch(BatchConfig())
    timeout: kinds.PositiveDuration = _timeout_of_request()
    limits: PostmarkLimitsConfig = _limits(PostmarkLimitsConfig())
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = _unknown_outcome()


class MailtrapProvider(Section):
    """Mailtrap."""

    type: Annotated[Literal["mailtrap"], choice(Literal["mailtrap"])] = _type("mailtrap")
    token: kinds.OptionalToken = setting(
        None, examples=["${env:MAILTRAP_TOKEN}"], description="API token; by SMTP for the streams transactional and bulk."
    )
    stream: Annotated[Stream, choice(Stream)] = setting(
        "transactional", description="transactional, bulk or sandbox, which keeps the mail; for mail that names none."
    )
    sandbox_id: kinds.OptionalSandboxId = setting(
        None, examples=["1234567"], description="Number of the sandbox, for its API: the one in the URL of its page."
    )
    username: kinds.OptionalText = setting(None, examples=["1a2b3c4d5e6f7a"], description="Name of the sandbox's SMTP login.")
    password: kinds.OptionalSecret = setting(None, examples=["${cred:mailtrap}"], description="Password of the sandbox's SMTP login.")
    streams: dict[kinds.Asked, Annotated[LiveStream, choice(LiveStream)]] = _streams("stream (transactional or bulk)", {"news": "bulk"})
    mode: Annotated[Mode, choice(Mode)] = _mode()
    base_url: kinds.OptionalBaseUrl = setting(
        None, examples=["https://send.api.mailtrap.io"], description="Where the API is, for all streams; by default each stream's own host."
    )
    host: kinds.OptionalHost = _host("live.smtp.mailtrap.io")
    port: kinds.Port = _port()
    ca_file: kinds.OptionalPath = _ca_file_of_smtp()
    on_loss: Annotated[OnLoss, choice(OnLoss)] = _on_loss()
    batch: BatchConfig = _batch(BatchConfig())
    timeout: kinds.PositiveDuration = _timeout_of_request()
    limits: MailtrapLimitsConfig = _limits(MailtrapLimitsConfig())
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = _unknown_outcome()


class PauboxProvider(Section):
    """Paubox."""

    type: Annotated[Literal["paubox"], choice(Literal["paubox"])] = _type("paubox")
    api_key: kinds.PastedToken = Field(examples=["${env:PAUBOX_API_KEY}"], description="API key of the Paubox account.")
    username: kinds.OptionalApiUser = setting(
        None, examples=["clinic"], description="Name of the API endpoint, which takes the place of {username} in base_url."
    )
    mode: Annotated[Mode, choice(Mode)] = _mode()
    base_url: kinds.PauboxUrl = setting(
        "https://api.paubox.net/v1/{username}", description="Where the API is; https, or http on this host."
    )
    auth_scheme: Annotated[AuthScheme, choice(AuthScheme, refused=_refused_scheme)] = setting(
        "token", description="How the API key is said: token (Token token=KEY) or bearer (Bearer KEY)."
    )
    allow_non_tls: kinds.Flag = setting(
        False, description="By the API, let Paubox deliver in clear where a recipient's server has no TLS; otherwise it takes its portal."
    )
    force_secure_notification: kinds.Flag = setting(
        False, description="Have all mail fetched from Paubox's portal; such mail goes by the API only."
    )
    track_opens: kinds.OptionalFlag = setting(
        None, examples=[True], description="true switches open tracking on; otherwise the account's own setting holds."
    )
    track_links: kinds.OptionalFlag = setting(
        None, examples=[True], description="true switches link tracking on; otherwise the account's own setting holds."
    )
    html: Annotated[Html, choice(Html)] = setting("base64", description="How the API is given HTML: base64 or plain.")
    host: kinds.OptionalHost = _host("smtp.paubox.com")
    port: kinds.Port = _port()
    ca_file: kinds.OptionalPath = _ca_file_of_smtp()
    on_loss: Annotated[OnLoss, choice(OnLoss)] = _on_loss()
    batch: PauboxBatchConfig = _batch(PauboxBatchConfig())
    timeout: kinds.PositiveDuration = _timeout_of_request()
    limits: PauboxLimitsConfig = _limits(PauboxLimitsConfig())
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = _unknown_outcome()


def _refused_mode(word: str) -> tuple[str, str] | None:
    return ("LowCodeAPI has a REST API only (known: api)", "remove it") if word in {"auto", "smtp"} else None


class LowCodeProvider(Section):
    """Amazon SES by way of LowCodeAPI."""

    type: Annotated[Literal["lowcodeapi"], choice(Literal["lowcodeapi"])] = _type("lowcodeapi")
    token: kinds.Token = Field(examples=["${env:LOWCODEAPI_TOKEN}"], description="API token; it begins with at_.")
    mode: Annotated[Literal["api"], choice(Literal["api"], refused=_refused_mode)] = setting(
        "api", description="api: LowCodeAPI has a REST API only."
    )
    base_url: kinds.LowCodeUrl = setting(
        "https://api.lowcodeapi.com/awsses", description="Where the API is, without the token; https, or http on this host."
    )
    content_mode: Annotated[AutoContentMode, choice(AutoContentMode)] = setting(
        "auto", description="raw (the message as it is), simple (taken apart), or auto: simple where nothing is lost, else raw."
    )
    configuration_set: kinds.OptionalConfigurationSet = _configuration_set()
    identity_arn: kinds.OptionalIdentityArn = _identity_arn()
    tenant: kinds.OptionalTenant = _tenant()
    streams: dict[kinds.Asked, kinds.ConfigurationSet] = _streams("configuration set", {"broadcast": "newsletters"})
    on_loss: Annotated[OnLoss, choice(OnLoss)] = _on_loss()
    timeout: kinds.PositiveDuration = setting("60s", description="Longest time for one request.")
    limits: LowCodeLimitsConfig = _limits(LowCodeLimitsConfig())
    unknown_outcome: Annotated[UnknownOutcome, choice(UnknownOutcome)] = _unknown_outcome()


class CaptureProvider(Section):
    """Keeps mail in a directory; nothing leaves this host."""

    type: Annotated[Literal["capture"], choice(Literal["capture"])] = _type("capture")
    directory: kinds.AbsolutePath = setting(  # filled in when left out
        None,
        examples=["/var/lib/relay/capture"],
        description="Where mail is kept; by default capture/NAME in the spool's directory.",
    )


ProviderConfig = SmtpProvider | SesProvider | PostmarkProvider | MailtrapProvider | PauboxProvider | LowCodeProvider | CaptureProvider
PROVIDERS: Mapping[str, type[ProviderConfig]] = {
    "smtp": SmtpProvider,
    "ses": SesProvider,
    "postmark": PostmarkProvider,
    "mailtrap": MailtrapProvider,
    "paubox": PauboxProvider,
    "lowcodeapi": LowCodeProvider,
    "capture": CaptureProvider,
}
