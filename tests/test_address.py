"""The envelope grammar: other projects' address lists as its table, then our own rules one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.address import AddressError, domain_ascii, key, parse_path, same, split, valid

VECTORS = Path(__file__).parent / "data" / "vectors"

# Where we differ from a list's verdict, and why.
ISEMAIL_EXCEPTIONS = {"71": "taken: RFC 4291 lets `::` stand for one group, RFC 5321 does not; harmless"}
FLANKER_REFUSED = {
    'Bill Gates <"billy"@retired.Micr!osoft99.com>': "a header's display name is no part of a path",
    "Steve Jobs <steve@apple.com>": "display name",
    'Matt "The Matt" Mickiewicz <matt.Mickiewicz@99designs.com>': "display name",
    '"<john@smith.com>" <john@smith.com>': "display name",
    "(this is a comment) test@example.com": "a path has no comments",
    "(this is a comment)test@example.com": "comment",
    "test@example.com(this is a comment)": "comment",
    "test@example.com (this is a comment)": "comment",
    "用户@例子.广告": "non-ASCII local part: no provider can take it",
    "उपयोगकर्ता@उदाहरण.कॉम": "non-ASCII local part",
    "юзер@екзампл.ком": "non-ASCII local part",
    "θσερ@εχαμπλε.ψομ": "non-ASCII local part",
    "Dörte@Sörensen.example.com": "non-ASCII local part",
    "аджай@экзампл.рус": "non-ASCII local part",
}
FLANKER_TAKEN = {"test@xn--example.com": "a label of letters, digits and hyphens; whether an A-label decodes is for the DNS to say"}
JAKARTA_REFUSED = {'"foo..bar".baz@example.com': "quotes around a part of the local part are obsolete syntax (RFC 5322 §4.4)"}


def taken(address: str) -> bool:
    """Whether `RCPT TO:<address> SMTPUTF8` would be accepted as exactly this address."""
    try:
        _, rest = parse_path(b"<" + address.encode("utf-8", "surrogateescape") + b">", smtputf8=True, null=False)
    except AddressError:
        return False
    return rest == b""


def isemail() -> Iterator[tuple[str, str, bool]]:
    for case in json.loads((VECTORS / "isemail.json").read_text(encoding="utf-8")):
        good = case["category"] in {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
        yield case["id"], case["address"], good != (case["id"] in ISEMAIL_EXCEPTIONS)


def flanker(name: str, domain: str = "") -> Iterator[str]:
    for line in (VECTORS / f"flanker-{name}.txt").read_text(encoding="utf-8").split("\n"):
        if line.strip() and not line.startswith("#") and not line.startswith(" " * 40):
            yield re.sub(r"\s{3,}#.*$", "", line) + domain


def jakarta() -> Iterator[tuple[bool, str, str, list[str]]]:
    """(strict, the header's value, what is expected, the addresses expected) of the cases on one line."""
    text = (VECTORS / "jakarta-addrlist.txt").read_text(encoding="utf-8", errors="surrogateescape")
    strict = False
    for block in re.split(r"\n(?=To:|Strict:|Comment:|From)", text):
        if block.startswith("Strict:"):
            strict = "true" in block
        if match := re.match(r"To:(.*)\nExpect:(.*)((?:\n\t.*)*)", block):
            yield strict, match[1].strip(), match[2].strip(), match[3].split()


@pytest.mark.parametrize(("number", "address", "good"), list(isemail()))
def test_isemail(number: str, address: str, good: bool) -> None:
    """Valid for RFC 5321 is taken; valid only for a header, deprecated, or wrong is refused."""
    assert good == taken(address)


@pytest.mark.parametrize("address", [*flanker("mailbox_valid"), *flanker("abridged_localpart_valid", "@example.com")])
def test_flanker_valid(address: str) -> None:
    """What flanker takes we take, except what stands in the list of exceptions."""
    assert (address not in FLANKER_REFUSED) == taken(address)


@pytest.mark.parametrize("address", [*flanker("mailbox_invalid"), *flanker("abridged_localpart_invalid", "@example.com")])
def test_flanker_invalid(address: str) -> None:
    """What flanker refuses we refuse, except what stands in the list of exceptions."""
    assert (address in FLANKER_TAKEN) == taken(address)


@pytest.mark.parametrize("value", sorted({to for _, to, expect, _ in jakarta() if expect.startswith("Exception")}))
def test_jakarta_errors(value: str) -> None:
    """What is an error in a header is no path."""
    assert not taken(value)


@pytest.mark.parametrize("value", sorted({to for strict, to, _, found in jakarta() if strict and found == [to] and "@" in to}))
def test_jakarta_bare_addresses(value: str) -> None:
    """What Jakarta Mail's strict reading takes as one bare address we take."""
    assert (value not in JAKARTA_REFUSED) == taken(value)


@pytest.mark.parametrize(
    ("raw", "address", "rest"),
    [
        (b"<a@b.example>", "a@b.example", b""),
        (b"<a@b.example> SIZE=3 BODY=8BITMIME", "a@b.example", b" SIZE=3 BODY=8BITMIME"),
        (b" <a@b.example>", "a@b.example", b""),
        (b"a@b.example SIZE=3", "a@b.example", b" SIZE=3"),
        (b"<A.b+c@B.Example>", "A.b+c@B.Example", b""),
        (b'<"a b@c\\"> x"@d.example>', '"a b@c\\"> x"@d.example', b""),
        (b"<a@host_1.example>", "a@host_1.example", b""),
        (b"<a@localhost>", "a@localhost", b""),
        (b"<a@[192.0.2.1]>", "a@[192.0.2.1]", b""),
        (b"<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", b""),
        ("<a@bücher.example>".encode(), "a@xn--bcher-kva.example", b""),
        ("<a@BÜCHER.example>".encode(), "a@xn--bcher-kva.example", b""),
        (b"<" + b"l" * 64 + b"@" + b"d" * 63 + b".example>", "l" * 64 + "@" + "d" * 63 + ".example", b""),
    ],
)
def test_a_path_gives_its_address_and_what_follows(raw: bytes, address: str, rest: bytes) -> None:
    """The address is returned as it was written, a non-ASCII domain as A-labels."""
    assert (address, rest) == parse_path(raw, smtputf8=True, null=True)
    assert valid(address)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<",
        b"<a@",
        b'<"',
        b"<a@[",
        b"<a@b.example",
        b"a@b.example>",
        b"<a@b.example>SIZE=3",
        b"<a@b.example>,<c@d.example>",
        b"<a b@c.example>",
        b"<a@b .example>",
        b"<a@@b.example>",
        b"<a>",
        b"<@b.example>",
        b"<a@b..example>",
        b"<a@-b.example>",
        b"<a@b-.example>",
        b"<a@b.example.>",
        b"<a@x.te\rst>",
        b'<"a\rb"@c.example>',
        b"<a\x00@b.example>",
        b"<a\x7f@b.example>",
        b"<a,b@c.example>",
        b"<(c)a@b.example>",
        b"<a@b.example(c)>",
        b"<a@[300.0.2.1]>",
        b"<a@[IPv6:2001:db8::1::2]>",
        b"<a@[IPv6:fe80::1%eth0]>",
        b"<a@[tag:content]>",
        b"<a@\xff.example>",
        "<a@b。example>".encode(),
        "<a@b＠example>".encode(),
        "<a@exa\u2028mple.example>".encode(),
        "<a@exa\u202emple.example>".encode(),
        "<a@exa\u200bmple@example>".encode(),
        b"<" + b"l" * 65 + b"@b.example>",
        b"<a@" + b"d" * 64 + b".example>",
        b"<a@" + b"d." * 130 + b"example>",
        b"<" + b"l" * 64 + b"@" + b"d." * 95 + b"de>",
        b"<=?utf-8?q?victim=40z.test=0d=0a?=@x.test>",
        b'<"=?utf-8?q?victim=40z.test?="@x.test>',
    ],
)
def test_what_is_no_path_is_refused(raw: bytes) -> None:
    """No reading is guessed; the error says whose address it was."""
    with pytest.raises(AddressError, match=r"bad (recipient address|domain)") as caught:
        parse_path(raw, smtputf8=True, null=False)
    assert "syntax" == caught.value.kind


def test_a_source_route_is_named_as_such() -> None:
    """RFC 5321 lets a server strip it; what it says must not decide anything, so it is refused."""
    with pytest.raises(AddressError, match="source routes"):
        parse_path(b"<@a.example,@b.example:c@d.example>", smtputf8=False, null=True)


@pytest.mark.parametrize(
    ("raw", "smtputf8"), [("<é@b.example>", True), ("<é@b.example>", False), ("<a@é.example>", False), ('<"é"@b.example>', True)]
)
def test_non_ascii_is_told_from_plain_mistakes(raw: str, smtputf8: bool) -> None:
    """Without SMTPUTF8 nothing but ASCII is taken; with it still no local part that no provider can take."""
    with pytest.raises(AddressError) as caught:
        parse_path(raw.encode(), smtputf8=smtputf8, null=True)
    assert "utf8" == caught.value.kind


def test_the_null_path_is_for_senders_and_postmaster_for_recipients() -> None:
    """`<>` is a reverse-path only; `<postmaster>` needs no domain as a recipient only (RFC 5321 §4.5.1)."""
    assert ("", b" SIZE=1") == parse_path(b"<> SIZE=1", smtputf8=False, null=True)
    assert ("postmaster", b"") == parse_path(b"<PostMaster>", smtputf8=False, null=False)
    for raw, null in ((b"<>", False), (b"<postmaster>", True), (b"<root>", False)):
        with pytest.raises(AddressError):
            parse_path(raw, smtputf8=False, null=null)


@pytest.mark.parametrize(
    "address", ["", "postmaster", "a@é.example", "é@a.example", "a@[1.2.3]", "a@b.example\n", "a@b.example ", "\ud800@b"]
)
def test_only_what_a_path_can_give_is_valid(address: str) -> None:
    """Stored and configured addresses are held to the same grammar."""
    assert not valid(address)


def test_split_cuts_at_the_last_at_sign() -> None:
    """A quoted local part may hold an `@`; a bare postmaster has no domain."""
    assert ('"a@b"', "c.example") == split('"a@b"@c.example')
    assert ("postmaster", "") == split("postmaster")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("a@b.example", "A@B.EXAMPLE", True),
        ("a@bücher.example", "a@xn--bcher-kva.example", True),
        ('"a"@b.example', "a@b.example", True),
        ('"a\\b c"@b.example', '"ab c"@b.example', True),
        ("POSTMASTER", "postmaster", True),
        ("a@b.example", "a@c.example", False),
        ('"a b"@b.example', '"a  b"@b.example', False),
        ("a@ex\u2028.example", "a@ex.example", False),
    ],
)
def test_addresses_compare_by_what_they_mean(a: str, b: str, expected: bool) -> None:
    """Case, needless quotes and the form of the domain do not matter."""
    assert expected == same(a, b)


def test_a_domain_becomes_a_labels() -> None:
    """Literals and ASCII names stay, in lower case; what is no domain is an error."""
    assert "xn--bcher-kva.example" == domain_ascii("Bücher.Example")
    assert "b.example" == domain_ascii("B.example")
    assert "[ipv6:::1]" == domain_ascii("[IPv6:::1]")
    for bad in ("", "a b", "[1.2.3.4", "[é]", "a。b", "x" * 64, "a." * 128 + "a"):
        with pytest.raises(AddressError):
            domain_ascii(bad)


@given(st.binary(max_size=60), st.booleans(), st.booleans())
def test_any_octets_give_an_address_or_a_named_error(raw: bytes, smtputf8: bool, null: bool) -> None:
    """Never any other exception, and what is returned is ASCII without control characters."""
    try:
        address, rest = parse_path(raw, smtputf8=smtputf8, null=null)
    except AddressError:
        return
    assert address in ("", "postmaster") or valid(address)
    assert raw.endswith(rest)


@given(st.text(max_size=40))
def test_a_key_exists_for_any_text(text: str) -> None:
    """Headers hold anything; comparing must not fail, and a key is its own key for mailboxes."""
    assert same(text, text)
    if valid(text):
        assert key(text) == key(key(text))
