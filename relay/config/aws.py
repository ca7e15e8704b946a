"""The kinds of values that only Amazon knows: regions, key IDs, configuration sets, tenants, ARNs."""

from __future__ import annotations

import re
from typing import Any

from relay.config import values
from relay.config.problems import did_you_mean

REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]")
CONFIGURATION_SET = re.compile(r"[A-Za-z0-9_-]{1,64}")
TENANT = CONFIGURATION_SET  # the same alphabet (Amazon SES API v2 reference, TenantName, 2026-11)
IDENTITY_ARN = re.compile(r"arn:aws[a-z-]*:ses:[a-z0-9-]+:[0-9]{12}:identity/[!-~]+")

# The regions of SES that botocore 1.44 knows (2026-11), in all its partitions.
_REGIONS = """
    af-south-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 ap-southeast-1 ap-southeast-2
    ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1 eu-central-1 eu-central-2 eu-north-1
    eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1 us-east-1 us-east-2
    us-west-1 us-west-2 us-gov-east-1 us-gov-west-1 eusc-de-east-1
"""
REGIONS = tuple(_REGIONS.split())


def key_id(value: Any) -> str:
    """The public half of a pair of keys. Not quoted in mistakes: the other half may have been pasted here."""
    return values.token(value).get_secret_value()


def region(value: Any) -> str:
    """An AWS region. Any name of the right form is taken: new ones come every year."""
    written = values.text(value)
    if not REGION.fullmatch(written):
        raise values.mistake(f'"{written}" is not an AWS region', did_you_mean(written, REGIONS) or "write eu-west-1, say")
    return written


def configuration_set(value: Any) -> str:
    """The name of a configuration set of SES."""
    written = values.text(value)
    if not CONFIGURATION_SET.fullmatch(written):
        raise values.mistake(f'"{written}" is not the name of a configuration set', "letters, digits, - and _; at most 64 of them")
    return written


def tenant(value: Any) -> str:
    """The name of a tenant of SES."""
    written = values.text(value)
    if not TENANT.fullmatch(written):
        raise values.mistake(f'"{written}" is not the name of a tenant', "letters, digits, - and _; at most 64 of them")
    return written


def identity_arn(value: Any) -> str:
    """The ARN of an identity in SES."""
    written = values.text(value)
    if not IDENTITY_ARN.fullmatch(written):
        raise values.mistake(f'"{written}" is not the ARN of an SES identity', "write arn:aws:ses:REGION:ACCOUNT:identity/DOMAIN")
    return written
