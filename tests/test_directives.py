"""Directives from control headers: what each dialect says, which wins, and what a provider that lacks something is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.directives import DIALECTS, Directives, Stream, contact_list, left_out, obeyed, read, stream, unlisted


def block(text: str) -> bytes:
    """A header block of the given lines."""
    return text.replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("Subject: x\nX-Other: y\n", Directives()),
        (
            "X-PM-Tag: a\nX-PM-Tag: b\n",
            Directives(tag="a", metadata={"tag2": "b"}, ignored=("x-pm-tag: of several the first is the tag; 'b' becomes metadata tag2",)),
        ),
        (
            "X-MT-Category: a\nX-MT-Category: b\nX-PM-Metadata-tag2: taken\n",
            Directives(
                tag="a",
                metadata={"tag2": "taken"},
                ignored=("x-mt-category: of several the first is the tag; 'b' is left out",),
            ),
        ),
        ("X-PM-Tag: a\nX-MT-Category: b\nX-MT-Category: c\n", Directives(tag="a")),
        ("X-PM-Message-Stream: bulk\n", Directives(stream="bulk")),
        ("X-PM-TrackOpens: true\nX-PM-TrackLinks: htmlonly\n", Directives(track_opens=True, track_links="HtmlOnly")),
        ("X-PM-Track-Opens: 0\nX-PM-Track-Links: yes\n", Directives(track_opens=False, track_links="HtmlAndText")),
        ("X-Relay-Track-Opens: On\nX-Relay-Track-Links: false\n", Directives(track_opens=True, track_links="None")),
        ("X-PM-KeepID: true\nX-PM-Bounce-Type: HardBounce\n", Directives(unknown=("x-pm-bounce-type",))),
        ("X-PM-Tag: theirs\nX-Relay-Tag: ours\nX-Relay-Stream: s\n", Directives(tag="ours", stream="s")),
        (
            "X-PM-Metadata-Order: 1\nX-PM-Metadata-color: red\nX-PM-Metadata-ORDER: 2\nX-Relay-Metadata-Color: blue\nX-PM-Metadata-: x\n",
            Directives(
                metadata={"Color": "blue", "Order": "1"},
                ignored=("x-pm-metadata-order: of 'ORDER' only the first value is taken",),
                unknown=("x-pm-metadata-",),
            ),
        ),
        ("X-PM-Metadata-name: =?utf-8?q?J=C3=B6rg=0D=0ABcc:_x?=\n", Directives(metadata={"name": "Jörg Bcc: x"})),
        ("X-PM-Tag:\nX-PM-Metadata-empty:\n", Directives(metadata={"empty": ""})),
        (
            'X-Relay-Template: t\nX-Relay-Template-Model: {"a":\n [1, "ü"]}\nX-Relay-Inline-Css: no\n',
            Directives(template="t", template_model={"a": [1, "ü"]}, inline_css=False),
        ),
        ("X-Relay-Configuration-Set: ours\nX-SES-CONFIGURATION-SET: theirs\n", Directives(configuration_set="ours")),
        ("X-SES-MESSAGE-TAGS: a=b, Order = 7=8 ,\n\tempty=\n", Directives(metadata={"a": "b", "Order": "7=8", "empty": ""})),
        (
            "X-SES-Message-Tags: a=b\nX-SES-Message-Tags: c=d, a=e, A=b\n",
            Directives(metadata={"a": "b", "c": "d"}, ignored=("x-ses-message-tags: of 'a' only the first value is taken",)),
        ),
        ("X-SES-Message-Tags: Campaign=winter, tag=other\n", Directives(tag="winter", metadata={"Campaign": "winter", "tag": "other"})),
        ("X-SES-Message-Tags: category=a\nX-PM-Tag: b\n", Directives(tag="b", metadata={"category": "a"})),
        ("X-SES-Message-Tags: k=theirs\nX-PM-Metadata-K: postmark's\n", Directives(metadata={"K": "postmark's"})),
        (
            "X-SES-Message-Tags: a, =b, c=d\n",
            Directives(metadata={"c": "d"}, ignored=tuple(f"x-ses-message-tags: {pair!r} is not name=value" for pair in ("a", "=b"))),
        ),
        (
            "X-SES-SOURCE-ARN: arn:1\nX-SES-FROM-ARN: arn:2\nX-SES-List-Management-Options: news; topic=a\nX-SES-Tenant: t\n",
            Directives(identity_arn="arn:1", list_management="news; topic=a", tenant="t"),
        ),
        (
            "X-SES-Return-Path-ARN: arn:1\nX-SES-Other: x\nX-SES-Other: y\nX-Relay-Id: 7\n",
            Directives(unknown=("x-ses-return-path-arn", "x-ses-other")),
        ),
        ("X-MT-Category: order\n", Directives(tag="order")),
        (
            'X-MT-Custom-Variables: {"order": 7, "price": 1.10, "paid": true,\n "who": "J\\u00f6rg\\r\\nBcc: x", "Order": "8"}\n',
            Directives(
                metadata={"order": "7", "price": "1.10", "paid": "true", "who": "Jörg Bcc: x"},
                ignored=("x-mt-custom-variables: of 'Order' only the first value is taken",),
            ),
        ),
        (
            'X-MT-Custom-Variables: {"a": [1, 2], "b": ["x"], "c": [], "d": {}, "e": null, "": "f", "g": "\\ud800"}\n',
            Directives(
                metadata={"a": "1", "b": "x", "g": "?"},
                ignored=(
                    "x-mt-custom-variables: of the list 'a' only the first value is taken",
                    *(f"x-mt-custom-variables: {key!r} is no text, number or truth value" for key in ("c", "d", "e", "")),
                ),
            ),
        ),
        ("X-Relay-Track-Opens: maybe\n", Directives(ignored=("x-relay-track-opens: 'maybe' is neither true nor false",))),
        ("X-PM-TrackLinks: all\n", Directives(ignored=("x-pm-tracklinks: 'all' is none of None, HtmlAndText, HtmlOnly, TextOnly",))),
    ],
)
def test_read(lines: str, expected: Directives) -> None:
    """Both spellings of Postmark's headers, our own first, metadata without keys that differ only by case."""
    assert expected == read(block(lines), DIALECTS)


DEEP = '{"a":' * 990 + "1" + "}" * 990  # can be read, and not be written again a few calls further down


@pytest.mark.parametrize(
    "model", ["[1]", "{", '{"a": NaN}', '{"a": 1e999}', '{"a": [-1e999]}', DEEP, "[" * 5000, "1" * 5000, '{"a":' * 2000]
)
def test_a_template_model_that_is_no_object(model: str) -> None:
    """A model that cannot be used is refused: without it the template would say something else. Without a template nobody misses it."""
    lines, said = f"X-Relay-Template-Model: {model}\n", ("x-relay-template-model is not a JSON object",)
    found = read(block(f"X-Relay-Template: t\n{lines}"), ["relay"])
    assert (None, said, ()) == (found.template_model, found.refused, found.ignored)
    found = read(block(lines), ["relay"])
    assert (None, (), said) == (found.template_model, found.refused, found.ignored)


@pytest.mark.parametrize("field", ["X-Relay-Stream", "X-PM-Message-Stream", "X-Relay-Template", "X-SES-Configuration-Set", "X-SES-Tenant"])
def test_names_that_no_provider_has(field: str) -> None:
    """A name is kept in states and logs: one over 255 characters is refused, and only so much of it is held."""
    found = read(block(f"{field}: {'n' * 60_000}\n"), DIALECTS)
    assert (f"{field.lower()}: a name of 60,000 characters; relay takes 255",) == found.refused
    assert 255 == max(map(len, (found.stream, found.template, found.configuration_set, found.tenant)))
    assert () == read(block(f"{field}: {'n' * 255}\n"), DIALECTS).refused


def test_a_contact_list_that_a_provider_has_not() -> None:
    """The phrase says what would come of it, and what to do."""
    assert "" == unlisted(Directives())
    assert (
        "the contact list 'friends; topic=news' of Amazon SES is left out, so that who unsubscribed there would get the mail: "
        "send it by Amazon SES, or without X-SES-List-Management-Options"
    ) == unlisted(Directives(list_management="friends; topic=news"))


def test_a_template_model_that_is_an_object() -> None:
    """Numbers, lists and objects within it are what they were, to a depth of 100."""
    model = '{"a": [1, 1.5, true, null, {"b": "c"}]}'
    assert {"a": [1, 1.5, True, None, {"b": "c"}]} == read(block(f"X-Relay-Template-Model: {model}\n"), ["relay"]).template_model
    deep = '{"a":' * 99 + "1" + "}" * 99
    assert read(block(f"X-Relay-Template-Model: {deep}\n"), ["relay"]).template_model is not None


@pytest.mark.parametrize(("own", "tag", "metadata"), [("", "pm", "pm"), ("postmark", "pm", "pm"), ("ses", "ses", "ses")])
def test_a_providers_own_dialect_wins(own: str, tag: str, metadata: str) -> None:
    """Over those of other vendors, but not over ours."""
    fields = "X-SES-Message-Tags: category=ses, k=ses\nX-PM-Tag: pm\nX-PM-Metadata-k: pm\n"
    found = read(block(fields), DIALECTS, own=own)
    assert (tag, metadata) == (found.tag, found.metadata["k"])
    assert "ours" == read(block(f"{fields}X-Relay-Tag: ours\n"), DIALECTS, own=own).tag


@pytest.mark.parametrize(("dialects", "tag"), [(["relay"], "ours"), (["postmark"], "theirs"), ([], "")])
def test_only_the_dialects_that_the_listener_obeys(dialects: list[str], tag: str) -> None:
    """What is not obeyed is not read."""
    assert tag == read(block("X-PM-Tag: theirs\nX-Relay-Tag: ours\n"), dialects).tag


VARIABLES = ["[1]", "{", '{"a": NaN}', "[" * 5000, '{"a":' * 2000, "text"]


@pytest.mark.parametrize("text", VARIABLES)
def test_custom_variables_that_are_no_object(text: str) -> None:
    """They would only be counted differently: the mail goes without them."""
    found = read(block(f"X-MT-Custom-Variables: {text}\n"), DIALECTS)
    assert Directives(ignored=("x-mt-custom-variables is not a JSON object",)) == found


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("X-SES-Message-Tags: campaign=winter, k=v, tag=other\n", {"k": "v", "tag": "other"}),
        ("X-SES-Message-Tags: category=theirs, k=v\nX-Relay-Tag: ours\n", {"category": "theirs", "k": "v"}),
        ("X-PM-Tag: a\nX-PM-Metadata-k: a\n", {"k": "a"}),
    ],
)
def test_metadata_besides_the_tag(lines: str, expected: dict[str, str]) -> None:
    """The category that is the tag is no metadata where the tag has a field of its own; everything else stays."""
    assert expected == read(block(lines), DIALECTS).besides_tag


def test_obeyed() -> None:
    """A listener that is not named obeys no dialect; mail of no listener may speak them all."""
    controls = {"local": ("relay", "ses")}
    assert [("relay", "ses"), (), DIALECTS] == [obeyed(controls, listener) for listener in ("local", "lan", "")]


def test_in_which_dialect() -> None:
    """Each directive says whose words were taken."""
    found = read(block("X-PM-Message-Stream: a\nX-SES-Configuration-Set: b\nX-Relay-Tag: c\nX-MT-Category: d\n"), DIALECTS, own="mailtrap")
    assert {"stream": "postmark", "configuration_set": "ses", "tag": "relay"} == found.spoken


SET = "X-SES-Configuration-Set: Shop\n"
PM = "X-PM-Message-Stream: news\n"
OURS = "X-Relay-Stream: own\n"
ELSEWHERE = "{} is not one of this provider: see streams"
STREAMS = {"SHOP ": "mapped-set", "news": "mapped-news"}


@pytest.mark.parametrize(
    ("own", "lines", "streams", "expected"),
    [
        ("postmark", "", STREAMS, Stream()),
        ("postmark", PM, STREAMS, Stream("news")),
        ("postmark", SET, STREAMS, Stream("mapped-set")),
        ("postmark", SET, {}, Stream(loss=ELSEWHERE.format("the configuration set 'Shop'"))),
        ("postmark", PM + SET, STREAMS, Stream("news")),
        ("postmark", OURS + PM, STREAMS, Stream("own")),
        ("postmark", OURS + PM, {"own": "mapped"}, Stream("mapped")),
        ("postmark", "X-Relay-Configuration-Set: shop\n" + PM, {}, Stream("news")),
        ("postmark", "X-Relay-Configuration-Set: shop\n" + PM, STREAMS, Stream("mapped-set")),
        ("ses", PM, STREAMS, Stream("mapped-news")),
        ("ses", PM, {}, Stream(loss=ELSEWHERE.format("the stream 'news'"))),
        ("ses", SET, STREAMS, Stream("Shop")),
        ("ses", PM + SET, STREAMS, Stream("Shop")),
        ("ses", OURS, {}, Stream(loss=ELSEWHERE.format("the stream 'own'"))),
        ("ses", OURS + SET, {}, Stream("Shop")),
        ("ses", OURS + "X-Relay-Configuration-Set: set\n", {"own": "mapped"}, Stream("set")),
        ("mailtrap", "X-PM-Message-Stream: outbound\n", {}, Stream("transactional")),
        ("mailtrap", "X-PM-Message-Stream: Broadcasts\n", {}, Stream("bulk")),
        ("mailtrap", "X-PM-Message-Stream: outbound\n", {"Outbound": "bulk"}, Stream("bulk")),
        ("mailtrap", "X-Relay-Stream: Bulk\n", {}, Stream("bulk")),
        ("mailtrap", OURS, {}, Stream(loss=ELSEWHERE.format("the stream 'own'"))),
        ("mailtrap", SET, {"shop": "bulk"}, Stream("bulk")),
    ],
)
def test_stream(own: str, lines: str, streams: dict[str, str], expected: Stream) -> None:
    """The provider's own words and ours go as they are, others' by the map of the configuration, and what has no place is told."""
    assert expected == stream(read(block(lines), DIALECTS, own=own), streams, own)


EVERYTHING = """X-Relay-Tag: t
X-Relay-Metadata-k: v
X-Relay-Metadata-l: w
X-Relay-Stream: s
X-Relay-Configuration-Set: set
X-Relay-Track-Opens: no
X-Relay-Track-Links: no
X-Relay-Template: welcome
X-SES-From-ARN: arn:1
X-SES-List-Management-Options: list
X-SES-Tenant: tenant
X-PM-Bounce-Type: HardBounce
"""


def test_what_is_left_out() -> None:
    """A phrase for each thing asked for that a provider does not take, whatever it was; a template and a contact list are not."""
    asked = read(block(EVERYTHING), DIALECTS)
    unknown = "the control header x-pm-bounce-type is left out: relay does not know it"
    assert [
        "the tag 't' is left out",
        "metadata 'k', 'l' is left out",
        "the stream 's' is left out",
        "open tracking false is left out",
        "link tracking 'None' is left out",
        "the configuration set 'set' is left out",
        "the identity 'arn:1' is left out",
        "the tenant 'tenant' is left out",
        unknown,
    ] == list(left_out(asked))
    taken = ("tag", "metadata", "stream", "track_opens", "track_links", "configuration_set", "identity_arn", "tenant")
    assert (unknown,) == left_out(asked, *taken)
    assert () == left_out(Directives())
    many = left_out(Directives(metadata={str(number): "" for number in range(12)}))
    assert ("metadata '0', '1', '2', '3', '4', '5', '6', '7', '8', '9' and 2 more is left out",) == many


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("news", ("news", "")),
        ("news; topic=weekly", ("news", "weekly")),
        ("contactListName=news; topicName=weekly;", ("news", "weekly")),
        ("ContactListName = news", ("news", "")),
        ("news; weekly", None),
        ("", None),
        ("a b", None),
    ],
)
def test_contact_list(options: str, expected: tuple[str, str] | None) -> None:
    """A contact list is named as Amazon SES has it, or as client libraries write it."""
    assert expected == contact_list(options)


NAMES = [
    "X-MT-Category",
    "X-MT-Custom-Variables",
    "X-SES-Configuration-Set",
    "X-PM-Message-Stream",
    "X-PM-Tag",
    "X-SES-Message-Tags",
    "X-SES-Tenant",
    "X-Relay-Tag",
    "X-Relay-Template-Model",
    "X-PM-Metadata-",
    "X-PM-Metadata-k",
    "X-Relay-Track-Links",
    "X-PM-TrackOpens",
]


WORDS = st.sampled_from(['{"a":"b"}', '{"a":[{}],"\\n":"\\r\\n"}', "a=b, c", "true", "None", "news; topic=a", "bulk", '{"a":1e999}'])
VALUES = st.one_of(st.binary(max_size=40), WORDS.map(str.encode))


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES)), st.sampled_from(["", *DIALECTS, "paubox"]))
def test_any_values(fields: list[tuple[str, bytes]], own: str) -> None:
    """No value of a control header raises, and no line end comes out of one."""
    lines = b"".join(name.encode() + b": " + value.replace(b"\n", b"\n ") + b"\r\n" for name, value in fields)
    found = read(lines, DIALECTS, own=own)
    texts = (found.tag, found.stream, *found.metadata, *found.metadata.values(), *left_out(found), unlisted(found), *stream(found, {}, own))
    assert not any(end in text for text in texts for end in "\r\n\u2028")
    assert len(found.metadata) == len({key.lower() for key in found.metadata})
    assert found.besides_tag.items() <= found.metadata.items()
    contact_list(found.list_management)


@given(st.binary(max_size=300))
def test_any_block(octets: bytes) -> None:
    """Whatever stands where a header should, reading it does not raise."""
    read(octets, DIALECTS)
    read(b"X-PM-" + octets, DIALECTS)
