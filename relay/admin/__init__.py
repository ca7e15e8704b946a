"""The admin API: its calls (`api`) and how they are served (`server`)."""

from relay.admin.api import Api, Context
from relay.admin.server import Admin

__all__ = ["Admin", "Api", "Context"]
