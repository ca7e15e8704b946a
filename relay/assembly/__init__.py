"""From the configuration to the parts that do the work: transports, listeners' settings, delivery's settings.

The only room that knows both the configuration's records and the concrete transports. Building a part connects nowhere
and reads nothing but what `certificates` and `users` name. The daemon builds all of them; `relay convert` and `relay
explain` build the transports they ask. `transports` builds those; `halves` tells the listener and delivery their settings.
Fails with CertificateError or UsersError for files that a listener names and that cannot be used.
"""

from relay.assembly.halves import MetricLabels, allowances, delivery_settings, listener_settings, metric_labels
from relay.assembly.transports import (
    AutoSettings,
    TransportSettings,
    all_transport_settings,
    make,
    preset,
    transport_for,
    transport_settings,
)
from relay.config import doors_of, no_delivery, why_no_smtp

__all__ = [
    "AutoSettings",
    "MetricLabels",
    "TransportSettings",
    "all_transport_settings",
    "allowances",
    "delivery_settings",
    "doors_of",
    "listener_settings",
    "make",
    "metric_labels",
    "no_delivery",
    "preset",
    "transport_for",
    "transport_settings",
    "why_no_smtp",
]
