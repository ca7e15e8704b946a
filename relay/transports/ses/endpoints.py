"""Where the API of Amazon SES is in a region. Pure.

As the rules that AWS publishes for its SDKs compute it (botocore 1.44, sesv2 endpoint rule set and partitions, 2026-11). Any
region has an address here, new ones too; only a connection tells whether it exists.
"""

from __future__ import annotations

from relay.transports.presets import ses_suffixes


def endpoint(region: str, *, fips: bool, dual_stack: bool) -> str:
    """The base URL: with `fips` of the endpoint validated by FIPS 140, with `dual_stack` of the one reached by IPv6 too."""
    plain, dual = ses_suffixes(region)
    return f"https://email{'-fips' if fips else ''}.{region}.{dual if dual_stack else plain}"
