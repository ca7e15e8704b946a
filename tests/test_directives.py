"""Directives from control headers, in two dialects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.directives import DIALECTS, Directives, read


def block(text: str) -> bytes:
    """A header block of the given lines."""
    return text.replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("Subject: x\nX-Other: y\n", Directives()),
        ("X-PM-Tag: a\nX-PM-Tag: b\n", Directives(tag="a")),
        ("X-PM-Message-Stream: bulk\n", Directives(stream="bulk")),
        ("X-PM-TrackOpens: true\nX-PM-TrackLinks: htmlonly\n", Directives(track_opens=True, track_links="HtmlOnly")),
        ("X-PM-Track-Opens: 0\nX-PM-Track-Links: yes\n", Directives(track_opens=False, track_links="HtmlAndText")),
        ("X-Relay-Track-Opens: On\nX-Relay-Track-Links: false\n", Directives(track_opens=True, track_links="None")),
        ("X-PM-KeepID: true\nX-PM-Bounce-Type: HardBounce\n", Directives()),
        ("X-PM-Tag: theirs\nX-Relay-Tag: ours\nX-Relay-Stream: s\n", Directives(tag="ours", stream="s")),
        (
            "X-PM-Metadata-Order: 1\nX-PM-Metadata-color: red\nX-PM-Metadata-ORDER: 2\nX-Relay-Metadata-Color: blue\nX-PM-Metadata-: x\n",
            Directives(metadata={"Color": "blue", "Order": "1"}),
        ),
        ("X-PM-Metadata-name: =?utf-8?q?J=C3=B6rg=0D=0ABcc:_x?=\n", Directives(metadata={"name": "Jörg Bcc: x"})),
        ("X-PM-Tag:\nX-PM-Metadata-empty:\n", Directives(metadata={"empty": ""})),
        (
            'X-Relay-Template: t\nX-Relay-Template-Model: {"a":\n [1, "ü"]}\nX-Relay-Inline-Css: no\n',
            Directives(template="t", template_model={"a": [1, "ü"]}, inline_css=False),
        ),
        ("X-Relay-Configuration-Set: ours\nX-SES-CONFIGURATION-SET: theirs\n", Directives(configuration_set="ours")),
        ("X-SES-MESSAGE-TAGS: a=b, Order = 7=8 ,\n\tempty=\n", Directives(metadata={"a": "b", "Order": "7=8", "empty": ""})),
        ("X-SES-Message-Tags: a=b\nX-SES-Message-Tags: c=d, a=e\n", Directives(metadata={"a": "b", "c": "d"})),
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
        ("X-SES-Return-Path-ARN: arn:1\nX-SES-Other: x\n", Directives()),
        ("X-Relay-Track-Opens: maybe\n", Directives(ignored=("x-relay-track-opens: 'maybe' is neither true nor false",))),
        ("X-PM-TrackLinks: all\n", Directives(ignored=("x-pm-tracklinks: 'all' is none of None, HtmlAndText, HtmlOnly, TextOnly",))),
    ],
)
def test_read(lines: str, expected: Directives) -> None:
    """Both spellings of Postmark's headers, our own first, metadata without keys that differ only by case."""
    assert expected == read(block(lines), DIALECTS)


@pytest.mark.parametrize("model", ["[1]", "{", '{"a": NaN}', "[" * 5000, "1" * 5000, '{"a":' * 2000])
def test_a_template_model_that_is_no_object(model: str) -> None:
    """A model that cannot be used is refused: without it the template would say something else."""
    found = read(block(f"X-Relay-Template-Model: {model}\n"), ["relay"])
    assert (None, ("x-relay-template-model is not a JSON object",)) == (found.template_model, found.refused)


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


NAMES = [
    "X-SES-Message-Tags",
    "X-SES-Tenant",
    "X-Relay-Tag",
    "X-Relay-Template-Model",
    "X-PM-Metadata-",
    "X-PM-Metadata-k",
    "X-Relay-Track-Links",
    "X-PM-TrackOpens",
]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=40))))
def test_any_values(fields: list[tuple[str, bytes]]) -> None:
    """No value of a control header raises, and no line end comes out of one."""
    found = read(b"".join(name.encode() + b": " + value.replace(b"\n", b"\n ") + b"\r\n" for name, value in fields), DIALECTS)
    assert not any(end in text for text in (found.tag, *found.metadata.values()) for end in "\r\n\u2028")
