"""The sending half: due entries out of the spool, to a provider, and what became of them back into the spool.

`loop` finds the way and makes the attempts; `closing` writes outcomes down, tells senders and finishes entries.
"""

from relay.delivery.closing import DeliverySettings
from relay.delivery.loop import Delivery, ProviderStatus

__all__ = ["Delivery", "DeliverySettings", "ProviderStatus"]
