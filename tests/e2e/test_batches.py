"""A backlog for an API that counts requests: it leaves in batches, and every mail once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bench import batches

HARNESS = os.environ.get("RELAY_BENCH")
SINKS = {"ours": None, "another's": Path(HARNESS, "httpsink.py") if HARNESS else None}


@pytest.mark.e2e
@pytest.mark.parametrize("whose", SINKS)
async def test_a_backlog_leaves_in_few_requests(tmp_path: Path, whose: str) -> None:
    """2,000 queued mails to an API that takes 150 requests in 10 seconds: all are taken, within ten requests of 500."""
    sink = SINKS[whose]
    if whose != "ours" and sink is None:
        pytest.skip("RELAY_BENCH names no other sink")
    found = await asyncio.to_thread(batches.run, tmp_path, sink, mails=2000, most=500, patience=60)
    assert 2000 == found.mails
    assert found.requests <= 10
