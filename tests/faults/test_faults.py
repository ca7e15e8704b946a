"""A few rounds of each fault test in the suite; the long runs are `python -m tests.faults.kill_loop` (make faults)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.disk import Disk
from tests.faults.harness import CLIENTS, PROVIDERS
from tests.faults.kill_loop import kill_rounds, power_cut_rounds

ROUNDS = int(os.environ.get("RELAY_KILL_ROUNDS", "3"))
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120 + 10 * ROUNDS)]


@pytest.fixture
def powered(tmp_path: Path) -> Path:
    """A directory in which a disk can be mounted, or a skip that says why not."""
    probe = tmp_path / "probe"
    probe.mkdir()
    try:
        Disk(probe).close()
    except OSError as trouble:
        pytest.skip(f"no power cuts here, a loop device must be mounted (as root): {trouble}")
    return tmp_path


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_kill_9_loses_nothing(tmp_path: Path, provider: str) -> None:
    """Every message that got its 250 arrives, by SMTP and in batches by REST; what arrives twice was announced."""
    books = await kill_rounds(tmp_path, ROUNDS, seed=1, provider=PROVIDERS[provider])
    assert len(books.acked) > CLIENTS
    assert (books.lost, books.unexplained, books.damaged) == (set(), set(), 0)


async def test_a_daemon_that_replies_before_the_commit_loses_mail(tmp_path: Path) -> None:
    """The control: the harness sees the loss that the order of commit and 250 prevents."""
    assert (await kill_rounds(tmp_path, ROUNDS, seed=2, module="tests.faults.reply_early")).lost


async def test_a_power_cut_loses_nothing(powered: Path) -> None:
    """What got its 250 is on disk, not only in the kernel's memory."""
    books = await power_cut_rounds(powered, ROUNDS, seed=3)
    assert len(books.acked) > CLIENTS
    assert (books.lost, books.unexplained, books.damaged) == (set(), set(), 0)


async def test_a_daemon_that_does_not_sync_loses_mail_in_a_power_cut(powered: Path) -> None:
    """The control: with synchronous=OFF the same cuts lose mail."""
    assert (await power_cut_rounds(powered, ROUNDS, seed=4, module="tests.faults.no_sync")).lost
