"""How far something is, on a terminal, once it takes longer than a second. A pipe sees nothing of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

PATIENCE = 1.0  # seconds before anything is shown


@contextmanager
def shown(what: str) -> Iterator[Callable[[int, int], None]]:
    """What to call with (done, of) again and again; `what` stands before the bar. The bar is gone at the end."""
    began, stack = time.monotonic(), ExitStack()
    bar: Callable[[int, int], None] | None = None

    def tell(done: int, of: int) -> None:
        nonlocal bar
        if bar is None:
            if not sys.stderr.isatty() or time.monotonic() - began < PATIENCE:
                return
            bar = _bar(stack, what, done, of)
        bar(done, of)

    with stack:
        yield tell


def _bar(stack: ExitStack, what: str, done: int, of: int) -> Callable[[int, int], None]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task(what, completed=done, total=of)
    return lambda done, of: progress.update(task, completed=done, total=max(of, done))
