"""AWS signatures against a known vector and against botocore, the reference implementation."""

from __future__ import annotations

import random
import string
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]

from relay.transports.ses.sigv4 import Keys, sign

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def test_a_known_signature() -> None:
    """A request whose signature two implementations agree on."""
    body = (
        b'{"FromEmailAddress": "s@example.com", "Destination": {"ToAddresses": ["a@example.net"]}, "Content": {"Raw": {"Data": '
        b'"RnJvbTogc0BleGFtcGxlLmNvbQ0KVG86IGFAZXhhbXBsZS5uZXQNClN1YmplY3Q6IHgNCg0KaGkNCg=="}}}'
    )
    digest = sha256(body).hexdigest()
    assert "8c631c12b7d807d2048be22784f3cb480b6e1b2b6b386cfeaa674bcd0f313424" == digest
    found = sign(
        "POST",
        "email.us-east-1.amazonaws.com",
        "/v2/email/outbound-emails",
        {"Content-Type": "application/json"},
        digest,
        keys=Keys("AKIDEXAMPLE", SECRET),
        region="us-east-1",
        now=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp(),
    )
    assert {
        "Content-Type": "application/json",
        "X-Amz-Date": "20260102T030405Z",
        "X-Amz-Content-Sha256": digest,
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/ses/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date, "
        "Signature=e7579c0e5f7e56f63056a046157bdd1e16574d8af2153cc8fe7d471b54e1c0da",
    } == found


def some(dice: random.Random, alphabet: str, least: int, most: int) -> str:
    """A random text."""
    return "".join(dice.choices(alphabet, k=dice.randint(least, most)))


@pytest.mark.parametrize("seed", range(300))
def test_as_botocore_signs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random requests (paths beyond ASCII, odd headers, session tokens, unusual ports) are signed octet for octet alike."""
    dice = random.Random(seed)
    host = f"{some(dice, string.ascii_lowercase, 1, 20)}.example" + dice.choice(["", ":8443", ":18182"])
    path = "/" + "/".join(quote(some(dice, string.ascii_letters + "-._~ $&+,;=:@!'()*%äß漢", 1, 12), safe="$&+,;=:@~") for _ in range(3))
    path = path.replace("/.", "/x")  # a path is sent without dot segments
    values = string.ascii_letters + string.punctuation + "   \t"
    names = (some(dice, string.ascii_letters + string.digits + "-_", 1, 12) for _ in range(dice.randint(0, 6)))
    headers = {
        "Content-Type": "application/json",
        **{f"X-Odd-{number}-{name}": some(dice, values, 0, 40) for number, name in enumerate(names)},
    }
    body = some(dice, string.printable + "äß漢😀", 0, 200).encode()
    keys = Keys(
        some(dice, string.ascii_uppercase, 16, 20),
        some(dice, values, 1, 44),
        dice.choice(["", some(dice, string.ascii_letters + "+/=", 1, 400)]),
    )
    region = dice.choice(["eu-west-1", "us-gov-west-1", "cn-north-1", "ap-southeast-7"])
    now = dice.randint(0, 4_000_000_000)
    digest = sha256(body).hexdigest()

    request = AWSRequest("POST", f"https://{host}{path}", {**headers, "X-Amz-Content-SHA256": digest}, body)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(now, UTC))
    SigV4Auth(Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token or None), "ses", region).add_auth(request)

    ours = sign("POST", host, path, headers, digest, keys=keys, region=region, now=now)
    assert request.headers["Authorization"] == ours["Authorization"]
    assert (request.headers["X-Amz-Date"], request.headers["X-Amz-Security-Token"]) == (
        ours["X-Amz-Date"],
        ours.get("X-Amz-Security-Token"),
    )


def test_keys_can_be_printed() -> None:
    """Neither secret nor token is in a repr."""
    assert "Keys(access_key_id='AKIDEXAMPLE')" == repr(Keys("AKIDEXAMPLE", SECRET, "token"))
