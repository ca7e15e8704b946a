"""From configurations to parts: every key reaches what it is for, and equal configurations make equal settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay import assembly, config
from relay.assembly import AutoSettings
from relay.config import Config
from relay.config.providers import PROVIDERS as PROVIDER_TYPES
from relay.transports.auto import Auto
from relay.transports.base import ALONE, Batching
from relay.transports.capture import Capture
from relay.transports.lowcodeapi import LowCode, LowCodeSettings
from relay.transports.mailtrap import Mailtrap, MailtrapSettings
from relay.transports.paubox import Paubox, PauboxSettings
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.presets import ses_smtp_password
from relay.transports.ses import Ses, SesSettings
from relay.transports.smtp import Smtp, SmtpSettings
from relay.users import UsersError, set_password

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PROVIDERS = f"""
providers:
  a: {{type: smtp, host: mail.example.net, username: u, password: "${{env:PASSWORD}}", login: cram-md5}}
  b: {{type: postmark, mode: api, token: fake-server-token, unknown_outcome: hold, on_loss: warn, streams: {{first: second}},
    track_opens: false, track_links: HtmlOnly, batch: {{max: 3, wait: 2s}}, limits: {{size: 1MB, concurrency: 4}}}}
  c: {{type: capture}}
  ses: {{region: eu-west-1, access_key_id: AKIDEXAMPLE0123456789, secret_access_key: "{SECRET}", configuration_set: mail,
    limits: {{concurrency: 3, size: 2MB}}, tenant: clinic, content_mode: simple, on_loss: warn, fips: true, dual_stack: true,
    streams: {{first: second}}}}
  ses-smtp: {{type: ses, mode: smtp, region: us-east-1, access_key_id: AKIDEXAMPLE0123456789, secret_access_key: "{SECRET}", port: 465}}
  news: {{type: postmark, mode: smtp, token: fake-server-token, stream: news, host: smtp-broadcasts.postmarkapp.com}}
  keys: {{type: postmark, mode: smtp, smtp_access_key: fake-access, smtp_secret_key: fake-secret}}
  mailtrap: {{mode: smtp, token: fake-token, stream: bulk, streams: {{first: bulk}}, limits: {{size: 3MB}}}}
  sandbox: {{type: mailtrap, mode: smtp, stream: sandbox, username: box, password: fake-password}}
  paubox: {{mode: smtp, api_key: fake-key, timeout: 5s}}
  both: {{type: postmark, token: fake-both-token, on_loss: warn, port: 2525}}
  live: {{type: mailtrap, mode: api, token: fake-live-token, stream: bulk, streams: {{first: transactional}}, on_loss: warn,
    batch: {{max: 20}}, limits: {{size: 4MB}}, timeout: 7s}}
  box: {{type: mailtrap, token: fake-box-token, stream: sandbox, sandbox_id: 123, base_url: "http://127.0.0.1:9"}}
  clinic: {{type: paubox, mode: api, api_key: fake-clinic-key, username: clinic, auth_scheme: bearer, on_loss: warn, allow_non_tls: true,
    force_secure_notification: true, track_opens: true, track_links: false, html: plain, batch: {{max: 5}}, limits: {{size: 6MB}}}}
  lowcodeapi: {{token: at_fake-lowcode-token, content_mode: simple, on_loss: warn, limits: {{size: 5MB}}, timeout: 9s,
    configuration_set: shop, tenant: t, streams: {{first: second}},
    identity_arn: "arn:aws:ses:eu-west-1:123456789012:identity/example.com"}}
routes: [{{name: default, via: [a, b, c, ses, ses-smtp, news, keys, mailtrap, sandbox, paubox, both, live, box, clinic, lowcodeapi]}}]
bounce: {{from: bounces@example.com, to: postmaster, postmaster: admin@example.com, via: a, delay_warning: 2h}}
"""


CONTROLS = {"local": ("ses", "postmark", "mailtrap", "relay")}


def configuration(directory: Path, text: str) -> Config:
    """The configuration of this text."""
    path = directory / "relay.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return config.load(path, environ={"PASSWORD": "not-a-real-password"})


@pytest.fixture
def everything(tmp_path: Path) -> Config:
    """One provider of each kind."""
    return configuration(tmp_path, PROVIDERS)


def test_every_kind_of_provider_gets_its_transport(everything: Config) -> None:
    """By its type and mode, under its configured name."""
    transports = [assembly.transport_for(name, provider, everything) for name, provider in everything.providers.items()]
    by_smtp = [Smtp] * 6
    assert [Smtp, Postmark, Capture, Ses, *by_smtp, Auto, Mailtrap, Mailtrap, Paubox, LowCode] == [type(made) for made in transports]
    assert list(everything.providers) == [transport.provider for transport in transports]


def test_the_keys_of_a_smarthost_reach_its_transport(everything: Config) -> None:
    """Host, login and secret."""
    told = assembly.all_transport_settings(everything)["a"]
    assert isinstance(told, SmtpSettings)
    assert ("mail.example.net", 587, "u", "not-a-real-password", "cram-md5", 20) == (
        *(told.host, told.port, told.username),
        *(told.password, told.login, told.concurrency),
    )


def test_the_keys_of_an_api_reach_its_transport(everything: Config) -> None:
    """Region, keys, configuration set, limits; and which listener obeys which control headers."""
    told = assembly.all_transport_settings(everything)
    ses, postmark = told["ses"], told["b"]
    assert isinstance(ses, SesSettings)
    assert isinstance(postmark, PostmarkSettings)
    assert ("eu-west-1", "AKIDEXAMPLE0123456789", SECRET, "mail", 3) == (
        *(ses.region, ses.access_key_id, ses.secret_access_key),
        *(ses.configuration_set, ses.concurrency),
    )
    assert ("clinic", "simple", "warn", True, True, 2_000_000) == (
        *(ses.tenant, ses.content_mode, ses.on_loss),
        *(ses.fips, ses.dual_stack, ses.max_size),
    )
    assert CONTROLS == ses.controls == postmark.controls
    assert {"first": "second"} == ses.streams == postmark.streams
    assert ("fake-server-token", "warn", False, "HtmlOnly", 4, 1_000_000) == (
        *(postmark.token, postmark.on_loss, postmark.track_opens),
        *(postmark.track_links, postmark.concurrency, postmark.max_size),
    )
    assert Batching(3, 50_000_000, 2.0) == postmark.batching


def test_the_keys_of_mailtrap_reach_its_transport(everything: Config) -> None:
    """Live and sandbox."""
    told = assembly.all_transport_settings(everything)
    live, box = told["live"], told["box"]
    expected = MailtrapSettings(
        provider="live",
        token="fake-live-token",
        stream="bulk",
        on_loss="warn",
        timeout=7.0,
        concurrency=10,
        batching=Batching(20, 50_000_000, 1.0),
        max_size=4_000_000,
        streams={"first": "transactional"},
        controls=CONTROLS,
    )
    assert expected == live
    assert isinstance(box, MailtrapSettings)
    assert ("fake-box-token", "sandbox", "123", "http://127.0.0.1:9") == (box.token, box.stream, box.sandbox_id, box.base_url)


def test_the_keys_of_paubox_reach_its_transport(everything: Config) -> None:
    """All of them; a batch is bounded by the size of a request, for nothing else is documented."""
    expected = PauboxSettings(
        provider="clinic",
        api_key="fake-clinic-key",
        username="clinic",
        auth_scheme="bearer",
        on_loss="warn",
        timeout=60.0,
        concurrency=10,
        allow_non_tls=True,
        force_secure_notification=True,
        track_opens=True,
        track_links=False,
        html="plain",
        batching=Batching(5, 6_000_000, 1.0),
        max_size=6_000_000,
        controls=CONTROLS,
    )
    assert expected == assembly.all_transport_settings(everything)["clinic"]


def test_the_keys_of_lowcodeapi_reach_its_transport(everything: Config) -> None:
    """All of them."""
    expected = LowCodeSettings(
        provider="lowcodeapi",
        token="at_fake-lowcode-token",
        content_mode="simple",
        on_loss="warn",
        configuration_set="shop",
        identity_arn="arn:aws:ses:eu-west-1:123456789012:identity/example.com",
        tenant="t",
        streams={"first": "second"},
        timeout=9.0,
        concurrency=1,
        max_size=5_000_000,
        controls=CONTROLS,
    )
    assert expected == assembly.all_transport_settings(everything)["lowcodeapi"]


def test_both_doors_of_a_provider_are_told_the_same(everything: Config) -> None:
    """The API of two doors drops nothing, whatever `on_loss` says: the other door carries it."""
    told = assembly.all_transport_settings(everything)["both"]
    assert isinstance(told, AutoSettings)
    api, smtp = told.api, told.smtp
    assert isinstance(api, PostmarkSettings)
    assert ("both", "fake-both-token", "refuse") == (api.provider, api.token, api.on_loss)
    assert ("both", "fake-both-token", "smtp.postmarkapp.com", 2525) == (smtp.provider, smtp.password, smtp.host, smtp.port)


def test_a_batch_of_one_is_none(tmp_path: Path) -> None:
    """Nobody waits for a batch that is switched off."""
    found = configuration(tmp_path, "providers: {postmark: {mode: api, token: fake-token, batch: {max: 1}}}\n")
    told = assembly.all_transport_settings(found)["postmark"]
    assert isinstance(told, PostmarkSettings)
    assert ALONE == told.batching


@pytest.mark.parametrize("kind", PROVIDER_TYPES)
def test_every_type_in_every_mode_makes_a_transport(kind: str) -> None:
    """With stand-ins, as `relay convert --mode` does; the ways of a provider that has only one are that one."""
    found = config.bare(kind)
    [provider] = found.providers.values()
    modes = ("auto", "api", "smtp") if "auto" in str(type(provider).model_fields.get("mode")) else (None,)
    for mode in modes:
        asked = provider.model_copy(update={"mode": mode}) if mode else provider
        assert kind == assembly.transport_for(kind, asked, found).provider


@pytest.mark.parametrize(
    ("name", "host", "port", "tls", "username", "password"),
    [
        (
            "ses-smtp",
            "email-smtp.us-east-1.amazonaws.com",
            465,
            "implicit",
            "AKIDEXAMPLE0123456789",
            ses_smtp_password(SECRET, "us-east-1"),
        ),
        ("news", "smtp-broadcasts.postmarkapp.com", 587, "starttls", "fake-server-token", "fake-server-token"),
        ("keys", "smtp.postmarkapp.com", 587, "starttls", "fake-access", "fake-secret"),
        ("mailtrap", "bulk.smtp.mailtrap.io", 587, "starttls", "api", "fake-token"),
        ("sandbox", "sandbox.smtp.mailtrap.io", 587, "starttls", "box", "fake-password"),
        ("paubox", "smtp.paubox.com", 587, "starttls", "apikey", "fake-key"),
    ],
)
def test_a_provider_by_smtp_needs_no_host_and_no_login_rule(
    everything: Config, name: str, host: str, port: int, tls: str, username: str, password: str
) -> None:
    """The preset knows them."""
    told = assembly.all_transport_settings(everything)[name]
    assert isinstance(told, SmtpSettings)
    assert (host, port, tls, username, password) == (told.host, told.port, told.tls, told.username, told.password)
    assert "bounces@example.com" == told.bounce_from


def test_limits_and_streams_hold_by_smtp_too(everything: Config) -> None:
    """What the file says of an account holds for both of its doors."""
    told = assembly.all_transport_settings(everything)["mailtrap"]
    assert isinstance(told, SmtpSettings)
    assert ({"first": "bulk"}, 3_000_000) == (told.streams, told.max_size)


def test_what_delivery_is_told(everything: Config) -> None:
    """Everything below queue and bounce, and who holds what it does not know."""
    told = assembly.delivery_settings(everything)
    assert frozenset({"b"}) == told.hold_unknown
    assert ("bounces@example.com", "postmaster", "admin@example.com", "a", 7200.0) == (
        *(told.bounce_from, told.bounce_to, told.postmaster),
        *(told.bounce_via, told.delay_warning),
    )


def test_what_a_listener_is_told(tmp_path: Path) -> None:
    """Networks and senders; a listener without files has neither certificate nor users."""
    found = configuration(
        tmp_path,
        "listen: [{name: lan, address: '127.0.0.1:0', allow: 127.0.0.0/8, max_size: 5MB}]\nproviders: {c: {type: capture}}\n"
        'senders: {allow: "*@example.com"}\n',
    )
    [told] = assembly.listener_settings(found)
    assert ("lan", 5_000_000, "off", None, None, ("*@example.com",)) == (
        *(told.name, told.max_size, told.tls),
        *(told.certificate, told.users, told.senders),
    )
    assert ["127.0.0.0/8"] == [str(network) for network in told.allow]


def test_an_unchanged_file_changes_no_transport(tmp_path: Path, everything: Config) -> None:
    """Settings are compared, so that a reload leaves alone what did not change."""
    again = configuration(tmp_path, PROVIDERS.replace("fake-key", "another-fake-key"))
    old, new = assembly.all_transport_settings(everything), assembly.all_transport_settings(again)
    assert ["paubox"] == [name for name in old if old[name] != new[name]]


def test_no_secret_is_shown(everything: Config) -> None:
    """Settings may be printed."""
    shown = repr(assembly.all_transport_settings(everything))
    secrets = everything.secrets()
    assert 12 <= len(secrets)
    assert [] == [secret for secret in secrets if secret in shown]


def test_listeners_share_the_users_of_one_file(tmp_path: Path) -> None:
    """Also with those from before a reload, so that nobody's login is forgotten; a wrong file is still told."""
    set_password(tmp_path / "users", "app1", "not-a-real-password")
    text = (
        f'listen: [{{name: a, address: "127.0.0.1:0", auth: "{tmp_path}/users"}},\n'
        f'  {{name: b, address: "[::1]:0", auth: "{tmp_path}/users"}}]\n'
        "providers: {c: {type: capture}}\n"
    )
    found = configuration(tmp_path, text)
    first, second = assembly.listener_settings(found)
    assert first.users is second.users
    assert [first.users, first.users] == [item.users for item in assembly.listener_settings(found, (first, second))]
    (tmp_path / "users").write_text("nonsense\n")
    with pytest.raises(UsersError):
        assembly.listener_settings(found, (first, second))
