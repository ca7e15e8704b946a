"""The measurements. In each one Postfix, where it can be started, and relay take turns; turn 0 warms up and does not count."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from bench import load, systems
from bench.rows import Row
from bench.systems import System

CONNECTIONS = 20
SMALL, LARGE, HUGE = 4096, 102400, 25 * 1024 * 1024
GOALS = {"4 KB": 1.5, "100 KB": 1.2}
SHAPES = ("ses", "postmark")  # the REST APIs that relay speaks


class Target(Protocol):
    """Where a system sends its mail."""

    port: int


AnySink = TypeVar("AnySink", bound=Target)


@dataclass(frozen=True)
class Bench:
    """How much is measured, where, and whether Postfix takes part. `scale` is a factor on the numbers of messages."""

    directory: Path
    rounds: int
    scale: float
    with_postfix: bool

    def count(self, messages: int) -> int:
        """So many messages, scaled."""
        return max(int(messages * self.scale), CONNECTIONS)


@dataclass(frozen=True)
class Contender(Generic[AnySink]):
    """A running system and where its mail arrives."""

    system: System
    sink: AnySink


@contextmanager
def _contest(bench: Bench, provider: str, ours: AnySink, theirs: AnySink) -> Iterator[list[Contender[AnySink]]]:
    """Both systems, each with a sink of its own: Postfix first."""
    place = bench.directory / f"contest{len(list(bench.directory.iterdir()))}"
    with ExitStack() as stack:
        found = [Contender(stack.enter_context(systems.relay(place / "relay", provider.format(port=ours.port))), ours)]
        if bench.with_postfix:
            found.insert(0, Contender(stack.enter_context(systems.postfix(place / "postfix", theirs.port)), theirs))
        yield found


def _turns(bench: Bench, contenders: Sequence[Contender[AnySink]]) -> Iterator[tuple[int, Contender[AnySink]]]:
    for turn in range(bench.rounds + 1):
        for contender in contenders:
            yield turn, contender


def _rate_and_cost(
    bench: Bench, what: str, messages: int, contenders: Sequence[Contender[AnySink]], run: Callable[[Contender[AnySink], int], load.Run]
) -> list[Row]:
    """Messages a second and CPU for each, of `run(contender, count)`."""
    speed, cost = Row(what, "messages/s", more_is_better=True), Row(f"{what}, CPU", "s/1,000 messages")
    for turn, contender in _turns(bench, contenders):
        found = run(contender, bench.count(messages if turn else messages // 4))
        if turn:
            name = contender.system.name
            speed.add(name, found.rate)
            cost.add(name, found.cpu)
            print(f"  {what}, round {turn}: {name:<8}{found.rate:8.0f} messages/s {found.cpu:6.2f} s/1,000", flush=True)
    return [speed, cost]


def end_to_end(bench: Bench) -> list[Row]:
    """smtp-source, the system, smtp-sink."""
    rows = []
    with load.smtp_sink() as ours, load.smtp_sink() as theirs, _contest(bench, systems.SMTP, ours, theirs) as contenders:
        for label, size, messages in (("4 KB", SMALL, 4000), ("100 KB", LARGE, 800)):
            run = _through(size)
            speed, cost = _rate_and_cost(bench, f"{label} end to end", messages, contenders, run)
            speed.goal = GOALS[label]
            rows += [speed, cost]
    return rows


def rest(bench: Bench) -> list[Row]:
    """smtp-source, relay, an HTTP server that answers as a provider does; Postfix by SMTP, for it has nothing else."""
    rows = []
    for shape in SHAPES:
        with load.rest_sink(shape) as ours, load.smtp_sink() as theirs, _contest(bench, systems.REST[shape], ours, theirs) as contenders:
            rows += _rate_and_cost(bench, f"4 KB to the {shape} API", 2000, contenders, _through(SMALL))
    return rows


def _through(size: int) -> Callable[[Contender[load.Sink], int], load.Run]:
    return lambda contender, count: load.throughput(contender.system, contender.sink, count, size, CONNECTIONS)


def accept_only(bench: Bench) -> list[Row]:
    """The next hop takes connections and never says a word: what comes in is stored and stays."""
    silent = load.SilentSink()
    with _contest(bench, systems.SMTP, silent, silent) as contenders:
        rows = _rate_and_cost(bench, "4 KB accepted only", 4000, contenders, _into)
        silent.close()  # attempts under way end, so that both systems can stop
    return rows


def _into(contender: Contender[load.SilentSink], count: int) -> load.Run:
    return load.intake(contender.system, count, SMALL, CONNECTIONS)


def latency(bench: Bench) -> list[Row]:
    """One message at a time, connection included."""
    accept, total, tail = (
        Row("latency to 250, median", "ms"),
        Row("latency to the sink, median", "ms"),
        Row("latency to the sink, p99", "ms"),
    )
    ours, theirs = load.StampingSink(), load.StampingSink()
    with _contest(bench, systems.SMTP, ours, theirs) as contenders:
        for turn, contender in _turns(bench, contenders):
            name = contender.system.name
            marks = [f"{name}.{turn}.{number}" for number in range(bench.count(100))]
            samples = [load.latency(contender.system, contender.sink, mark, SMALL) for mark in marks]
            if turn:
                accept.add(name, statistics.median(first for first, _ in samples))
                total.add(name, statistics.median(second for _, second in samples))
                tail.add(name, sorted(second for _, second in samples)[int(len(samples) * 0.99)])
    ours.close()
    theirs.close()
    return [accept, total, tail]


def memory(bench: Bench) -> list[Row]:
    """What each system holds when idle; for relay, one process, what one large message adds at most."""
    resident, share, growth = (
        Row("idle, RSS", "MiB"),
        Row("idle, PSS of all processes", "MiB"),
        Row("peak RSS added by one 25 MiB message", "MiB"),
    )
    with load.smtp_sink() as ours, load.smtp_sink() as theirs, _contest(bench, systems.SMTP, ours, theirs) as contenders:
        for contender in contenders:
            share.add(contender.system.name, contender.system.pss())
        relay = contenders[-1]
        idle = relay.system.rss()
        resident.add("relay", idle)
        relay.system.reset_peak()
        load.throughput(relay.system, relay.sink, 1, HUGE, 1)
        growth.add("relay", relay.system.rss("VmHWM") - idle)
    return [resident, share, growth]
