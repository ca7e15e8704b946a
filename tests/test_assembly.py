"""From configurations to parts: every key reaches what it is for, and equal configurations make equal settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay import assembly, config
from relay.config import Config
from relay.transports.capture import Capture
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.presets import ses_smtp_password
from relay.transports.ses import Ses, SesSettings
from relay.transports.smtp import Smtp, SmtpSettings
from relay.users import UsersError, set_password

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PROVIDERS = f"""
providers:
  a: {{type: smtp, host: mail.example.net, username: u, password: "${{env:PASSWORD}}", login: cram-md5}}
  b: {{type: postmark, token: fake-server-token, unknown_outcome: hold}}
  c: {{type: capture}}
  ses: {{region: eu-west-1, access_key_id: AKIDEXAMPLE0123456789, secret_access_key: "{SECRET}", configuration_set: mail,
    limits: {{concurrency: 3}}}}
  ses-smtp: {{type: ses, mode: smtp, region: us-east-1, access_key_id: AKIDEXAMPLE0123456789, secret_access_key: "{SECRET}", port: 465}}
  news: {{type: postmark, mode: smtp, token: fake-server-token, stream: news, host: smtp-broadcasts.postmarkapp.com}}
  keys: {{type: postmark, mode: smtp, smtp_access_key: fake-access, smtp_secret_key: fake-secret}}
  mailtrap: {{mode: smtp, token: fake-token, stream: bulk}}
  sandbox: {{type: mailtrap, mode: smtp, stream: sandbox, username: box, password: fake-password}}
  paubox: {{mode: smtp, api_key: fake-key, timeout: 5s}}
routes: [{{name: default, via: [a, b, c, ses, ses-smtp, news, keys, mailtrap, sandbox, paubox]}}]
bounce: {{from: bounces@example.com, to: postmaster, postmaster: admin@example.com, via: a, delay_warning: 2h}}
"""


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
    assert [Smtp, Postmark, Capture, Ses, Smtp, Smtp, Smtp, Smtp, Smtp, Smtp] == [type(transport) for transport in transports]
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
    assert {"local": ("ses", "postmark", "mailtrap", "relay")} == ses.controls == postmark.controls
    assert "fake-server-token" == postmark.token


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
    assert 8 <= len(secrets)
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
