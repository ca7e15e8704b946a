"""The admin API: its calls (`api`: `looking` and `acting`) and how they are served (`server`)."""

from relay.admin.api import Api
from relay.admin.server import Admin
from relay.admin.words import Context, ProviderView

__all__ = ["Admin", "Api", "Context", "ProviderView"]
