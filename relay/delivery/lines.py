"""The lines before providers: what a full one cannot take waits in the spool, and is called from there when there is room.

Promises: who waits goes before who comes; as many are called as there is room for, so that nobody is sent back; and nobody
is forgotten, whatever became of those who were called before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relay.delivery.lanes import CALLED, Group, Lane
from relay.delivery.notices import Insist
from relay.model import IN_LINE
from relay.spool.base import Spool


class Lines:
    """The lines of all providers. `due_at` is told of times at which something falls due."""

    def __init__(self, *, spool: Spool, insist: Insist, due_at: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._spool = spool
        self._insist = insist
        self._due_at = due_at
        self._clock = clock

    @staticmethod
    def enter(lane: Lane, group: Group) -> bool:
        """Whether there is room for the group, which is in line then. An empty line takes whoever comes, so that there is always
        somebody who calls the others."""
        if group.called:
            lane.called = max(lane.called - len(group.states), 0)
        if lane.line >= lane.room or (lane.crowded and lane.line and not group.called):
            lane.crowded = True
            return False
        lane.line += 1
        return True

    async def call_after(self, name: str, lane: Lane) -> None:
        """One has left the line: call others when half of it is empty."""
        if lane.crowded and lane.line + lane.called <= lane.room // 2:
            await self._call(name, lane)
        if lane.crowded and not lane.line:
            self._due_at(self._clock())  # for `call_for_empty`

    async def call_for_empty(self, lanes: Mapping[str, Lane]) -> None:
        """Call those who wait for room in a line where nobody is any more, when nothing else is due: whoever was called before may
        have gone another way since (a pause, a deletion), and nobody else would call."""
        for name, lane in list(lanes.items()):
            if lane.crowded and not lane.line:
                lane.called = 0
                await self._call(name, lane)

    async def _call(self, name: str, lane: Lane) -> None:
        """Call as many as there is room for, once: a batch leaves the line all together, and who was called is as good as in it."""
        if lane.calling:
            return
        room = lane.room - lane.line - lane.called
        lane.calling, lane.called = True, lane.called + room
        try:
            woken = await self._insist(lambda: self._spool.wake(key(name), CALLED, room))
        finally:
            lane.calling = False
        lane.called = max(lane.called + woken - room, 0)
        lane.crowded = woken > 0


def key(provider: str) -> str:
    """The key under which recipients wait for room in a provider's line."""
    return provider + IN_LINE
