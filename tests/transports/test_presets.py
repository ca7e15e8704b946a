"""The presets: where each provider's SMTP door is, how one logs in, what it takes."""

from __future__ import annotations

import pytest

from relay.transports.presets import Preset, mailtrap, paubox, postmark, ses, ses_smtp_password

SAMPLE = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # the sample secret of AWS's own documentation


@pytest.mark.parametrize(
    ("region", "secret", "password"),
    [
        # The first four are published in HashiCorp's AWS provider (internal/service/iam/access_key_test.go).
        ("eu-central-1", "some+secret+key", "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2"),
        ("eu-central-1", "another+secret+key", "BBbphbrQmrKMx42d1N6+C7VINYEBGI5v9VsZeTxwskfh"),
        ("us-west-1", "some+secret+key", "BH+jbMzper5WwlwUar9E1ySBqHa9whi0GPo+sJ0mVYJj"),
        ("us-west-1", "another+secret+key", "BKVmjjMDFk/qqw8EROW99bjCS65PF8WKvK5bSr4Y6EqF"),
        ("us-east-1", SAMPLE, "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9"),
        ("us-west-2", SAMPLE, "BF2PynzbSCAjX08zhZZnP/kW+T9P5zs/1Er0pi5vTEmd"),
    ],
)
def test_smtp_password_of_ses(region: str, secret: str, password: str) -> None:
    """The derived password is the one that AWS's own procedure gives."""
    assert password == ses_smtp_password(secret, region)


def test_ses() -> None:
    """The region makes the host, the key the name, the secret the password; one made by AWS goes as it is."""
    made = ses("eu-central-1", "AKIDEXAMPLE", "some+secret+key")
    assert ("email-smtp.eu-central-1.amazonaws.com", 587) == (made.host, made.port)
    assert ("AKIDEXAMPLE", "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2") == (made.username, made.password)
    assert (50, 40 * 1024 * 1024, True) == (made.max_recipients, made.max_size, made.needs_sender)
    assert "made-by-aws" == ses("eu-central-1", "AKIDEXAMPLE", smtp_password=" made-by-aws\n").password
    assert "email-smtp.cn-north-1.amazonaws.com.cn" == ses("cn-north-1", "AKIDEXAMPLE", "x").host


def test_ses_defaults() -> None:
    """Configuration set, identity and tenant go as the fields that SES reads."""
    arn = "arn:aws:ses:eu-west-1:123456789012:identity/example.com"
    assert () == ses("eu-west-1", "AKIDEXAMPLE", "x").defaults
    assert (("X-SES-CONFIGURATION-SET", "shop"), ("X-SES-SOURCE-ARN", arn), ("X-SES-FROM-ARN", arn)) == ses(
        "eu-west-1", "AKIDEXAMPLE", "x", configuration_set="shop", identity_arn=arn
    ).defaults
    assert (("X-SES-TENANT", "shop"),) == ses("eu-west-1", "AKIDEXAMPLE", "x", tenant="shop").defaults


@pytest.mark.parametrize(
    ("made", "host", "username", "password"),
    [
        (mailtrap("transactional", "token"), "live.smtp.mailtrap.io", "api", "token"),
        (mailtrap("bulk", " token\n"), "bulk.smtp.mailtrap.io", "api", "token"),
        (mailtrap("sandbox", username="u", password="p"), "sandbox.smtp.mailtrap.io", "u", "p"),
        (postmark("outbound", "token"), "smtp.postmarkapp.com", "token", "token"),
        (postmark("broadcast", "token"), "smtp-broadcasts.postmarkapp.com", "token", "token"),
        (postmark("broadcasts", access_key="access", secret_key="secret"), "smtp-broadcasts.postmarkapp.com", "access", "secret"),
        (postmark("outbound", "token", "access", "secret"), "smtp.postmarkapp.com", "access", "secret"),
        (paubox("ab c\nd"), "smtp.paubox.com", "apikey", "abcd"),
    ],
)
def test_doors(made: Preset, host: str, username: str, password: str) -> None:
    """Each door has its host and its way to log in, and TLS; no secret shows."""
    assert (host, username, password, 587) == (made.host, made.username, made.password, made.port)
    assert made.needs_sender
    assert not {f"'{username}'", f"'{password}'"} & set(repr(made).replace("=", " ").replace(",", " ").split())


def test_limits() -> None:
    """Mailtrap takes ten connections and a hundred messages on each; Postmark fifty recipients and ten megabytes."""
    assert (10, 100) == (mailtrap("bulk", "t").connections, mailtrap("bulk", "t").max_messages)
    assert (50, 10 * 1024 * 1024) == (postmark("outbound", "t").max_recipients, postmark("outbound", "t").max_size)


def test_stream_of_postmark() -> None:
    """A server token needs the stream in a field; an SMTP token is bound to its stream."""
    assert (("X-PM-Message-Stream", "news"),) == postmark("news", "token").defaults
    assert () == postmark("news", access_key="a", secret_key="s").defaults
    assert () == postmark("", "token").defaults


def test_tracking_of_postmark() -> None:
    """What the configuration says of tracking goes as fields, which mail with its own does not get."""
    found = postmark("", "token", track_opens=False, track_links="HtmlOnly").defaults
    assert (("X-PM-TrackOpens", "false"), ("X-PM-TrackLinks", "HtmlOnly")) == found


@pytest.mark.parametrize(
    ("made", "stream", "ports"),
    [
        (ses("eu-west-1", "AKIDEXAMPLE", "x"), "", {25, 587, 2587, 465, 2465}),
        (mailtrap("transactional", "token"), "transactional", {25, 587, 2525, 465}),
        (mailtrap("bulk", "token"), "bulk", {25, 587, 2525, 465}),
        (mailtrap("sandbox", username="u", password="p"), "", {25, 587, 2525, 465}),
        (postmark("news", "token"), "", {25, 587, 2525}),
        (postmark("news", access_key="a", secret_key="s"), "news", {25, 587, 2525}),
        (paubox("key"), "", {25, 587, 465}),
    ],
)
def test_streams_and_ports(made: Preset, stream: str, ports: set[int]) -> None:
    """A door leads to one stream where no field can choose; each provider listens on ports of its own."""
    assert (stream, ports) == (made.stream, set(made.ports))
    assert made.port in made.ports
