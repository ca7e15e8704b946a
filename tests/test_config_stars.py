"""Lines of a configuration as they are shown: whatever may be a secret is starred out."""

from __future__ import annotations

import pytest

from relay.config.model import LATER
from relay.config.section import keys_of
from relay.config.stars import HARMLESS, looks_secret, masked

CANARY = "canary-secret-0000"
SECRETS = {"token", "password", "api_key", "access_key_id", "secret_access_key", "session_token", "smtp_password"} | {
    "smtp_access_key",
    "smtp_secret_key",
}


def test_known_keys_are_secret_only_where_they_should_be() -> None:
    """The words that make a key look secret hit no other key of the format, and all others are known to be harmless."""
    known = {key for section, later in LATER.items() for key in {*keys_of(section), *later}}
    paths = {"key", "auth"}  # starred too where no path stands: a key may have been pasted there
    scheme = {"auth_scheme"}  # the whole header field, with the key in it, may have been written there
    assert SECRETS | paths | scheme == {key for key in known if looks_secret(key)}
    assert known - SECRETS - paths - scheme == HARMLESS


SLIPS = {  # what is written -> what is shown
    "  session_tokn: canary-secret-0000": "  session_tokn: ******************",
    "  paubox: {mode: smtp, api_k@y: 'canary-secret-0000'}": "  paubox: {mode: smtp, api_k@y: ********************}",
    "    api_key canary-secret-0000": "    api_key ******************",
    "  ses: {region: eu-west-1, apikey 'canary-secret-0000'}": "  ses: {region: eu-west-1, apikey ********************}",
    "    password canary-secret-0000 host: mail.example.net": "    password ****************** ***** ****************",
    "  mailtrap: {mode: smtp, to:en: 'canary-secret-0000'}": "  mailtrap: {mode: smtp, to:en: ********************}",
    "  s: {type: smtp, password: canary,secret-0000, port: 587}": "  s: {type: smtp, password: ******************, port: 587}",
    "  s: {type: smtp, password: canary,secret-0000}": "  s: {type: smtp, password: ******************}",
    "  postmark: canary-secret-0000": "  postmark: ******************",
    "  canary-secret-0000   # the old one": "  ******************   * *** *** ***",
    "  BsecretPasswordOfSmtp": "  *********************",
    "listen: [127.0.0.1:2525, 10.0.0.0/8]": "listen: [127.0.0.1:2525, 10.0.0.0/8]",
    "  base_url: https://127.0.0.1:8443/path": "  base_url: https://127.0.0.1:8443/path",
    "  base_url: https://api.lowcodeapi.com/awsses?api_token=at_fake-0000": "  base_url: https://api.lowcodeapi.com/awsses?"
    + "**********************",
    "  base_url: 'https://api.lowcodeapi.com/at_fake-0000/awsses'": "  base_url: 'https://api.lowcodeapi.com/at_*********/awsses'",
    "  - ses-and-others": "  - ses-and-others",
    "  host mail.example.net": "  host mail.example.net",
    "  split: {postmark: 80, apikay: 100..0}": "  split: {postmark: 80, apikay: 100..0}",
    "  users: {00000000-0000-4000-8000-00000000cafe: [a]}": "  users: {************************************: [a]}",
    "    user: 00000000-0000-4000-8000-00000000cafe": "    user: ************************************",
    "match: {header: {List-Unsubscribe: '<https://*'}}": "match: {header: {List-Unsubscribe: '<https://*'}}",
}


@pytest.mark.parametrize("line", SLIPS)
def test_a_slip_of_the_pen_shows_no_secret(line: str) -> None:
    """Only what stands for a key that holds no secret is shown; so a misspelled key, or a value without one, is starred out."""
    assert SLIPS[line] == masked([line])[0]


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_no_single_wrong_character_shows_a_secret(key: str) -> None:
    """Whatever character of a secret's key is missing or wrong, its value is starred out."""
    for place in range(len(key)):
        for other in ("", "x", "@", "-", " "):
            line = f"  ses: {{mode: smtp, {key[:place]}{other}{key[place + 1 :]}: {CANARY}}}"
            assert CANARY not in masked([line])[0], line
