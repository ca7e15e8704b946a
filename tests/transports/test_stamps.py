"""The control fields that leave by each provider's SMTP door: the app's own, others' in this door's words, and ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import header
from relay.directives import DIALECTS
from relay.transports.stamps import Stamped, stamp

ID = "687E7641C64007"


def stamped(dialect: str, block: str | bytes, **more: Any) -> Stamped:
    """The fields for a message with these control headers, all of them obeyed."""
    octets = block if isinstance(block, bytes) else block.replace("\n", "\r\n").encode()
    return stamp(dialect, octets, ID, **{"obeyed": DIALECTS, **more})


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
    "mailtrap: a field without variables": (
        "mailtrap",
        b"X-MT-Custom-Variables: \r\n",
        (),
        b'X-MT-Custom-Variables: {"relay-id":"ID"}\r\n',
    ),
    "mailtrap: variables that could not be written again": (
        "mailtrap",
        b'X-MT-Custom-Variables: {"a": 1e999}\r\n',
        (),
        b'X-MT-Custom-Variables: {"a": 1e999}\r\n',
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
    "mailtrap: a very large object": (
        "mailtrap",
        b"X-MT-Custom-Variables: [" + b"1,\r\n " * 20_000 + b"1]\r\n",
        (),
        b"X-MT-Custom-Variables: [" + b"1,\r\n " * 20_000 + b"1]\r\n",
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
    "postmark: words that it does not read": (
        "postmark",
        b"X-PM-TrackOpens: yes\r\nX-PM-Track-Links: 0\r\n",
        (),
        b"X-PM-TrackOpens: true\r\nX-PM-TrackLinks: None\r\nX-PM-KeepID: true\r\nX-PM-Metadata-relay-id: ID\r\n",
    ),
    "postmark: a default in place of a field that says nothing": (
        "postmark",
        b"X-PM-Message-Stream: \r\nX-PM-TrackOpens: maybe\r\n",
        (("X-PM-Message-Stream", "receipts"), ("X-PM-TrackOpens", "true")),
        b"X-PM-Message-Stream: receipts\r\nX-PM-TrackOpens: maybe\r\nX-PM-KeepID: true\r\nX-PM-Metadata-relay-id: ID\r\n",
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
    assert (
        expected.replace(b"ID\r\n", ID.encode() + b"\r\n").replace(b'"ID"', f'"{ID}"'.encode())
        == stamp(dialect, block, ID, obeyed=[dialect], defaults=defaults).fields
    )


def test_variables_are_folded() -> None:
    """An object that is long for one line is folded between its values, and is the same object."""
    variables = {f"k{number}": "v" * 20 for number in range(30)}
    text = json.dumps(variables, separators=(",\r\n ", ":"))
    block = f"X-MT-Custom-Variables: {text}\r\n".encode()
    found = stamp("mailtrap", block, ID, obeyed=["mailtrap"]).fields
    assert max(map(len, found.split(b"\r\n"))) < 100
    assert {**variables, "relay-id": ID} == json.loads(header.first(found, "x-mt-custom-variables"))


def test_fields_that_are_not_obeyed() -> None:
    """Where the listener does not obey the dialect nothing of the app's goes out, and ours does."""
    block = BLOCK + b"X-SES-MESSAGE-TAGS: a=1\r\nX-SES-Configuration-Set: mine\r\n"
    defaults = (("X-SES-CONFIGURATION-SET", "shop"),)
    found = stamp("ses", block, ID, obeyed=(), defaults=defaults)
    assert Stamped(f"X-SES-CONFIGURATION-SET: shop\r\nX-SES-MESSAGE-TAGS: relay-id={ID}\r\n".encode()) == found
    assert "shop" == found.configuration_set
    assert "mine" == stamp("ses", block, ID, obeyed=["ses"], defaults=defaults).configuration_set
    assert "" == stamp("ses", BLOCK, ID, obeyed=["ses"]).configuration_set


def test_defaults_and_spellings() -> None:
    """The app's own field stands in place of a default, however it spells the name."""
    found = stamped("postmark", "X-PM-Track-Opens: true\n", defaults=(("X-PM-TrackOpens", "false"), ("X-PM-TrackLinks", "None")))
    kept = f"X-PM-TrackLinks: None\r\nX-PM-TrackOpens: true\r\nX-PM-KeepID: true\r\nX-PM-Metadata-relay-id: {ID}\r\n"
    assert kept.encode() == found.fields
    ours = stamped("postmark", "X-PM-Track-Opens: true\nX-Relay-Track-Opens: no\n")
    assert [b"false"] == header.values(ours.fields, "x-pm-trackopens")


def test_eight_bit_fields() -> None:
    """A field with 8-bit octets goes where these may go, and nowhere else."""
    block = b"X-PM-Tag: \xc3\xa4\r\n"
    assert block in stamped("postmark", block).fields
    found = stamped("postmark", block, eight_bit=False)
    assert found.fields.isascii()
    assert ("the control header x-pm-tag is left out: no server takes its octets",) == found.losses


# What other dialects ask for, in this door's words.

ASKED = """X-PM-Tag: order
X-PM-Metadata-customer: J\u00f6rg K
X-PM-TrackOpens: yes
X-PM-TrackLinks: off
X-PM-Message-Stream: news
"""
SHOP = """X-SES-CONFIGURATION-SET: shop
X-SES-MESSAGE-TAGS: campaign=winter, customer=42
X-SES-LIST-MANAGEMENT-OPTIONS: list
X-SES-SOURCE-ARN: arn:1
"""
STREAMS = {"News": "own-news", "shop": "own-shop"}
MORE = ("open tracking true is left out", "link tracking 'None' is left out")
TRANSLATED = {
    "postmark to ses": (
        "ses",
        ASKED,
        "X-SES-CONFIGURATION-SET: own-news\nX-SES-MESSAGE-TAGS: category=order, customer=J_rg_K, relay-id=ID\n",
        (*MORE, "message tag 'customer' is written with letters, digits, _ and - only"),
    ),
    "postmark to mailtrap": (
        "mailtrap",
        ASKED,
        'X-MT-Category: order\nX-MT-Custom-Variables: {"customer":"J\\u00f6rg K","relay-id":"ID"}\n',
        (*MORE, "the stream 'own-news' is left out: by SMTP this door leads to own-shop"),
    ),
    "postmark to paubox": (
        "paubox",
        ASKED,
        "X-Relay-Id: ID\n",
        ("the tag 'order' is left out", "metadata 'customer' is left out", "the stream 'news' is left out", *MORE),
    ),
    "postmark to a smarthost": (
        "",
        ASKED,
        "",
        ("the tag 'order' is left out", "metadata 'customer' is left out", "the stream 'news' is left out", *MORE),
    ),
    "ses to postmark": (
        "postmark",
        SHOP,
        "X-PM-Message-Stream: own-shop\nX-PM-Tag: winter\nX-PM-Metadata-customer: 42\nX-PM-KeepID: true\nX-PM-Metadata-relay-id: ID\n",
        ("the identity 'arn:1' is left out",),
    ),
    "ses to mailtrap": (
        "mailtrap",
        SHOP,
        'X-MT-Category: winter\nX-MT-Custom-Variables: {"customer":"42","relay-id":"ID"}\n',
        ("the identity 'arn:1' is left out",),
    ),
    "ses to paubox": (
        "paubox",
        SHOP,
        "X-Relay-Id: ID\n",
        (
            "the tag 'winter' is left out",
            "metadata 'campaign', 'customer' is left out",
            "the configuration set 'shop' is left out",
            "the identity 'arn:1' is left out",
        ),
    ),
    "mailtrap to ses": (
        "ses",
        'X-MT-Category: Order paid\nX-MT-Custom-Variables: {"n": 7, "!": "", "ok": true}\n',
        "X-SES-MESSAGE-TAGS: category=Order_paid, n=7, ok=true, relay-id=ID\n",
        (
            "message tag 'category' is written with letters, digits, _ and - only",
            "message tag '!' is left out",
        ),
    ),
    "mailtrap to postmark": (
        "postmark",
        'X-MT-Category: Gr\u00f6\u00dfe\nX-MT-Custom-Variables: {"n": 7, "two words": "x", "l": [1]}\n',
        "X-PM-Tag: =?utf-8?b?R3LDtsOfZQ==?=\nX-PM-Metadata-n: 7\nX-PM-Metadata-l: 1\nX-PM-KeepID: true\nX-PM-Metadata-relay-id: ID\n",
        ("metadata 'two words' is left out: Postmark takes 10 keys of 20 characters",),
    ),
    "ours to postmark": (
        "postmark",
        "X-Relay-Tag: ours\nX-PM-Tag: theirs\nX-Relay-Metadata-K: ours\nX-PM-Metadata-k: theirs\nX-PM-Metadata-l: theirs\n"
        "X-Relay-Track-Opens: no\nX-PM-Track-Opens: yes\nX-Relay-Track-Links: HtmlOnly\nX-PM-TrackLinks: None\n"
        "X-Relay-Stream: s\nX-PM-Message-Stream: t\n",
        "X-PM-Metadata-l: theirs\nX-PM-Message-Stream: s\nX-PM-Tag: ours\nX-PM-TrackOpens: false\nX-PM-TrackLinks: HtmlOnly\n"
        "X-PM-Metadata-K: ours\nX-PM-KeepID: true\nX-PM-Metadata-relay-id: ID\n",
        (),
    ),
    "ours to ses": (
        "ses",
        "X-Relay-Tag: ours\nX-SES-MESSAGE-TAGS: Category=theirs, l=theirs\nX-Relay-Configuration-Set: own\nX-SES-CONFIGURATION-SET: x\n",
        "X-SES-CONFIGURATION-SET: own\nX-SES-MESSAGE-TAGS: l=theirs, category=ours, relay-id=ID\n",
        (),
    ),
    "ours to mailtrap": (
        "mailtrap",
        'X-Relay-Tag: ours\nX-MT-Category: theirs\nX-Relay-Metadata-K: ours\nX-MT-Custom-Variables: {"k": 1, "l": [1, 2]}\n',
        'X-MT-Category: ours\nX-MT-Custom-Variables: {"l":[1,2],"K":"ours","relay-id":"ID"}\n',
        (),
    ),
    "what the provider's own fields say is left to it": (
        "ses",
        "X-SES-MESSAGE-TAGS: a, b=\u00e4\nX-SES-Other: x\nX-PM-Other: x\nX-PM-TrackOpens: perhaps\n",
        "X-SES-Other: x\nX-SES-MESSAGE-TAGS: a, b=\u00e4, relay-id=ID\n",
        (
            "x-pm-trackopens: 'perhaps' is neither true nor false",
            "the control header x-pm-other is left out: relay does not know it",
        ),
    ),
    "a stream that is nowhere": (
        "ses",
        "X-PM-Message-Stream: elsewhere\n",
        "X-SES-MESSAGE-TAGS: relay-id=ID\n",
        ("the stream 'elsewhere' is not one of this provider: see streams",),
    ),
    "more tags than one": (
        "ses",
        "X-PM-Tag: a\nX-PM-Tag: b\n",
        "X-SES-MESSAGE-TAGS: category=a, tag2=b, relay-id=ID\n",
        ("x-pm-tag: of several the first is the tag; 'b' becomes metadata tag2",),
    ),
    "an id of the app's own": (
        "ses",
        "X-SES-MESSAGE-TAGS: relay-id=7\nX-PM-Tag: t\n",
        "X-SES-MESSAGE-TAGS: relay-id=7, category=t\n",
        (),
    ),
    "two names that become one": (
        "ses",
        "X-PM-Metadata-a.b: 1\nX-PM-Metadata-a+b: 2\n",
        "X-SES-MESSAGE-TAGS: a_b=1, relay-id=ID\n",
        ("message tag 'a.b' is written with letters, digits, _ and - only", "message tag 'a+b' is left out"),
    ),
    "list management as client libraries write it": (
        "ses",
        "X-SES-LIST-MANAGEMENT-OPTIONS: contactListName=news;topicName=weekly\n",
        "X-SES-LIST-MANAGEMENT-OPTIONS: news; topic=weekly\nX-SES-MESSAGE-TAGS: relay-id=ID\n",
        (),
    ),
    "list management as Amazon SES reads it": (
        "ses",
        "X-SES-List-Management-Options: news;topic=weekly\n",
        "X-SES-List-Management-Options: news;topic=weekly\nX-SES-MESSAGE-TAGS: relay-id=ID\n",
        (),
    ),
    "the app's set and another's stream": (
        "ses",
        "X-SES-CONFIGURATION-SET: mine\nX-PM-Message-Stream: news\n",
        "X-SES-CONFIGURATION-SET: mine\nX-SES-MESSAGE-TAGS: relay-id=ID\n",
        (),
    ),
    "variables that cannot be joined": (
        "mailtrap",
        "X-MT-Custom-Variables: [1]\nX-PM-Metadata-k: v\n",
        "X-MT-Custom-Variables: [1]\n",
        ("variable 'k' is left out: X-MT-Custom-Variables is not one JSON object",),
    ),
    "a word too long for a line": (
        "postmark",
        "X-Relay-Tag: " + "x" * 999 + "\n",
        "X-PM-KeepID: true\nX-PM-Metadata-relay-id: ID\n",
        (f"X-PM-Tag {'x' * 40!r} is left out: it is too long for a line",),
    ),
}


@pytest.mark.parametrize(("dialect", "block", "expected", "losses"), TRANSLATED.values(), ids=TRANSLATED)
def test_translations(dialect: str, block: str, expected: str, losses: tuple[str, ...]) -> None:
    """What an app asks of one provider is asked of another in its words, and what has none there is told."""
    door = "own-shop" if dialect == "mailtrap" else ""
    found = stamped(dialect, block, streams=STREAMS, stream=door)
    assert (expected.replace("ID\n", f"{ID}\n").replace('"ID"', f'"{ID}"').replace("\n", "\r\n"), losses) == (
        found.fields.decode(),
        found.losses,
    )
    elsewhere = dialect != "ses" and "X-SES-LIST-MANAGEMENT-OPTIONS" in block
    assert elsewhere == any("who unsubscribed there would get the mail" in reason for reason in found.reasons)
    assert elsewhere == len(found.reasons)


@pytest.mark.parametrize("dialect", ["ses", "mailtrap", "postmark", "paubox", ""])
def test_a_template(dialect: str) -> None:
    """By SMTP there are no templates: the mail would be another, so it does not go."""
    assert ("a template is asked for, and by SMTP the message goes as it is",) == stamped(dialect, "X-Relay-Template: t\n").reasons
    assert () == stamped(dialect, "X-Relay-Template: t\n", obeyed=["postmark"]).reasons
    assert "x-relay-template-model is not a JSON object" in stamped(dialect, "X-Relay-Template: t\nX-Relay-Template-Model: 1\n").reasons


def test_who_has_a_contact_list() -> None:
    """Such a message holds one contact's own link."""
    assert stamped("ses", "X-SES-List-Management-Options: news\n").contact_list
    assert not stamped("postmark", "X-SES-List-Management-Options: news\n").contact_list


OFF = "X-PM-KeepID: true\r\nX-PM-Metadata-relay-id: ID\r\nX-PM-TrackOpens: false\r\nX-PM-TrackLinks: None\r\n"
LEFT_OUT = ("tracking is left out: it would break what is signed or encrypted",)


@pytest.mark.parametrize(
    ("block", "defaults", "losses"),
    [
        ("", (), ()),
        ("X-PM-TrackOpens: true\nX-PM-TrackLinks: HtmlAndText\n", (), LEFT_OUT),
        ("X-PM-Track-Opens: true\n", (), LEFT_OUT),
        ("X-Relay-Track-Links: HtmlOnly\n", (), LEFT_OUT),
        ("X-Relay-Track-Opens: no\n", (("X-PM-TrackLinks", "None"),), ()),
        ("", (("X-PM-TrackOpens", "true"), ("X-PM-TrackLinks", "HtmlAndText")), LEFT_OUT),
        ("", (("X-PM-TrackOpens", "false"), ("X-PM-TrackLinks", "None")), ()),
    ],
)
def test_what_is_signed_is_not_tracked(block: str, defaults: tuple[tuple[str, str], ...], losses: tuple[str, ...]) -> None:
    """Postmark would rewrite a signed message: tracking is off there, over the app's wishes, the configuration's and the server's."""
    found = stamped("postmark", block, defaults=defaults, sealed=True)
    assert (OFF.replace("ID\r", f"{ID}\r"), losses) == (found.fields.decode(), found.losses)


def test_a_tag_that_is_cut() -> None:
    """A tag that is only too long is told so."""
    assert ("message tag 'category' is cut to 256 characters",) == stamped("ses", f"X-Relay-Tag: {'x' * 257}\n").losses


def test_a_name_that_is_no_configuration_set() -> None:
    """Amazon SES would refuse the message; another provider of the route may carry it."""
    assert ("'two words' is not the name of a configuration set",) == stamped("ses", "X-Relay-Configuration-Set: two words\n").reasons


@pytest.mark.parametrize(
    ("dialect", "door", "block", "there", "lost"),
    [
        ("postmark", "outbound", "X-PM-Message-Stream: news\n", False, True),
        ("postmark", "outbound", "X-PM-Message-Stream: Outbound\n", True, False),
        ("postmark", "outbound", "X-Relay-Stream: news\n", False, True),
        ("postmark", "outbound", "X-Relay-Stream: outbound\n", False, False),
        ("postmark", "", "X-Relay-Stream: news\n", True, False),
        ("mailtrap", "transactional", "X-PM-Message-Stream: outbound\n", False, False),
        ("mailtrap", "transactional", "X-PM-Message-Stream: broadcast\n", False, True),
        ("mailtrap", "", "X-PM-Message-Stream: broadcast\n", False, False),
    ],
)
def test_a_door_that_leads_to_one_stream(dialect: str, door: str, block: str, there: bool, lost: bool) -> None:
    """Where no field can choose, another stream than the door's is a loss; a sandbox takes them all."""
    found = stamped(dialect, block, stream=door)
    assert (there, lost) == (b"Message-Stream" in found.fields, any("leads to" in loss for loss in found.losses))


FOLDED = (",\n ", ":")


def test_variables_over_the_limit() -> None:
    """Mailtrap ignores an object over a thousand octets as a whole: what there is no room for is left out, the app's own last."""
    own = {f"own{number}": "x" * 90 for number in range(8)}
    block = f"X-MT-Custom-Variables: {json.dumps(own, separators=FOLDED)}\n" + "".join(
        f"X-PM-Metadata-k{number}: {'y' * 60}\n" for number in range(4)
    )
    found = stamped("mailtrap", block)
    text = header.first(found.fields, "x-mt-custom-variables")
    assert {*own, "k0", "k1", "relay-id"} == json.loads(text).keys()
    assert len(text) <= 1000
    assert tuple(f"variable 'k{number}' is left out: X-MT-Custom-Variables takes 1,000 octets" for number in (2, 3)) == found.losses
    alone = stamped("mailtrap", f"X-MT-Custom-Variables: {json.dumps({**own, 'big': 'x' * 500, 'z': 1}, separators=FOLDED)}\n")
    assert {*own, "z", "relay-id"} == json.loads(header.first(alone.fields, "x-mt-custom-variables")).keys()
    assert ("variable 'big' is left out: X-MT-Custom-Variables takes 1,000 octets",) == alone.losses


def test_metadata_over_postmarks_limits() -> None:
    """Postmark would take the mail by SMTP and drop it: keys beyond its limits are left out, values and tag are cut."""
    own = "".join(f"X-PM-Metadata-own{number}: v\n" for number in range(9))
    long = "X-PM-Metadata-" + "k" * 21 + ": v\nX-PM-Metadata-value: " + "v" * 81 + "\nX-PM-Tag: " + "t " * 400 + "\n " + "t " * 101 + "\n"
    found = stamped("postmark", own + long + "X-SES-MESSAGE-TAGS: more=1\n")
    names = [name for name, _ in header.fields(found.fields)]
    assert [*(f"x-pm-metadata-own{number}" for number in range(9)), "x-pm-metadata-value", "x-pm-keepid"] == [
        name for name in names if name != "x-pm-tag"
    ]
    assert b"v" * 80 == header.first(found.fields, "x-pm-metadata-value")
    assert 1000 == len(header.first(found.fields, "x-pm-tag"))
    kept = "Postmark takes 10 keys of 20 characters"
    assert {
        f"metadata {'k' * 21!r} is left out: {kept}",
        f"metadata 'more' is left out: {kept}",
        "the value of metadata 'value' is cut to 80 characters",
        "the tag is cut to 1000 characters",
    } <= {*found.losses}


def test_tags_that_cannot_be_joined() -> None:
    """Where the app's own field has a line that leaves no room the others' tags are told."""
    own = b"X-SES-MESSAGE-TAGS: a=" + b"x" * 970 + b"\r\n " + b"y" * 970 + b"\r\n"
    found = stamped("ses", own + b"X-PM-Tag: t\r\n")
    assert (own, ("message tag 'category' is left out",)) == (found.fields, found.losses)
    variables = '\n {"a":"' + "x" * 970 + '"}\n'
    found = stamped("mailtrap", f"X-MT-Custom-Variables:{variables}X-PM-Metadata-k: v\n")
    assert f"X-MT-Custom-Variables:{variables}".replace("\n", "\r\n").encode() == found.fields
    assert ("variable 'k' is left out",) == found.losses


NAMES = st.sampled_from(
    [
        "X-SES-Message-Tags",
        "X-SES-Tenant",
        "X-MT-Custom-Variables",
        "X-MT-Category",
        "X-PM-Tag",
        "X-PM-Track-Opens",
        "X-PM-Metadata-a",
        "X-Relay-Tag",
        "X-Relay-Metadata-A",
        "X-Relay-Stream",
        "Bcc",
    ]
)
VALUES = st.one_of(st.binary(max_size=1200), st.sampled_from([b'{"a":"b"}', b"a=1, b=2", b"{}", b"x" * 990, b"=,=,"]))


@given(st.sampled_from(["ses", "mailtrap", "postmark", "paubox", ""]), st.lists(st.tuples(NAMES, VALUES)), st.booleans())
def test_whatever_an_app_gives(dialect: str, given_fields: list[tuple[str, bytes]], obeyed: bool) -> None:
    """What comes out is whole fields of that dialect alone, with lines that a server takes, and our id at most once."""
    block = b"".join(name.encode() + b": " + value.translate(None, b"\r\n\0") + b"\r\n" for name, value in given_fields)
    found = stamp(dialect, block, ID, obeyed=DIALECTS if obeyed else (), streams={"a": "b"}).fields
    prefixes = {"ses": "x-ses-", "mailtrap": "x-mt-", "postmark": "x-pm-", "paubox": "x-relay-id"}
    assert {True} >= {name.startswith(prefixes[dialect]) for name, _ in header.fields(found)}
    assert b"" == found or found.endswith(b"\r\n")
    assert max(map(len, found.split(b"\r\n"))) <= 998
    assert found.count(ID.encode()) <= 1
    if not obeyed and dialect:
        assert found.count(ID.encode()) == 1
