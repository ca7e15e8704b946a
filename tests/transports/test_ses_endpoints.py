"""Endpoints of Amazon SES against the rules that botocore resolves them by."""

from __future__ import annotations

import pytest
from botocore.endpoint_provider import EndpointProvider  # type: ignore[import-untyped] # it has no types
from botocore.session import Session  # type: ignore[import-untyped] # it has no types

from relay.transports.presets import ses
from relay.transports.ses.endpoints import endpoint
from relay.transports.ses.request import SesSettings

SESSION = Session()
LOADER = SESSION.get_component("data_loader")
PROVIDER = EndpointProvider(LOADER.load_service_model("sesv2", "endpoint-rule-set-1"), LOADER.load_data("partitions"))
REGIONS = sorted(
    {
        region
        for partition in SESSION.get_available_partitions()
        for service in ("sesv2", "sqs")  # sqs is in every region, and SES may come
        for region in SESSION.get_available_regions(service, partition)
    }
)


@pytest.mark.parametrize("region", [*REGIONS, "eu-north-7", "mx-south-2", "us-gov-south-3", "cn-west-4", "us-isof-west-9"])
@pytest.mark.parametrize("fips", [False, True])
@pytest.mark.parametrize("dual_stack", [False, True])
def test_as_botocore_computes_it(region: str, fips: bool, dual_stack: bool) -> None:
    """Every region of every partition, and regions to come."""
    resolved = PROVIDER.resolve_endpoint(Region=region, UseFIPS=fips, UseDualStack=dual_stack)
    assert resolved.url == endpoint(region, fips=fips, dual_stack=dual_stack)
    assert resolved.url == SesSettings("ses", region, fips=fips, dual_stack=dual_stack).url


@pytest.mark.parametrize("region", REGIONS)
def test_the_smtp_host_ends_as_the_endpoint(region: str) -> None:
    """The SMTP door of a region is in the same domain as its API."""
    assert f"email-smtp.{endpoint(region, fips=False, dual_stack=False).removeprefix('https://email.')}" == ses(region, "").host


def test_all_regions_are_looked_at() -> None:
    """The list is not empty by mistake."""
    assert {"eu-west-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "eusc-de-east-1", "ap-east-2"} <= set(REGIONS)


def test_another_endpoint() -> None:
    """What the configuration names is taken as it is."""
    assert "http://127.0.0.1:1/aws" == SesSettings("ses", "eu-west-1", base_url="http://127.0.0.1:1/aws", fips=True).url
