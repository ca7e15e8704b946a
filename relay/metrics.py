"""The numbers for Prometheus: counters the rooms raise, gauges set from the spool's counts, one text page.

Series are named `relay_<thing>_<unit>[_total]`; no address is ever a label. Pairs of labels known from the
configuration exist from the start with 0, so that a rate over them is right from the first mail.
Every `Metrics` has a registry of its own. Nothing here raises for what a client or provider did: a rejection reason
beyond a fixed number of different ones is counted as `other`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.process_collector import ProcessCollector

from relay.spool.base import Counts

STATUSES = ("sent", "deferred", "bounced", "expired", "held")
SHADOW_RESULTS = ("carried", "lossy", "refused", "failed")
QUEUE_STATES = ("active", "deferred", "hold")
MOST_REASONS = 50  # different values of the label `reason`
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds

disable_created_metrics()  # type: ignore[no-untyped-call] # a `_created` series beside every counter doubles the page for nothing


class Metrics:
    """What the rooms count. `routes` and `shadows` are (route, provider) pairs; all lists only say which labels begin with 0."""

    def __init__(
        self,
        *,
        version: str = "",
        listeners: Sequence[str] = (),
        providers: Sequence[str] = (),
        routes: Sequence[tuple[str, str]] = (),
        shadows: Sequence[tuple[str, str]] = (),
    ) -> None:
        registry = self._registry = CollectorRegistry()
        self._providers: tuple[str, ...] = ()
        self._reasons: set[str] = set()
        self._received = Counter("relay_messages_received_total", "Messages stored and answered with 250.", ["listener"], registry=registry)
        self._rejected = Counter(
            "relay_messages_rejected_total", "Commands and messages refused to a client.", ["listener", "reason"], registry=registry
        )
        self._recipients = Counter("relay_recipients_total", "Outcomes of recipients.", ["provider", "route", "status"], registry=registry)
        self._duration = Histogram(
            "relay_delivery_duration_seconds", "Time one attempt took.", ["provider"], buckets=BUCKETS, registry=registry
        )
        self._up = Gauge("relay_provider_up", "1 while the provider is used, 0 while it is paused.", ["provider"], registry=registry)
        self._paused_by_admin = Gauge(
            "relay_provider_paused_by_admin", "1 while an admin's pause is in force.", ["provider"], registry=registry
        )
        self._budgets = Gauge(
            "relay_provider_budget_used_ratio", "Used part of a budget, 0 to 1.", ["provider", "budget"], registry=registry
        )
        self._ramps = Gauge(
            "relay_ramp_share_ratio", "A provider's share of a route with a ramp, 0 to 1.", ["route", "provider"], registry=registry
        )
        self._shadows = Counter(
            "relay_shadow_messages_total", "Messages tried with a route's shadow.", ["provider", "route", "result"], registry=registry
        )
        self._queue = Gauge("relay_queue_recipients", "Recipients not finished yet.", ["state", "provider"], registry=registry)
        self._oldest = Gauge(
            "relay_queue_oldest_seconds", "Age of the oldest unfinished entry, 0 without one.", ["state"], registry=registry
        )
        self._entries = Gauge("relay_queue_entries", "Entries not finished yet.", registry=registry)
        self._corrupt = Gauge("relay_queue_corrupt_entries", "Entries set aside because they cannot be read.", registry=registry)
        self._reload = Gauge(
            "relay_config_last_reload_successful", "1 when the configuration was good the last time it was read.", registry=registry
        )
        Gauge("relay_build_info", "Always 1; the version is in the label.", ["version"], registry=registry).labels(version).set(1)
        self.config_loaded(True)
        ProcessCollector(registry=registry)
        self.configured(listeners=listeners, providers=providers, routes=routes, shadows=shadows)
        self.set_queue(Counts(0, {}, {}, 0), 0.0)

    def configured(
        self,
        *,
        listeners: Sequence[str],
        providers: Sequence[str],
        routes: Sequence[tuple[str, str]],
        shadows: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Begin series with these labels; counters of what is configured no more stay, its gauges go."""
        for provider in set(self._providers).difference(providers):
            self._up.remove(provider)
            self._paused_by_admin.remove(provider)
        for provider in set(providers).difference(self._providers):
            self._up.labels(provider).set(1)
            self._paused_by_admin.labels(provider)
            self._duration.labels(provider)
        self._providers = tuple(providers)
        for listener in listeners:
            self._received.labels(listener)
        for route, provider in routes:
            for status in STATUSES:
                self._recipients.labels(provider, route, status)
        for route, provider in shadows:
            for result in SHADOW_RESULTS:
                self._shadows.labels(provider, route, result)

    def received(self, listener: str) -> None:
        """A message was stored."""
        self._received.labels(listener).inc()

    def rejected(self, listener: str, reason: str) -> None:
        """A client was refused; `reason` is one of a small fixed set of words."""
        if reason not in self._reasons:
            if len(self._reasons) >= MOST_REASONS:
                reason = "other"
            self._reasons.add(reason)
        self._rejected.labels(listener, reason).inc()

    def recipient(self, provider: str, route: str, status: str) -> None:
        """One recipient's outcome; `status` is one of `STATUSES`."""
        self._recipients.labels(provider, route, status).inc()

    def duration(self, provider: str, seconds: float) -> None:
        """One attempt took so long."""
        self._duration.labels(provider).observe(seconds)

    def provider_up(self, provider: str, up: bool) -> None:
        """A provider was paused, or resumed."""
        self._up.labels(provider).set(1 if up else 0)

    def paused_by_admin(self, provider: str, paused: bool) -> None:
        """An admin paused a provider, or ended that."""
        self._paused_by_admin.labels(provider).set(1 if paused else 0)

    def shadow(self, provider: str, route: str, result: str) -> None:
        """One message was tried with a route's shadow; `result` is one of `SHADOW_RESULTS`."""
        self._shadows.labels(provider, route, result).inc()

    def set_budgets(self, used: Mapping[tuple[str, str], float]) -> None:
        """Show all budgets as they are now: (provider, budget) -> the used part of it, 0 to 1."""
        self._budgets.clear()
        for labels, part in used.items():
            self._budgets.labels(*labels).set(part)

    def set_ramps(self, shares: Mapping[tuple[str, str], float]) -> None:
        """Show all ramps as they are now: (route, provider) -> its share, 0 to 1."""
        self._ramps.clear()
        for labels, share in shares.items():
            self._ramps.labels(*labels).set(share)

    def config_loaded(self, good: bool) -> None:
        """The configuration was read, at the start or again."""
        self._reload.set(1 if good else 0)

    def set_queue(self, counts: Counts, now: float) -> None:
        """Show the spool's counts as they are at `now`."""
        self._queue.clear()
        for state in QUEUE_STATES:
            for provider in self._providers:
                self._queue.labels(state, provider)
            oldest = counts.oldest.get(state)
            self._oldest.labels(state).set(max(0.0, now - oldest) if oldest is not None else 0)
        for (state, provider), number in counts.recipients.items():
            self._queue.labels(state, provider).set(number)
        self._entries.set(counts.entries)
        self._corrupt.set(counts.corrupt)

    def render(self) -> tuple[bytes, str]:
        """The page and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
