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
    "SES with a tenant": ("ses", f"region: eu-west-1, {KEYS}, mode: auto, tenant: a-b_1, content_mode: simple, on_loss: warn"),
    "SES by FIPS": ("ses", f"region: us-east-1, {KEYS}, fips: true, dual_stack: true, limits: {{size: 40MiB}}"),
    "SES with streams": ("ses", f"region: eu-west-1, {KEYS}, streams: {{outbound: first, broadcast: second}}"),
    "Postmark by both doors": ("postmark", "token: fake-token-0000, smtp_access_key: fake-0000, smtp_secret_key: fake-0001, port: 2525"),
    "Postmark without batches": ("postmark", "token: fake-token-0000, mode: api, batch: {max: 1}, limits: {size: 1MB}, on_loss: warn"),
    "Postmark beside a mock of both doors": ("postmark", "token: fake-0000, base_url: 'http://127.0.0.1:1', host: 127.0.0.1, port: 2"),
    "Mailtrap": (
        "mailtrap",
        "token: fake-token-0000, streams: {broadcast: bulk}, batch: {max: 500, wait: 1.5s}, limits: {concurrency: 20}",
    ),
    "Mailtrap by SMTP": ("mailtrap", "mode: smtp, token: fake-token-0000, stream: bulk"),
    "Mailtrap with large mail": ("mailtrap", "token: fake-token-0000, limits: {size: 30MB}"),
    "Paubox": ("paubox", "api_key: fake-key-0000, username: clinic, html: plain, track_opens: true, track_links: true"),
    "Paubox elsewhere": ("paubox", "api_key: fake-key-0000, base_url: 'https://api.paubox.com/v1/email', auth_scheme: bearer"),
    "Paubox by its portal": ("paubox", "api_key: fake-key-0000, username: clinic, force_secure_notification: true"),
    "Paubox by SMTP": ("paubox", "mode: smtp, api_key: fake-key-0000, port: 465"),
    "LowCodeAPI": ("lowcodeapi", "token: at_fake-token-0000, mode: api, content_mode: simple, limits: {concurrency: 2}"),
    "LowCodeAPI with a set": ("lowcodeapi", "token: at_fake-token-0000, configuration_set: a, tenant: b, streams: {broadcast: news}"),
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
    "a key of the other door": ("ses", f"region: eu-west-1, {KEYS}, mode: api, port: 25", "port: not used with mode: api"),
    "an SMTP password for the API": (
        "ses",
        f"region: eu-west-1, {KEYS}, smtp_password: x",
        "smtp_password: not used with mode: auto, which is the API alone here: Amazon SES takes messages as they are by its API",
    ),
    "FIPS by SMTP": ("ses", f"region: eu-west-1, {KEYS}, mode: smtp, fips: true", "fips: not used with mode: smtp"),
    "a batch by SMTP": ("postmark", "token: fake, mode: smtp, batch: {max: 2}", "batch: not used with mode: smtp"),
    "a port beside a mock": (
        "postmark",
        "token: fake, port: 2525, base_url: 'http://127.0.0.1:1'",
        "port: not used with mode: auto, which is the API alone here: base_url leads elsewhere, and no host says where SMTP would go",
    ),
    "a losing API beside SMTP": (
        "paubox",
        "api_key: fake, username: x, on_loss: warn",
        "on_loss: not used with mode: auto: what the API cannot carry goes by SMTP (set mode: api to send the rest by the API)",
    ),
    "requests beyond Amazon's": (
        "ses",
        f"region: eu-west-1, {KEYS}, limits: {{size: 41MiB}}",
        "limits.size: more than is documented: Amazon SES takes 40 MB after base64 (developer guide, service quotas, 2026-11)",
    ),
    "requests beyond Postmark's": (
        "postmark",
        "token: fake, mode: smtp, limits: {size: 11MB}",
        "limits.size: more than is documented: Postmark takes 10 MB after base64 (email API, 2026-11)",
    ),
    "requests beyond Mailtrap's": (
        "mailtrap",
        "token: fake, limits: {size: 32MB}",
        "limits.size: more than is documented: Mailtrap takes 10 MB, and 30 MB on request (docs, sending limits, 2026-11)",
    ),
    "requests beyond those of Paubox": (
        "paubox",
        "api_key: fake, username: x, limits: {size: 60MB}",
        "limits.size: more than is documented: Paubox takes 50 MB (docs, attachments, 2026-11)",
    ),
    "requests beyond those behind LowCodeAPI": (
        "lowcodeapi",
        "token: at_fake, limits: {size: 50MB}",
        "limits.size: more than is documented: Amazon SES behind it takes 40 MB after base64 (developer guide, service quotas, 2026-11)",
    ),
    "a token of somebody else": ("lowcodeapi", "token: fake", "token: does not begin with at_, as tokens of LowCodeAPI do"),
    "mail of patients in clear": (
        "paubox",
        "api_key: fake, username: x, allow_non_tls: true",
        "allow_non_tls: Paubox may deliver in clear: patient data could be read on the way",
    ),
    "a batch of Paubox": (
        "paubox",
        "api_key: fake, username: x, batch: {max: 2}",
        "batch.max: Paubox does not document what becomes of a batch in which one message is refused (batch: {max: 1})",
    ),
    "a name for no URL": (
        "paubox",
        "api_key: fake, username: x, base_url: 'https://api.paubox.com/v1'",
        "username: not used: base_url has no {username}",
    ),
    "tracking that cannot be switched off": (
        "paubox",
        "api_key: fake, username: x, track_opens: false",
        "track_opens: false sends nothing: Paubox can be told to track, never not to; the account's own setting holds "
        "(remove it, and switch tracking off in the account)",
    ),
    "links that cannot be left alone": (
        "paubox",
        "api_key: fake, username: x, mode: api, track_links: false",
        "track_links: false sends nothing: Paubox can be told to track, never not to; the account's own setting holds "
        "(remove it, and switch tracking off in the account)",
    ),
    "a portal by SMTP": (
        "paubox",
        "api_key: fake, mode: smtp, force_secure_notification: true",
        "force_secure_notification: not used with mode: smtp",
    ),
    "the port of a portal": (
        "paubox",
        "api_key: fake, username: x, force_secure_notification: true, port: 465",
        "port: not used with mode: auto, which is the API alone here: force_secure_notification cannot be asked for by SMTP",
    ),
    "a sandbox's number elsewhere": (
        "mailtrap",
        "token: fake, sandbox_id: 12",
        "sandbox_id: not used: the stream is transactional (set stream: sandbox)",
    ),
    "a sandbox's token by SMTP": (
        "mailtrap",
        "token: fake, mode: smtp, stream: sandbox, username: x, password: fake",
        "token: not used: username and password log in to a sandbox by SMTP",
    ),
    "streams of a sandbox": (
        "mailtrap",
        "token: fake, stream: sandbox, sandbox_id: 12, streams: {news: bulk}",
        "streams: not used: everything goes to the sandbox",
    ),
    "a sandbox's port without its login": (
        "mailtrap",
        "token: fake, stream: sandbox, sandbox_id: 12, port: 2525",
        "port: not used with mode: auto, which is the API alone here: the sandbox's SMTP login (username and password) is not given",
    ),
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
        "token: fake, port: 465",
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
    found = warnings_of(provider(tmp_path, kind, keys))
    assert [f"providers.{kind}.{warning}"] == [text for text in found if text != f'providers: "mailtrap" {SANDBOX}']


SANDBOX = "is a sandbox of Mailtrap: what goes there is delivered to nobody"
TEST_TOKEN = "has the token POSTMARK_API_TEST: what goes there is checked, and delivered to nobody"
NOWHERE = {
    "postmark: {token: POSTMARK_API_TEST}": TEST_TOKEN,
    "postmark: {token: POSTMARK_API_TEST, mode: api}": TEST_TOKEN,
    "mailtrap: {token: fake, stream: sandbox, sandbox_id: 1234567}": SANDBOX,
    "mailtrap: {token: fake, stream: sandbox, sandbox_id: 1234567, username: 1a2b, password: fake, port: 465}": SANDBOX,
    "mailtrap: {mode: smtp, stream: sandbox, username: 1a2b, password: fake}": SANDBOX,
    "smtp: {host: Sandbox.smtp.mailtrap.io, username: 1a2b, password: fake}": SANDBOX,
    "capture:": "is of type capture: what goes there does not leave this host",
}


@pytest.mark.parametrize("keys", NOWHERE)
def test_a_provider_that_delivers_to_nobody_is_named(tmp_path: Path, keys: str) -> None:
    """Whoever tries something out knows it; whoever forgot to change it back is told."""
    path = written(tmp_path, f"{HOSTNAME}providers:\n  {keys}\n")
    [(name, found)] = config.load(path, environ={}).providers.items()
    assert ([f'providers: "{name}" {NOWHERE[keys]}'], NOWHERE[keys]) == (warnings_of(path), config.no_delivery(found))


def test_a_test_token_beside_an_smtp_token_is_not_used(tmp_path: Path) -> None:
    """By SMTP the other token logs in, and mail is delivered."""
    keys = "token: POSTMARK_API_TEST, mode: smtp, smtp_access_key: fake-0000, smtp_secret_key: fake-0001"
    assert ["providers.postmark.token: not used: smtp_access_key logs in"] == warnings_of(provider(tmp_path, "postmark", keys))


BEHIND = 'it stands behind "ses": the first failover would put real mail there, and nobody would be told (give it a route of its own)'
BEFORE = '"ses" behind it delivers: the first failover would send it to real people (give it a route of its own)'
VIA = {
    "[ses, box]": [f'"box" {SANDBOX}; {BEHIND}'],
    "[box, ses]": [f'"box" {SANDBOX}; {BEFORE}'],
    "[box, trial]": [f'"box" {SANDBOX}', f'"trial" {TEST_TOKEN}'],
    "[trial, ses, box]": [f'"trial" {TEST_TOKEN}; {BEFORE}', f'"box" {SANDBOX}; {BEHIND}'],
    "ses": [],
}


@pytest.mark.parametrize("via", VIA)
def test_a_provider_that_delivers_to_nobody_is_no_way_beside_one_that_does(tmp_path: Path, via: str) -> None:
    """Behind one that delivers it swallows mail, before one it lets trials out."""
    text = f"""{HOSTNAME}
providers:
  ses: {{region: eu-west-1, {KEYS}}}
  box: {{type: mailtrap, stream: sandbox, sandbox_id: 12, token: fake}}
  trial: {{type: postmark, token: POSTMARK_API_TEST}}
routes:
  - {{name: a, match: {{from: "*@example.com"}}, via: {via}}}
  - {{name: b, match: {{from: "<>"}}, via: [box, trial]}}
  - {{name: c, via: ses}}
"""
    found = [text.removeprefix("routes.0: ") for text in warnings_of(written(tmp_path, text)) if text.startswith("routes.0: ")]
    assert VIA[via] == found


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
        '3:95: providers.ses.mode: "smpt" is not known here (known: auto, api, smtp)',
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


DOORS = {
    f"ses: {{region: eu-west-1, {KEYS}}}": ("api",),
    f"ses: {{region: eu-west-1, mode: smtp, {KEYS}}}": ("smtp",),
    "postmark: {token: fake}": ("api", "smtp"),
    "postmark: {token: fake, mode: api}": ("api",),
    "postmark: {token: POSTMARK_API_TEST}": ("api",),
    "postmark: {token: POSTMARK_API_TEST, smtp_access_key: fake, smtp_secret_key: fake}": ("api",),
    "postmark: {token: fake, base_url: 'https://api.postmarkapp.com/'}": ("api", "smtp"),
    "postmark: {token: fake, base_url: 'https://proxy.example.com'}": ("api",),
    "postmark: {token: fake, base_url: 'https://proxy.example.com', host: proxy.example.com}": ("api", "smtp"),
    "mailtrap: {token: fake, stream: bulk}": ("api", "smtp"),
    "mailtrap: {token: fake, base_url: 'http://127.0.0.1:1'}": ("api",),
    "mailtrap: {token: fake, stream: sandbox, sandbox_id: 1}": ("api",),
    "mailtrap: {token: fake, stream: sandbox, sandbox_id: 1, username: x, password: fake}": ("api", "smtp"),
    "paubox: {api_key: fake, username: x}": ("api", "smtp"),
    "paubox: {api_key: fake, username: x, force_secure_notification: true}": ("api",),
    "paubox: {api_key: fake, base_url: 'https://api.paubox.com/v1'}": ("api", "smtp"),
    "paubox: {api_key: fake, base_url: 'https://api.notpaubox.com/v1'}": ("api",),
    "lowcodeapi: {token: at_fake}": ("api",),
    "smtp: {host: mail.example.net}": ("smtp",),
    "capture: {}": (),
}


@pytest.mark.parametrize("keys", DOORS)
def test_the_doors_of_a_provider(tmp_path: Path, keys: str) -> None:
    """SMTP goes with the API only where it is surely the same account; where it does not, the reason can be told."""
    [found] = config.load(written(tmp_path, f"{HOSTNAME}providers:\n  {keys}\n"), environ={}).providers.values()
    assert DOORS[keys] == config.doors_of(found)
    alone = getattr(found, "mode", "") == "auto" and DOORS[keys] == ("api",)
    assert alone == bool(config.why_no_smtp(found))


def test_a_pasted_key_of_paubox_loses_its_white_space(tmp_path: Path) -> None:
    """Blanks around it and line ends in it are not part of a key."""
    text = f"{HOSTNAME}providers:\n  paubox:\n    username: clinic\n    api_key: >-\n      fake-key\n      0000\n"
    assert ("fake-key0000",) == config.load(written(tmp_path, text), environ={}).secrets()


def test_a_bare_provider_of_no_type() -> None:
    """A type that is not known is a mistake of usage."""
    with pytest.raises(ConfigError) as caught:
        config.bare("postmrk")
    assert (64, 'unknown provider type "postmrk"\n     = did you mean "postmark"?') == (caught.value.exit_code, str(caught.value))
    with pytest.raises(ConfigError, match="known: smtp, ses, postmark, mailtrap, paubox, lowcodeapi, capture"):
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
    warning = 'bounce.via: "smarthost" is no provider of patients: bounces of their mail, with its header, leave by it'
    assert [warning] == warnings_of(written(tmp_path, text + "bounce: {via: smarthost}\n"))
    assert [] == warnings_of(written(tmp_path, text + "bounce: {via: null, postmaster: null}\n"))


def test_a_provider_of_bounces_alone_is_used(tmp_path: Path) -> None:
    """`bounce.via` uses a provider; one that captures keeps bounces here, and says so."""
    text = f"{HOSTNAME}{POSTMARK.replace('}}', '}, c: {type: capture}}')}routes: [{{name: a, via: postmark}}]\nbounce: {{via: c}}\n"
    assert [
        'bounce.via: "c" is of type capture: what goes there does not leave this host',
        'bounce.via: "c" is no provider of a: bounces of their mail, with its header, leave by it',
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
