"""The budgets over time: what was spent before this start, what the accounts say they allow, and forgetting what counts no more.

Promises: what was stored as spent is counted before the first attempt; an account is asked at the start, after a reload and every
hour, beside everything else. Its last answer is kept in the spool and holds from the next start on, until there is another; what it
never said limits nothing. Each answer that is another than the last is told once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping

from relay.budgets import Budget, Quota, Spent
from relay.delivery.lanes import Lane
from relay.errors import SpoolError
from relay.log import Events
from relay.spool.base import Spool

AGAIN = 3600.0
"""Seconds after which an account is asked again."""
_SOON = 300.0  # seconds after which one that did not say is asked again
_KEY = "quota "


class Quotas:
    """Keeps the budgets of the lanes. `allowed` is called when the accounts were asked; `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        spool: Spool,
        lanes: Callable[[], Mapping[str, Lane]],
        budgets: Callable[[], Mapping[str, Budget]],
        allowed: Callable[[], Awaitable[None]],
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._lanes = lanes
        self._budgets = budgets
        self._allowed = allowed
        self._events = events
        self._clock = clock
        self._news = asyncio.Event()
        self._told: dict[str, str] = {}

    async def load(self, kept: Mapping[str, str]) -> None:
        """Count what was spent before this start, and go by what the accounts said last. Raises SpoolError."""
        rows = [Spent(*row) for row in await self._spool.spent()]
        for name, budget in self._budgets().items():
            if text := kept.get(_KEY + name):
                rate, daily = json.loads(text)
                budget.asked(Quota(rate, daily, 0), self._clock())
            budget.load(rows, self._clock())

    def look(self) -> None:
        """Ask the accounts now: the configuration is another."""
        self._told.clear()
        self._news.set()

    async def run(self) -> None:
        """Ask and forget, for ever."""
        while True:
            self._news.clear()
            said = await asyncio.gather(*(self._ask(name, lane) for name, lane in list(self._lanes().items())))
            with contextlib.suppress(SpoolError):  # the loop is in the same trouble and tells it
                await self._allowed()
                await self._forget()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN if all(said) else _SOON):
                    await self._news.wait()

    async def _ask(self, name: str, lane: Lane) -> bool:
        """Whether there is nothing to ask, or it was answered."""
        allowance = lane.budget.allowance
        if lane.budget.name != name:  # another provider's account, which is asked for itself
            return True
        if not (allowance.ask_rate or allowance.ask_daily):
            return True
        try:
            quota = await lane.transport.quota()
        except Exception as error:  # a mistake of ours must not end the others' asking
            self._events.bug(f"asking the account of {name}", error)
            return False
        if quota is None:
            why = lane.transport.quota_unread or "the account does not say what it allows"
            if self._news_of(name, why):
                self._events.quota_unread(name, why)
            return False
        lane.budget.asked(quota, self._clock())
        lane.gate.look()
        if self._news_of(name, _text(quota)):
            self._events.quota_read(name, _text(quota))
            with contextlib.suppress(SpoolError):  # it is asked again at the next start
                await self._spool.keep(_KEY + name, json.dumps([quota.rate, quota.daily]))
        return True

    def _news_of(self, name: str, said: str) -> bool:
        news = self._told.get(name) != said
        self._told[name] = said
        return news

    async def _forget(self) -> None:
        now = self._clock()
        before: dict[str, float] = {}
        for budget in self._budgets().values():
            before.update(budget.stale(now))
        if before:
            await self._spool.forget_spent(before)


def _text(quota: Quota) -> str:
    rate = f"{quota.rate:g} a second" if quota.rate is not None else "no rate"
    daily = f"{quota.daily:,} in 24 hours" if quota.daily is not None else "no daily quota"
    return f"{rate}, {daily}"
