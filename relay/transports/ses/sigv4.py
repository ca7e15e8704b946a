"""AWS Signature Version 4 for requests without a query, their body known by its digest. Pure.

AWS General Reference 2026-11, "Create a signed AWS API request"; the signing name of Amazon SES is `ses`.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Keys:
    """What a request is signed with; `session_token` belongs to temporary keys."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def sign(
    method: str, host: str, path: str, headers: Mapping[str, str], digest: str, *, keys: Keys, region: str, now: float
) -> dict[str, str]:
    """`headers` with those that prove who asks. `host` and `path` are as sent, the port too where it is not the usual one;
    `digest` is the SHA-256 of the body in hex, `now` Unix seconds. Every header given is signed."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    steps = (moment[:8], region, "ses", "aws4_request")
    scope = "/".join(steps)
    fields = {**headers, "X-Amz-Date": moment, "X-Amz-Content-Sha256": digest}
    if keys.session_token:
        fields["X-Amz-Security-Token"] = keys.session_token
    signed = {name.lower(): " ".join(value.split()) for name, value in {**fields, "Host": host}.items()}
    names = ";".join(sorted(signed))
    lines = [f"{name}:{signed[name]}" for name in sorted(signed)]
    canonical = "\n".join([method, quote(path, safe="/~"), "", *lines, "", names, digest])
    text = "\n".join([_ALGORITHM, moment, scope, sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys.secret_access_key}".encode()
    for step in steps:
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return {
        **fields,
        "Authorization": f"{_ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}",
    }
