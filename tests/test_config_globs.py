"""Patterns of mail addresses: which are refused, and what to write in their place."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from relay import address, routing
from relay.config import globs

MENDS = {
    "example.com": 'did you mean "*@example.com"?',
    "root": 'did you mean "root@*"?',
    "MAILER-DAEMON": 'the null reverse-path is written "<>"',
    "@example.com": 'did you mean "*@example.com"?',
    " *@example.com ": 'did you mean "*@example.com"?',
    "*@a.example, *@b.example": 'write a list: ["*@a.example", "*@b.example"]',
    "*@a.example;*@b.example": 'write a list: ["*@a.example", "*@b.example"]',
    "a b@example.com": "write the address alone",
    "Dev <dev@example.com>": "write the address alone",
    "Shop <*@example.com>": "write the address alone",
    r".*@example\.com": 'this is a glob, no regular expression: did you mean "*@example.com"?',
    r"^app.+@example\.com$": 'this is a glob, no regular expression: did you mean "app*@example.com"?',
    ".example.com": 'this is a glob, no regular expression: did you mean "*.example.com"?',
}


@pytest.mark.parametrize("glob", MENDS)
def test_what_no_address_fits_is_refused(glob: str) -> None:
    """With what was probably meant, which is taken where it is a pattern."""
    with pytest.raises(PydanticCustomError) as caught:
        globs.address_glob(glob)
    assert {"text": f'"{glob}" never matches an address', "mend": MENDS[glob]} == caught.value.context
    if "did you mean" in MENDS[glob]:
        assert globs.address_glob(MENDS[glob].split('"')[1])


_ADDRESSES = st.from_regex(r"[ab.*?$^\\,x-]{1,3}@[ab.x-]{1,5}", fullmatch=True).filter(address.valid)


@given(glob=st.text(alphabet="ab.@*?[]!x,; <>$^\\-", min_size=1, max_size=9), to=_ADDRESSES)
@example(glob="a?b.x", to="a@b.x")
@example(glob="[ab]@b.x", to="a@b.x")
@example(glob="[,]@b.x", to="a@b.x")
@example(glob="a[@]b.x", to="a@b.x")
def test_what_an_address_fits_is_taken(glob: str, to: str) -> None:
    """A pattern is never refused for nothing."""
    with contextlib.suppress(PydanticCustomError):
        globs.glob(glob)
        if routing.matches(glob, to):
            assert glob == globs.address_glob(glob)


@pytest.mark.parametrize(
    ("written", "read"),
    [("*@bücher.example", "*@xn--bcher-kva.example"), ("a@*.Bücher.example", "a@*.xn--bcher-kva.example"), ("*@x.example", "*@x.example")],
)
def test_a_domain_of_another_script_is_compared_as_it_is_stored(written: str, read: str) -> None:
    """A route or a guard for it would otherwise take nothing."""
    assert read == globs.address_glob(written)


def test_a_wildcard_within_a_label_of_another_script_is_a_mistake() -> None:
    """It could match nothing that is stored."""
    with pytest.raises(PydanticCustomError, match="its domain is no name"):
        globs.address_glob("*@bü*.example")
