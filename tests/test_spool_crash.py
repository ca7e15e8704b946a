"""What a crash leaves: `kill -9` before every single touch of the disk, then open again and look (docs/spool.md)."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.errors import SpoolBusy
from relay.model import Entry, State
from relay.spool.base import Filter, Spool
from tests.spools import NOW, Clock, accept, leased, open_sqlite

ROOT = Path(__file__).parent.parent


async def check(directory: Path, acks: dict[str, str], accepted: Sequence[str]) -> None:
    """Whatever was acknowledged is there, and nothing else but what was under way."""
    spool = await open_sqlite(directory, Clock(NOW - 100))
    try:
        found = {e.queue_id: e for state in ("", "finished") for e in await spool.find(Filter(state=state), 10)}
        found |= {queue_id: e for queue_id in await spool.unclosed() if (e := await spool.entry(queue_id))}
        assert set(accepted) <= set(found)
        assert len(found) <= len(accepted) + ("accepted 3" not in acks)
        assert [] == list(await spool.corrupt())
        for entry in found.values():
            states = {state.state for state in entry.recipients}
            if entry.finished is None:
                message = await spool.message(entry.queue_id)
                assert entry.facts.size == len(await message.read())
            if states == {State.QUEUED}:
                # Delivery begins again, and knows of the attempt that may have gone out.
                begun = [b for b in await spool.unfinished() if b.queue_id == entry.queue_id]
                if entry.queue_id == acks.get("accepted 2") and "begun" in acks:
                    assert [acks["begun"]] == [str(b.attempt) for b in begun]
                    assert ("a@example.net", "b@example.net") == begun[0].recipients
            elif entry.recipients[0].recipient.address == "c@example.net":
                assert ({State.DELETED}, NOW + 7) == (states, entry.finished)
            else:
                assert {State.RELAYED} == states
        second = found.get(acks.get("accepted 2", ""))
        if "recorded" in acks:
            assert second is not None
            assert {State.RELAYED} == {state.state for state in second.recipients}
            assert [] == [b for b in await spool.unfinished() if b.queue_id == second.queue_id]
        if "finished" in acks:
            assert second is not None
            assert second.finished == NOW + 4
        await check_decisions(spool, acks, found.get(acks.get("accepted 3", "")))
        names = {path.name for path in (directory / "spool" / "bodies").iterdir()}
        assert names <= {queue_id for queue_id, entry in found.items() if entry.finished is None}
        fresh = spool.incoming(NOW - 100).queue_id
        assert fresh > max(found)
        due = [e.queue_id for e in await spool.claim(NOW + 9, 10, 60) if leased(e, NOW + 9)]
        assert sorted(due) == sorted(q for q, e in found.items() if e.open)
    finally:
        await spool.close()


async def check_decisions(spool: Spool, acks: dict[str, str], third: Entry | None) -> None:
    """What was spent, kept and rerouted is as it was acknowledged; a delete too."""
    if "begun" in acks:
        assert [("p daily", NOW + 2, 2)] == list(await spool.spent())
    if "kept" in acks:
        assert {"paused q": "why"} == await spool.kept()
    if third:
        vias = [state.via for state in third.recipients]
        assert vias in ([("q",), ()], [(), ()])
        assert "rerouted" not in acks or vias == [("q",), ()]
        assert "deleted" not in acks or third.finished == NOW + 7


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_kill_at_any_point_loses_nothing_and_invents_nothing(tmp_path: Path, size: str) -> None:
    """Accepted is never lost, unaccepted never appears, begun is reported, recorded and finished stay so, ids go on rising."""
    subprocess.run([sys.executable, "-m", "tests.spool_killed", tmp_path, size], cwd=ROOT, check=True, timeout=60)
    rounds = sorted(tmp_path.glob("*.acks"), key=lambda path: int(path.stem))
    assert len(rounds) > 25
    for path in rounds:
        lines = [line.split() for line in path.read_text().splitlines()]
        accepted = [line[1] for line in lines if line[0] == "accepted"]
        acks = {line[0]: line[-1] for line in lines if line[0] != "accepted"}
        acks |= {f"accepted {n}": queue_id for n, queue_id in enumerate(accepted, 1)}
        asyncio.run(check(path.with_suffix(""), acks, accepted))
    assert "closed" in rounds[-1].read_text()


async def test_a_cancelled_commit_leaves_all_or_nothing(tmp_path: Path) -> None:
    """Small or large, at whatever turn of the loop its caller goes away."""
    spool = await open_sqlite(tmp_path, Clock())
    for body in (b"\r\nsmall\r\n", b"\r\n" + b"x" * 600_000):
        for turns in range(0, 40, 3):
            task = asyncio.create_task(accept(spool, body=body))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    await spool.close()
    spool = await open_sqlite(tmp_path, Clock())
    entries = await spool.find(Filter(), 1000)
    for entry in entries:
        assert entry.facts.size == len(await (await spool.message(entry.queue_id)).read())
    kept = {path.name for path in (tmp_path / "spool" / "bodies").iterdir()}
    assert kept == {entry.queue_id for entry in entries if entry.facts.size > 1000}
    assert [] == list(await spool.corrupt())
    await spool.close()


STRACE = shutil.which("strace")
FSYNC_FAILS = """
import asyncio, os, sys
from pathlib import Path
from relay.errors import SpoolError
from tests.spools import Clock, accept, open_sqlite

async def main():
    spool = await open_sqlite(Path(sys.argv[1]), Clock())
    for n in range(8):
        try:
            print("accepted", (await accept(spool)).queue_id, flush=True)
        except SpoolError as error:
            print("failed", error, "healthy" if spool.health().ok else "unhealthy", flush=True)
            if sys.argv[2] == "die":
                os._exit(0)
            print("probe", "healthy" if (await spool.probe(0)).ok else "unhealthy", flush=True)
    await spool.close()

asyncio.run(main())
"""


def under_strace(directory: Path, when: str, end: str) -> list[list[str]]:
    """Run the script above while the fdatasync calls of each thread fail as `when` says; returns the words of its lines."""
    assert STRACE
    inject = ["-f", "-qq", "-o", f"{directory}.strace", "-e", "trace=fdatasync", "-e", f"inject=fdatasync:error=EIO:when={when}"]
    ran = subprocess.run(
        [STRACE, *inject, sys.executable, "-c", FSYNC_FAILS, directory, end],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if ran.returncode or "INJECTED" not in Path(f"{directory}.strace").read_text():
        pytest.skip(f"strace cannot inject errors here: {ran.stderr[:200]}")
    return [line.split() for line in ran.stdout.splitlines()]


@pytest.mark.skipif(STRACE is None, reason="strace is not installed: what a failing fsync does was NOT tested")
@pytest.mark.parametrize("end", ["go on", "die"])
@pytest.mark.parametrize("when", ["15", "16..18"])
async def test_a_failed_sync_is_never_answered_as_stored(tmp_path: Path, when: str, end: str) -> None:
    """The commit fails, the spool is unhealthy until a test write worked, and what failed never appears, even when the
    process dies at once: its frames are cut from the WAL."""
    directory = tmp_path / "one"
    directory.mkdir()
    lines = await asyncio.to_thread(under_strace, directory, when, end)
    assert ["unhealthy"] * sum(line[0] == "failed" for line in lines) == [line[-1] for line in lines if line[0] == "failed"]
    spool = await open_sqlite(directory, Clock())
    assert [line[1] for line in lines if line[0] == "accepted"] == [entry.queue_id for entry in await spool.find(Filter(), 20)]
    assert any(line[0] == "failed" for line in lines)
    if end == "go on":
        assert "accepted" == lines[-1][0]
    await spool.close()


def test_a_killed_daemon_leaves_the_lock_free(tmp_path: Path) -> None:
    """A second daemon is refused with the first one's pid while that lives, and let in when it was killed."""
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom tests.spools import Clock, open_sqlite\n"
        "async def main():\n    await open_sqlite(Path(sys.argv[1]), Clock())\n    print('open', flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )

    async def second() -> None:
        await (await open_sqlite(tmp_path, Clock())).close()

    with subprocess.Popen([sys.executable, "-c", script, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert "open\n" == first.stdout.readline()
        with pytest.raises(SpoolBusy, match=rf"pid {first.pid}\b"):
            asyncio.run(second())
        first.kill()
        first.wait()
    asyncio.run(second())
    assert f"{os.getpid()}\n" == (tmp_path / "spool" / "lock").read_text()
