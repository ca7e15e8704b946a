"""The lines before providers, one for each route: what a full one cannot take waits in the spool, and is called from there when
there is room.

Promises: who waits goes before who comes; as many are called as there is room for, so that nobody is sent back; nobody is
forgotten, whatever became of those who were called before; and mail of one route never stands in another's line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relay.delivery.lanes import CALLED, Group, Lane, Line
from relay.delivery.notices import Insist
from relay.model import line_key
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
        line = lane.line_of(group.route.name)
        if group.called:
            line.called = max(line.called - len(group.states), 0)
        if line.line >= lane.room or (line.crowded and line.line and not group.called):
            line.crowded = True
            return False
        line.line += 1
        return True

    async def leave(self, name: str, lane: Lane, group: Group, *, call: bool) -> None:
        """One has left the line: call others when half of it is empty."""
        route = group.route.name
        line = lane.line_of(route)
        line.line -= 1
        if call and line.crowded and line.line + line.called <= lane.room // 2:
            await self._call(name, lane, route, line)
        if call and line.crowded and not line.line:
            self._due_at(self._clock())  # for `call_for_empty`
        if line.idle:
            lane.lines.pop(route, None)

    async def call_for_empty(self, lanes: Mapping[str, Lane]) -> None:
        """Call those who wait for room in a line where nobody is any more, when nothing else is due: whoever was called before may
        have gone another way since (a pause, a deletion), and nobody else would call."""
        empty = [(name, lane, *one) for name, lane in lanes.items() for one in lane.lines.items()]
        for name, lane, route, line in empty:
            if line.crowded and not line.line:
                line.called = 0
                await self._call(name, lane, route, line)

    async def _call(self, name: str, lane: Lane, route: str, line: Line) -> None:
        """Call as many as there is room for, once: a batch leaves the line all together, and who was called is as good as in it."""
        if line.calling:
            return
        room = lane.room - line.line - line.called
        line.calling, line.called = True, line.called + room
        try:
            woken = await self._insist(lambda: self._spool.wake(line_key(name, route), CALLED, room))
        finally:
            line.calling = False
        line.called = max(line.called + woken - room, 0)
        line.crowded = woken > 0
