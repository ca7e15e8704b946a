"""What the admin calls tell of providers, ramps and shadows: plain values ready for JSON. Pure."""

from __future__ import annotations

from relay import views
from relay.admin.words import ProviderView, RampView, ShadowView
from relay.budgets import Usage
from relay.views import Json

BY_ADMIN = "paused by an admin"


def provider(view: ProviderView) -> Json:
    """One provider with its standing and its budgets."""
    return {
        "name": view.name,
        "state": view.state,
        "reason": why_not(view),
        "mend": f"relay provider resume {view.name}" if view.by_admin else view.mend,
        "since": views.when(view.since),
        "until": views.when(view.until),
        "waiting": view.waiting,
        "active": view.active,
        "by_admin": view.by_admin,
        "suspect": view.suspect,
        "usage": [_usage(usage) for usage in view.usage],
    }


def why_not(view: ProviderView) -> str:
    """Why a provider is not up; "" where it is."""
    if view.by_admin:
        return BY_ADMIN + (f": {view.reason}" if view.reason not in ("", BY_ADMIN) else "")
    return view.reason


def _usage(usage: Usage) -> Json:
    """What is spent of one limit; `until` is when there is room again, or when a learned pace is forgotten."""
    return {"what": usage.what, "count": usage.count, "used": usage.used, "limit": usage.limit, "until": views.when(usage.until)}


def ramp(view: RampView) -> Json:
    """A route whose shares change by dates, as it stands."""
    return {
        "route": view.route,
        "shares": dict(view.shares),
        "until": views.when(view.until),
        "behind": round(view.behind),
        "held_until": views.when(view.held_until),
        "reason": view.why,
    }


def shadow(view: ShadowView) -> Json:
    """What a shadow has shown so far."""
    counts = {"carried": view.carried, "lossy": view.lossy, "refused": view.refused, "failed": view.failed}
    return {"route": view.route, "provider": view.provider, **counts, "example": view.example}


def corrupt(queue_id: str, why: str) -> Json:
    """An entry that was set aside."""
    told: Json = {"queue_id": queue_id, "queue_name": "corrupt", "arrival_time": None, "message_size": None, "sender": None}
    return {**told, "recipients": [], "reason": why}
