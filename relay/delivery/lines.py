"""The lines before providers, one for each route: what a full one cannot take waits in the spool, and is called from there when
there is room.

Promises: who waits goes before who comes; as many are called as there is room for, so that nobody is sent back; nobody is
forgotten, whatever became of those who were called before; and mail of one route never stands in another's line. When what many
wait for is over, they go by these lines too (`line_up`): a few of each route at a time, however many the others are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from relay.delivery.lanes import CALLED, LANE, Group, Lane, Line
from relay.delivery.notices import Insist
from relay.model import line_key, line_of
from relay.spool.base import Spool


class Lines:
    """The lines of all providers. `lanes` are looked at whenever somebody is called; `due_at` is told of times at which something
    falls due."""

    def __init__(
        self,
        *,
        spool: Spool,
        lanes: Callable[[], Mapping[str, Lane]],
        insist: Insist,
        due_at: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._lanes = lanes
        self._insist = insist
        self._due_at = due_at
        self._clock = clock
        self._strays: set[str] = set()  # keys of lines before providers that are not configured any more

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

    async def line_up(self, key: str | None) -> None:
        """What was waited for is over: who waits for `key` (with None: for anything) goes by the line of its route. Raises SpoolError."""
        for one in await self._spool.line_up(key):
            self.await_turn(one)
        await self.call_for_empty(all_due_came=False)

    def await_turn(self, key: str) -> None:
        """Somebody waits in the spool for the turn of its line, whose `line_key` this is."""
        provider = line_of(key)
        lane = self._lanes().get(provider)
        line = lane.line_of(key.removeprefix(line_key(provider, ""))) if lane else None
        if line:
            line.crowded = True
        else:
            self._strays.add(key)
        if line is None or not line.line:
            self._due_at(self._clock())  # for `call_for_empty`

    async def call_for_empty(self, *, all_due_came: bool) -> None:
        """Call those who wait for room in a line that has some, where nobody else would: whoever was called before may have gone
        another way (a pause, a deletion). `all_due_came`: nothing was due any more, so nobody who was called is still on its way."""
        lines = [(name, lane, *one) for name, lane in self._lanes().items() for one in lane.lines.items()]
        for name, lane, route, line in lines:
            if all_due_came and not line.calling:
                line.called = 0
            if line.crowded and line.line + line.called <= lane.room // 2:
                await self._call(name, lane, route, line)
            if line.idle and lane.lines.get(route) is line:
                del lane.lines[route]
        for key in list(self._strays) if all_due_came else ():
            if not await self._insist(partial(self._spool.wake, key, CALLED, LANE)):
                self._strays.discard(key)

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
