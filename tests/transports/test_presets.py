"""The presets: where each provider's SMTP door is, and which control fields leave with a message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import header
from relay.transports.presets import Preset, configuration_set, mailtrap, obeys, paubox, postmark, ses, ses_smtp_password, stamp

ID = "687E7641C64007"
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
    """Configuration set and identity go as the fields that SES reads."""
    arn = "arn:aws:ses:eu-west-1:123456789012:identity/example.com"
    assert () == ses("eu-west-1", "AKIDEXAMPLE", "x").defaults
    assert (("X-SES-CONFIGURATION-SET", "shop"), ("X-SES-SOURCE-ARN", arn), ("X-SES-FROM-ARN", arn)) == ses(
        "eu-west-1", "AKIDEXAMPLE", "x", configuration_set="shop", identity_arn=arn
    ).defaults


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


@pytest.mark.parametrize(("controls", "expected"), [(None, True), (("ses", "relay"), True), (("postmark",), False), ((), False)])
def test_obeys(controls: tuple[str, ...] | None, expected: bool) -> None:
    """Mail from no listener may always control; from a listener only in the dialects it obeys."""
    assert obeys("ses", controls) is expected


BLOCK = b"From: <a@example.com>\r\nX-SES-Tenant: t\r\nX-PM-Tag: p\r\nX-MT-Category: m\r\nX-Relay-Tag: r\r\nSubject: x\r\n"
METADATA = b"".join(b"X-PM-Metadata-k%d: v\r\n" % number for number in range(10))
LONG = b"X-SES-MESSAGE-TAGS: " + b", ".join(b"n%03d=v" % number for number in range(110)) + b"\r\n"
STAMPS = {
    "ses: queue id alone": ("ses", b"Subject: x\r\n", (), b"X-SES-MESSAGE-TAGS: relay-id=ID\r\n"),
    "ses: only its own fields": ("ses", BLOCK, (), b"X-SES-Tenant: t\r\nX-SES-MESSAGE-TAGS: relay-id=ID\r\n"),
    "ses: tags merged": (
        "ses",
        b"X-Ses-Message-Tags: a=1,\r\n b=2\r\nX-SES-MESSAGE-TAGS: c=3, \r\n",
        (),
        b"X-SES-MESSAGE-TAGS: a=1, b=2, c=3, relay-id=ID\r\n",
    ),
    "ses: an id of the app's own": ("ses", b"X-SES-MESSAGE-TAGS: Relay-ID = 7\r\n", (), b"X-SES-MESSAGE-TAGS: Relay-ID = 7\r\n"),
    "ses: default where none was given": (
        "ses",
        b"X-SES-Configuration-Set: mine\r\n",
        (("X-SES-CONFIGURATION-SET", "shop"), ("X-SES-FROM-ARN", "arn")),
        b"X-SES-FROM-ARN: arn\r\nX-SES-Configuration-Set: mine\r\nX-SES-MESSAGE-TAGS: relay-id=ID\r\n",
    ),
    "ses: a line that no server takes": ("ses", b"X-SES-Tenant: " + b"x" * 999 + b"\r\n", (), b"X-SES-MESSAGE-TAGS: relay-id=ID\r\n"),
    "ses: many tags are folded": ("ses", LONG, (), LONG[:-2].replace(b", ", b",\r\n ") + b",\r\n relay-id=ID\r\n"),
    "ses: a tag that cannot be put on one line": (
        "ses",
        b"X-SES-MESSAGE-TAGS: a=" + b"x" * 970 + b"\r\n " + b"y" * 970 + b"\r\n",
        (),
        b"X-SES-MESSAGE-TAGS: a=" + b"x" * 970 + b"\r\n " + b"y" * 970 + b"\r\n",
    ),
    "mailtrap: queue id alone": ("mailtrap", BLOCK, (), b'X-MT-Category: m\r\nX-MT-Custom-Variables: {"relay-id":"ID"}\r\n'),
    "mailtrap: variables merged": (
        "mailtrap",
        'X-MT-Custom-Variables: {"a": 1,\r\n "b": "ü"}\r\n'.encode(),
        (),
        b'X-MT-Custom-Variables: {"a":1,"b":"\\u00fc","relay-id":"ID"}\r\n',
    ),
    "mailtrap: an id of the app's own": (
        "mailtrap",
        b'X-MT-Custom-Variables: {"relay-id": 7}\r\n',
        (),
        b'X-MT-Custom-Variables: {"relay-id": 7}\r\n',
    ),
    "mailtrap: no object": ("mailtrap", b"X-MT-Custom-Variables: [1]\r\n", (), b"X-MT-Custom-Variables: [1]\r\n"),
    "mailtrap: no JSON": ("mailtrap", b"X-MT-Custom-Variables: {NaN\r\n", (), b"X-MT-Custom-Variables: {NaN\r\n"),
    "mailtrap: no JSON either": ("mailtrap", b'X-MT-Custom-Variables: {"a":NaN}\r\n', (), b'X-MT-Custom-Variables: {"a":NaN}\r\n'),
    "mailtrap: a number beyond JSON": (
        "mailtrap",
        b'X-MT-Custom-Variables: {"a":1e999}\r\n',
        (),
        b'X-MT-Custom-Variables: {"a":1e999}\r\n',
    ),
    "mailtrap: two fields": ("mailtrap", b"X-MT-Custom-Variables: {}\r\n" * 2, (), b"X-MT-Custom-Variables: {}\r\n" * 2),
    "mailtrap: no room for ours": (
        "mailtrap",
        b'X-MT-Custom-Variables: {"a":"' + b"x" * 480 + b'",\r\n "b":"' + b"y" * 480 + b'"}\r\n',
        (),
        b'X-MT-Custom-Variables: {"a":"' + b"x" * 480 + b'",\r\n "b":"' + b"y" * 480 + b'"}\r\n',
    ),
    "postmark: queue id, stream, Message-ID": (
        "postmark",
        BLOCK,
        (("X-PM-Message-Stream", "news"),),
        b"X-PM-Message-Stream: news\r\nX-PM-Tag: p\r\nX-PM-KeepID: true\r\nX-PM-Metadata-relay-id: ID\r\n",
    ),
    "postmark: the app's stream and KeepID": (
        "postmark",
        b"X-PM-Message-Stream: mine\r\nX-PM-KeepId: false\r\n",
        (("X-PM-Message-Stream", "news"),),
        b"X-PM-Message-Stream: mine\r\nX-PM-KeepId: false\r\nX-PM-Metadata-relay-id: ID\r\n",
    ),
    "postmark: spellings it does not read": (
        "postmark",
        b"X-PM-Track-Opens: true\r\nX-PM-Track-Links: None\r\nX-PM-TrackLinks: HtmlOnly\r\n",
        (),
        b"X-PM-TrackOpens: true\r\nX-PM-TrackLinks: HtmlOnly\r\nX-PM-KeepID: true\r\nX-PM-Metadata-relay-id: ID\r\n",
    ),
    "postmark: no room for ours": ("postmark", METADATA, (), METADATA + b"X-PM-KeepID: true\r\n"),
    "postmark: an id of the app's own": (
        "postmark",
        b"X-PM-Metadata-Relay-Id: 7\r\n",
        (),
        b"X-PM-Metadata-Relay-Id: 7\r\nX-PM-KeepID: true\r\n",
    ),
    "paubox": ("paubox", BLOCK, (), b"X-Relay-Id: ID\r\n"),
    "no dialect": ("", BLOCK, (), b""),
}


@pytest.mark.parametrize(("dialect", "block", "defaults", "expected"), STAMPS.values(), ids=STAMPS)
def test_stamp(dialect: str, block: bytes, defaults: tuple[tuple[str, str], ...], expected: bytes) -> None:
    """The app's own fields of the dialect and ours, merged; ours never in place of theirs."""
    assert expected.replace(b"ID\r\n", ID.encode() + b"\r\n").replace(b'"ID"', f'"{ID}"'.encode()) == stamp(
        dialect, block, ID, obeyed=True, defaults=defaults
    )


def test_variables_are_folded() -> None:
    """An object that is long for one line is folded between its values, and is the same object."""
    variables = {f"k{number}": "v" * 20 for number in range(30)}
    text = json.dumps(variables, separators=(",\r\n ", ":"))
    block = f"X-MT-Custom-Variables: {text}\r\n".encode()
    found = stamp("mailtrap", block, ID, obeyed=True)
    assert max(map(len, found.split(b"\r\n"))) < 100
    assert {**variables, "relay-id": ID} == json.loads(header.first(found, "x-mt-custom-variables"))


def test_fields_that_are_not_obeyed() -> None:
    """Where the listener does not obey the dialect nothing of the app's goes out, and ours does."""
    block = BLOCK + b"X-SES-MESSAGE-TAGS: a=1\r\nX-SES-Configuration-Set: mine\r\n"
    defaults = (("X-SES-CONFIGURATION-SET", "shop"),)
    found = stamp("ses", block, ID, obeyed=False, defaults=defaults)
    assert f"X-SES-CONFIGURATION-SET: shop\r\nX-SES-MESSAGE-TAGS: relay-id={ID}\r\n".encode() == found
    assert "shop" == configuration_set(found)
    assert "mine" == configuration_set(stamp("ses", block, ID, obeyed=True, defaults=defaults))
    assert "" == configuration_set(stamp("ses", BLOCK, ID, obeyed=True))


def test_eight_bit_fields() -> None:
    """A field with 8-bit octets goes where these may go, and nowhere else."""
    block = b"X-PM-Tag: \xc3\xa4\r\n"
    assert block in stamp("postmark", block, ID, obeyed=True, eight_bit=True)
    assert stamp("postmark", block, ID, obeyed=True, eight_bit=False).isascii()


NAMES = st.sampled_from(
    [
        "X-SES-Message-Tags",
        "X-SES-Tenant",
        "X-MT-Custom-Variables",
        "X-MT-Category",
        "X-PM-Tag",
        "X-PM-Track-Opens",
        "X-PM-Metadata-a",
        "Bcc",
    ]
)
VALUES = st.one_of(st.binary(max_size=1200), st.sampled_from([b'{"a":"b"}', b"a=1, b=2", b"{}", b"x" * 990, b"=,=,"]))


@given(st.sampled_from(["ses", "mailtrap", "postmark", "paubox", ""]), st.lists(st.tuples(NAMES, VALUES)), st.booleans())
def test_whatever_an_app_gives(dialect: str, given_fields: list[tuple[str, bytes]], obeyed: bool) -> None:
    """What comes out is whole fields of that dialect alone, with lines that a server takes, and our id at most once."""
    block = b"".join(name.encode() + b": " + value.translate(None, b"\r\n\0") + b"\r\n" for name, value in given_fields)
    found = stamp(dialect, block, ID, obeyed=obeyed)
    prefixes = {"ses": "x-ses-", "mailtrap": "x-mt-", "postmark": "x-pm-", "paubox": "x-relay-id"}
    assert {True} >= {name.startswith(prefixes[dialect]) for name, _ in header.fields(found)}
    assert b"" == found or found.endswith(b"\r\n")
    assert max(map(len, found.split(b"\r\n"))) <= 998
    assert found.count(ID.encode()) <= 1
    if not obeyed and dialect:
        assert found.count(ID.encode()) == 1
