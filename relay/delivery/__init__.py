"""The sending half: due entries out of the spool, to a provider, and what became of them back into the spool.

`loop` claims what is due and splits it by the way it goes; `carry` sees one group to its provider, by its line (`lines`);
`closing` writes outcomes down and finishes entries; `notices` tells senders.
"""

from relay.delivery.loop import Delivery
from relay.delivery.settings import DeliverySettings
from relay.delivery.status import ProviderStatus
from relay.delivery.trouble import SpoolTrouble

__all__ = ["Delivery", "DeliverySettings", "ProviderStatus", "SpoolTrouble"]
