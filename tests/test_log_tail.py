"""The log as it goes by: who listens gets every line, who is slow is told, and nobody is waited for."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from relay import log
from tests.logs import ID, PID, undone
from tests.test_log_schema import fits


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; everything is put back afterwards."""
    with undone():
        yield io.StringIO()


async def objects(lines: log.Subscription, count: int) -> list[dict[str, Any]]:
    """The next lines as JSON."""
    return [json.loads(await anext(lines)) for _ in range(count)]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_subscriber_gets_object_and_text_of_each_line(stream: io.StringIO, form: str) -> None:
    """From when it subscribes on; the object fits the schema, the text is the whole line, whatever the log's own form is."""
    tail = log.setup(stream=stream, environ={}, form=form, hostname="mx.example.com", secrets=["canary-secret-0000"])
    log.Events().warning("before")
    with tail.subscribe() as lines:
        log.Events().removed(ID)
        log.Events().reload_refused(["canary-secret-0000"])
        removed, refused = await objects(lines, 2)
    text, more = removed.pop("line"), refused.pop("line")
    fits(removed)
    assert text.endswith(f" mx relay/qmgr{PID}: {ID}: removed")
    assert ["[secret]", 2] == [refused["problems"][0], len(more.splitlines())]
    assert "canary" not in more
    log.Events().warning("after")
    assert [] == [line async for line in lines]


async def test_each_subscriber_has_lines_of_its_own(stream: io.StringIO) -> None:
    """One that leaves takes nothing from the others; while nobody listens nothing is kept."""
    tail = log.setup(stream=stream, environ={})
    assert not tail.listening
    first, second = tail.subscribe(), tail.subscribe()
    log.Events().removed(ID)
    first.close()
    log.Events().stopped("x")
    assert tail.listening
    second.close()
    assert not tail.listening
    assert ["removed"] == [json.loads(line)["event"] async for line in first]
    assert ["removed", "stopped"] == [json.loads(line)["event"] async for line in second]


def check_missing(line: str, count: int) -> None:
    """The line says that so many are missing, as a line of the log does."""
    missing = json.loads(line)
    text = f"{count} log lines are missing here: they came faster than they were read"
    assert ("warning", text) == (missing["level"], missing["text"])
    assert missing.pop("line").endswith(f" relay/master{PID}: warning: {text}")
    fits(missing)


async def test_a_slow_subscriber_is_told_how_many_lines_it_missed() -> None:
    """At the place where they are missing, whether lines follow or not; no more is kept than there is room for."""
    tail = log.Tail(room=3)
    with tail.subscribe() as lines:
        for number in range(10):
            tail.put(str(number))
        assert ["0", "1"] == [await anext(lines), await anext(lines)]
        for number in range(10, 13):
            tail.put(str(number))
        assert "2" == await anext(lines)
        check_missing(await anext(lines), 7)
        assert "10" == await anext(lines)
        check_missing(await anext(lines), 2)


async def test_a_wait_may_be_cancelled() -> None:
    """As a time limit around the next line does: none is lost, and who waits when the end comes finds it."""
    tail = log.Tail()
    lines = tail.subscribe()
    waiting = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    tail.put("one")
    waiting.cancel()
    await asyncio.wait([waiting])
    assert "one" == await anext(lines)
    waiting = asyncio.ensure_future(anext(lines, "the end"))
    await asyncio.sleep(0)
    lines.close()
    assert "the end" == await waiting


async def test_lines_come_from_any_thread() -> None:
    """A thread's line wakes who waits."""
    tail = log.Tail()
    with tail.subscribe() as lines:
        thread = threading.Thread(target=tail.put, args=["one"])
        waiting = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        thread.start()
        assert "one" == await waiting
        thread.join()


def test_a_loop_that_has_ended_is_no_reason_to_raise() -> None:
    """Who never unsubscribed holds up nothing."""
    tail = log.Tail()

    async def forget() -> None:
        tail.subscribe()

    asyncio.run(forget())
    tail.put("one")
    assert tail.listening


async def test_a_reload_keeps_the_subscribers(stream: io.StringIO) -> None:
    """The tail is the same, with the new level, mask and secrets."""
    tail = log.setup(stream=stream, environ={}, hostname="a")
    with tail.subscribe() as lines:
        log.Events().held(ID, "a@example.net", "x")
        assert tail is log.setup(stream=stream, environ={}, hostname="b", level="warning", mask="local")
        log.Events().removed(ID)
        log.Events().held(ID, "a@example.net", "x")
        before, after = await objects(lines, 2)
    assert ["a@example.net", "*@example.net"] == [before["recipient"], after["recipient"]]
    assert " a relay/" in before["line"]
    assert " b relay/" in after["line"]
