"""Providers in the configuration: each type's keys, what may surprise, and what must be installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import botocore.session  # type: ignore[import-untyped] # it has no stubs
import pytest

from relay import config
from relay.config import aws
from relay.config.providers import PROVIDERS
from relay.errors import ConfigError
from tests.configs import HOSTNAME, POSTMARK, headlines_of, problems_of, warnings_of, written
from tests.servers import ca_file

KEYS = "access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: fake-secret-0000"


def provider(directory: Path, name: str, keys: str) -> Path:
    """A configuration with this provider alone."""
    return written(directory, f"{HOSTNAME}providers:\n  {name}: {{{keys}}}\n")


GOOD = {
    "SES with keys": ("ses", f"region: eu-west-1, {KEYS}"),
    "SES with temporary keys": (
        "ses",
        "region: us-gov-west-1, access_key_id: ASIAFAKEFAKEFAKE0000, secret_access_key: fake-secret-0000, session_token: fake-token-0000",
    ),
    "SES with keys from elsewhere": ("ses", "region: eu-west-1"),
    "SES with a profile": ("ses", "region: eu-west-1, profile: mail, configuration_set: a_b-1"),
    "SES by SMTP": ("ses", f"region: eu-west-1, {KEYS}, mode: smtp, port: 2465"),
    "SES by SMTP with a password": ("ses", "region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKE0000, smtp_password: fake-0000, mode: smtp"),
    "SES by SMTP with another host": ("ses", f"region: eu-west-1, {KEYS}, mode: smtp, host: 127.0.0.1, port: 2526"),
    "Postmark by SMTP": ("postmark", "token: fake-token-0000, mode: smtp, port: 2525"),
    "Postmark by SMTP token": ("postmark", "smtp_access_key: fake-0000, smtp_secret_key: fake-0001, mode: smtp"),
    "Mailtrap": ("mailtrap", "mode: smtp, token: fake-token-0000, stream: bulk"),
    "Mailtrap's sandbox": ("mailtrap", "mode: smtp, stream: sandbox, username: 1a2b, password: fake-password"),
    "Paubox": ("paubox", "mode: smtp, api_key: fake-key-0000, port: 465"),
    "a smarthost with CRAM-MD5": ("smtp", "host: mail.example.net, username: u, password: fake, login: cram-md5"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_provider_is_taken_without_a_word(tmp_path: Path, name: str) -> None:
    """Every way into each provider has its keys."""
    kind, keys = GOOD[name]
    assert [] == warnings_of(provider(tmp_path, kind, keys))


WARNED = {
    "an SMTP password as secret": (
        "ses",
        f"region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: B{'x' * 43}",
        "secret_access_key: this looks like an SMTP password (give the secret access key of IAM; with mode: smtp it is smtp_password)",
    ),
    "a region nobody knows": (
        "ses",
        f"region: eu-wset-1, {KEYS}",
        'region: "eu-wset-1" is not a region of SES that relay knows of (did you mean "eu-west-1"?)',
    ),
    "a temporary key without its token": (
        "ses",
        "region: eu-west-1, access_key_id: ASIAFAKEFAKEFAKE0000, secret_access_key: fake-secret-0000",
        "access_key_id: begins with ASIA: a temporary key, which needs its session_token",
    ),
    "a key of the other door": ("ses", f"region: eu-west-1, {KEYS}, port: 25", "port: not used with mode: api"),
    "an SMTP password for the API": ("ses", f"region: eu-west-1, {KEYS}, smtp_password: x", "smtp_password: not used with mode: api"),
    "a URL for SMTP": (
        "postmark",
        "token: fake, mode: smtp, base_url: 'https://api.example.com'",
        "base_url: not used with mode: smtp",
    ),
    "two logins": (
        "postmark",
        "token: fake, mode: smtp, smtp_access_key: fake, smtp_secret_key: fake",
        "token: not used: smtp_access_key logs in",
    ),
    "a door that is not there": (
        "postmark",
        "token: fake, mode: smtp, port: 465",
        "port: this provider takes mail on 25, 587, 2525, as far as relay knows",
    ),
    "too many connections": (
        "mailtrap",
        "mode: smtp, token: fake, limits: {concurrency: 11}",
        "limits.concurrency: Mailtrap takes 10 connections of an account, and relay opens no more",
    ),
    "a login of nobody": ("smtp", "host: mail.example.net, login: plain", "login: not used: without a username relay does not log in"),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_may_surprise_is_warned_about(tmp_path: Path, name: str) -> None:
    """Allowed, but seldom meant; and no secret is shown."""
    kind, keys, warning = WARNED[name]
    assert [f"providers.{kind}.{warning}"] == warnings_of(provider(tmp_path, kind, keys))


def test_keys_from_elsewhere_need_botocore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys in the file and without the extra nothing could be signed; with keys the base install is enough."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (found,) = problems_of(provider(tmp_path, "ses", "region: eu-west-1, profile: mail"))
    assert "providers.ses.access_key_id: without keys here they are looked for with botocore, which is not installed" in found
    assert f"= {sys.executable} -m pip install botocore, or give access_key_id and secret_access_key" in found
    assert [] == warnings_of(provider(tmp_path, "ses", f"region: eu-west-1, {KEYS}"))


def test_mistakes_of_several_keys_are_told_once_each(tmp_path: Path) -> None:
    """A key that could not be read counts as given, so that nothing false is said of its neighbours."""
    keys = "region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: [x], mode: smpt"
    assert [
        "3:84: providers.ses.secret_access_key: expected text, not a list",
        '3:95: providers.ses.mode: "smpt" is not known here (known: api, smtp)',
    ] == headlines_of(provider(tmp_path, "ses", keys))
    assert ['3:34: providers.mailtrap.stream: "x" is not known here (known: transactional, bulk, sandbox)'] == headlines_of(
        provider(tmp_path, "mailtrap", "mode: smtp, stream: x")
    )


def test_the_regions_are_those_of_botocore() -> None:
    """Each region that botocore knows for SES is one of ours, in all its partitions."""
    session = botocore.session.get_session()
    known = {region for partition in session.get_available_partitions() for region in session.get_available_regions("sesv2", partition)}
    assert set() == known - set(aws.REGIONS)
    assert all(aws.REGION.fullmatch(region) for region in aws.REGIONS)


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_bare_provider(kind: str) -> None:
    """One provider with stand-ins is a whole configuration, and what is in it is what a file would give."""
    made = config.bare(kind)
    assert ([kind], (kind,)) == (list(made.providers), made.route_table()[0].via)
    assert type(made.providers[kind]) is PROVIDERS[kind]
    assert set(made.secrets()) <= {"[secret]"}


def test_a_bare_provider_of_no_type() -> None:
    """A type that is not known is a mistake of usage."""
    with pytest.raises(ConfigError) as caught:
        config.bare("postmrk")
    assert (64, 'unknown provider type "postmrk"\n     = did you mean "postmark"?') == (caught.value.exit_code, str(caught.value))
    with pytest.raises(ConfigError, match="known: smtp, ses, postmark, mailtrap, paubox, capture"):
        config.bare("x")


def test_bounces_by_another_door_are_warned_about(tmp_path: Path) -> None:
    """What a route keeps to one provider would leave by another, as a bounce."""
    cafile = ca_file(tmp_path)
    text = f"""{HOSTNAME}
providers:
  paubox: {{mode: smtp, api_key: fake-key-0000, ca_file: {cafile}}}
  smarthost: {{type: smtp, host: mail.example.net}}
  postmark: {{token: fake-token-0000}}
routes:
  - {{name: patients, match: {{from: "*@clinic.example.com"}}, via: paubox}}
  - {{name: rest, via: [postmark, smarthost]}}
"""
    warning = 'bounce.via: "smarthost" is not in the via of patients: bounces of their mail, with its header, leave by it'
    assert [warning] == warnings_of(written(tmp_path, text + "bounce: {via: smarthost}\n"))
    assert [] == warnings_of(written(tmp_path, text + "bounce: {via: null, postmaster: null}\n"))


def test_a_provider_of_bounces_alone_is_used(tmp_path: Path) -> None:
    """`bounce.via` uses a provider; one that captures keeps bounces here, and says so."""
    text = f"{HOSTNAME}{POSTMARK.replace('}}', '}, c: {type: capture}}')}routes: [{{name: a, via: postmark}}]\nbounce: {{via: c}}\n"
    assert [
        'bounce.via: "c" is of type capture: what goes there does not leave this host',
        'bounce.via: "c" is not in the via of a: bounces of their mail, with its header, leave by it',
    ] == warnings_of(written(tmp_path, text))


def test_a_delay_nobody_is_told_of_is_warned_about(tmp_path: Path) -> None:
    """A warning after the end comes never; the default says nothing when mail expires early."""
    text = HOSTNAME + POSTMARK + "queue: {expire: 2h}\n"
    assert [] == warnings_of(written(tmp_path, text))
    assert ["bounce.delay_warning: not before queue.expire: nobody will be told of a delay"] == warnings_of(
        written(tmp_path, text + "bounce: {delay_warning: 2h}\n")
    )


def test_a_password_made_of_a_secret_is_a_secret(tmp_path: Path) -> None:
    """The log does not show what relay logs in with, made by it or not."""
    keys = "region: eu-central-1, access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: some+secret+key"
    made = "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2"  # hashicorp/terraform-provider-aws, access_key_test.go
    path = provider(tmp_path, "ses", f"{keys}, mode: smtp")
    assert ("some+secret+key", made) == config.load(path, environ={}).secrets()
    assert ("some+secret+key",) == config.load(provider(tmp_path, "ses", keys), environ={}).secrets()


@pytest.mark.parametrize("written_as", ["$POSTMARK_TOKEN", "%POSTMARK_TOKEN%", "{{postmark_token}}"])
def test_the_name_of_a_variable_is_no_secret(tmp_path: Path, written_as: str) -> None:
    """What a shell or a template would have replaced is taken as it stands, and warned about."""
    path = written(tmp_path, f"{HOSTNAME}providers: {{postmark: {{token: '{written_as}'}}}}\n")
    text = "looks like a variable of a shell or a template, and is taken as the secret itself (${env:NAME} is its value)"
    assert [f"providers.postmark.token: {text}"] == warnings_of(path)
