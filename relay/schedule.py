"""When the next attempt is made. Pure: the clock's reading and a random number are arguments.

The last step of a schedule repeats until the entry expires. Jitter spreads what was deferred together, so that a
provider that comes back is not met by everything at once.
"""

from __future__ import annotations

from collections.abc import Sequence

JITTER = 0.1
PAUSE_STEPS = (15.0, 30.0, 60.0, 120.0, 300.0)
THROTTLE_STEPS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
LONGEST_RETRY_AFTER = 3600.0


def delay(steps: Sequence[float], count: int, chance: float) -> float:
    """Seconds to wait after the `count`-th failure (from 1), give or take `JITTER`; `chance` is uniform in [0, 1)."""
    step = steps[min(max(count, 1), len(steps)) - 1]
    return step * (1 + JITTER * (2 * chance - 1))


def next_attempt(now: float, steps: Sequence[float], attempts: int, chance: float, expires: float) -> float:
    """When a deferred recipient is tried again (Unix seconds). Never after `expires`: then it is time to give up."""
    return min(now + delay(steps, attempts, chance), max(expires, now))


def pause(steps: Sequence[float], failures: int, chance: float, retry_after: float | None) -> float:
    """Seconds a provider is left alone after its `failures`-th refusal in a row. What the provider asked for is honoured up to
    an hour, and never shortens our own step: `Retry-After: 0` must not make us hammer."""
    return max(delay(steps, failures, chance), min(retry_after or 0.0, LONGEST_RETRY_AFTER))
