"""Where the API of Amazon SES is in a region. Pure.

As the rules that AWS publishes for its SDKs compute it (botocore 1.44, sesv2 endpoint rule set and partitions, 2026-11). Any
region has an address here, new ones too; only a connection tells whether it exists.
"""

from __future__ import annotations

_USUAL = ("amazonaws.com", "api.aws")
# How the region begins -> the suffix of its endpoints, and of those that are reached by IPv6 too.
_PARTITIONS = {
    "cn-": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "eusc-": ("amazonaws.eu", "api.amazonwebservices.eu"),
    "us-iso-": ("c2s.ic.gov", "api.aws.ic.gov"),
    "us-isob-": ("sc2s.sgov.gov", "api.aws.scloud"),
    "eu-isoe-": ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    "us-isof-": ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
}


def endpoint(region: str, *, fips: bool, dual_stack: bool) -> str:
    """The base URL: with `fips` of the endpoint validated by FIPS 140, with `dual_stack` of the one reached by IPv6 too."""
    plain, dual = next((suffixes for start, suffixes in _PARTITIONS.items() if region.startswith(start)), _USUAL)
    return f"https://email{'-fips' if fips else ''}.{region}.{dual if dual_stack else plain}"
