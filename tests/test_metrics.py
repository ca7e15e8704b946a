"""The metrics page: names, labels, zeros from the start, gauges from the spool's counts."""

from __future__ import annotations

import re

from relay.metrics import MOST_REASONS, Metrics
from relay.spool.base import Counts


def page(metrics: Metrics) -> dict[str, float]:
    """Series -> value."""
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    lines = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def made() -> Metrics:
    routes = [("default", "a"), ("default", "b")]
    return Metrics(version="1.2", listeners=["local"], providers=["a", "b"], routes=routes, shadows=[("default", "b")])


def test_known_labels_begin_with_zero() -> None:
    """A rate over the first hour needs the zero before the first mail."""
    found = page(made())
    assert 0 == found['relay_messages_received_total{listener="local"}']
    assert 0 == found['relay_recipients_total{provider="b",route="default",status="bounced"}']
    assert 0 == found['relay_delivery_duration_seconds_count{provider="a"}']
    assert 1 == found['relay_provider_up{provider="a"}']
    assert 0 == found['relay_provider_paused_by_admin{provider="a"}']
    assert 0 == found['relay_shadow_messages_total{provider="b",result="refused",route="default"}']
    assert 0 == found['relay_queue_recipients{provider="a",state="deferred"}']
    assert 0 == found['relay_queue_oldest_seconds{state="hold"}']
    assert 1 == found["relay_config_last_reload_successful"]
    assert 1 == found['relay_build_info{version="1.2"}']
    assert found["process_resident_memory_bytes"] > 0


def test_what_happens_is_counted() -> None:
    """One call, one count."""
    metrics = made()
    metrics.received("local")
    metrics.received("local")
    metrics.rejected("local", "size")
    metrics.rejected("local", "size")
    metrics.recipient("a", "default", "sent")
    metrics.duration("a", 0.2)
    metrics.provider_up("b", False)
    metrics.paused_by_admin("b", True)
    metrics.shadow("b", "default", "lossy")
    metrics.config_loaded(False)
    found = page(metrics)
    assert 1 == found['relay_provider_paused_by_admin{provider="b"}']
    assert 1 == found['relay_shadow_messages_total{provider="b",result="lossy",route="default"}']
    assert 2 == found['relay_messages_received_total{listener="local"}']
    assert 2 == found['relay_messages_rejected_total{listener="local",reason="size"}']
    assert 1 == found['relay_recipients_total{provider="a",route="default",status="sent"}']
    assert 1 == found['relay_delivery_duration_seconds_bucket{le="0.25",provider="a"}']
    assert 0.2 == found['relay_delivery_duration_seconds_sum{provider="a"}']
    assert 0 == found['relay_provider_up{provider="b"}']
    assert 0 == found["relay_config_last_reload_successful"]


def test_the_queue_is_shown_as_counted_last() -> None:
    """Gauges follow the spool down as well as up."""
    metrics = made()
    metrics.set_queue(Counts(3, {("deferred", "a"): 4, ("active", ""): 1}, {"deferred": 100.0, "active": 170.0}, 2), 160.0)
    found = page(metrics)
    assert (4, 1) == (
        found['relay_queue_recipients{provider="a",state="deferred"}'],
        found['relay_queue_recipients{provider="",state="active"}'],
    )
    assert (60, 0) == (found['relay_queue_oldest_seconds{state="deferred"}'], found['relay_queue_oldest_seconds{state="active"}'])
    assert (3, 2) == (found["relay_queue_entries"], found["relay_queue_corrupt_entries"])
    metrics.set_queue(Counts(0, {}, {}, 0), 200.0)
    found = page(metrics)
    assert 0 == found['relay_queue_recipients{provider="a",state="deferred"}']
    assert 'relay_queue_recipients{provider="",state="active"}' not in found
    assert 0 == found['relay_queue_oldest_seconds{state="deferred"}']


def test_budgets_and_ramps_are_shown_as_told_last() -> None:
    """What is told no more is shown no more."""
    metrics = made()
    metrics.set_budgets({("a", "150/10s"): 0.5, ("a", "daily"): 1.0})
    metrics.set_ramps({("default", "a"): 0.75, ("default", "b"): 0.25})
    found = page(metrics)
    assert (0.5, 1) == tuple(found[f'relay_provider_budget_used_ratio{{budget="{what}",provider="a"}}'] for what in ("150/10s", "daily"))
    assert 0.25 == found['relay_ramp_share_ratio{provider="b",route="default"}']
    metrics.set_budgets({("a", "daily"): 0.0})
    metrics.set_ramps({})
    found = page(metrics)
    assert {'relay_provider_budget_used_ratio{budget="daily",provider="a"}': 0.0} == {
        name: value for name, value in found.items() if name.startswith(("relay_provider_budget", "relay_ramp"))
    }


def test_what_is_configured_no_more_is_shown_no_more() -> None:
    """A reload takes the gauges of a provider away and leaves its counters."""
    metrics = made()
    metrics.shadow("b", "default", "carried")
    metrics.configured(listeners=["local"], providers=["a"], routes=[("default", "a")])
    found = page(metrics)
    assert not {'relay_provider_up{provider="b"}', 'relay_provider_paused_by_admin{provider="b"}'} & found.keys()
    assert 1 == found['relay_shadow_messages_total{provider="b",result="carried",route="default"}']


def test_reasons_do_not_grow_without_bound() -> None:
    """A reason made from what a client said cannot fill the memory."""
    metrics = made()
    for number in range(MOST_REASONS + 20):
        metrics.rejected("local", f"r{number}")
    reasons = [name for name in page(metrics) if name.startswith("relay_messages_rejected_total{")]
    assert MOST_REASONS + 1 == len(reasons)
    assert 20 == page(metrics)['relay_messages_rejected_total{listener="local",reason="other"}']


def test_names_have_their_units() -> None:
    """relay_<thing>_<unit>[_total], no address as a label, no _created series."""
    metrics = made()
    metrics.set_budgets({("a", "daily"): 0.5})
    metrics.set_ramps({("default", "a"): 1.0})
    known = {"listener", "reason", "provider", "route", "status", "state", "le", "version", "result", "budget"}
    for name in page(metrics):
        series = name.partition("{")[0]
        assert re.fullmatch(r"(relay|process)_[a-z_]+", series)
        assert not series.endswith("_created")
        assert known >= set(re.findall(r"(\w+)=\"", name))
