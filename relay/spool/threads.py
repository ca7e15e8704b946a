"""What may wait for the disk is done in a thread, so that the event loop never does. What the work raises, its caller hears."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

_T = TypeVar("_T")


async def on(threads: Executor, function: Callable[[], _T]) -> _T:
    """Call `function` in one of these threads."""
    return await asyncio.get_running_loop().run_in_executor(threads, function)
