"""`python -m bench`: measure, print, and write docs/performance.md.

Postfix and relay take turns in one run (A B A B …) on the same disk with their default settings; what is compared is
the ratio, because absolute figures move with the machine and its other load. Needs root (for Postfix) and Debian's
package postfix, which holds smtp-source and smtp-sink too. Only loopback is used; what is started is stopped.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench import load, systems

PERFORMANCE_MD = Path(__file__).parent.parent / "docs" / "performance.md"
CONNECTIONS = 20
SIZES = {"4 KB": 4096, "100 KB": 102400}
COUNTS = {"4 KB": 4000, "100 KB": 800}
BIG = 25 * 1024 * 1024
GOALS = {"4 KB end to end": 1.5, "100 KB end to end": 1.2}
EX_UNAVAILABLE = 69

AnySink = TypeVar("AnySink", load.Sink, load.StampingSink)


@dataclass
class Row:
    """One measured thing: the values of both systems, and whether more is better."""

    what: str
    unit: str
    more_is_better: bool = True
    postfix: list[float] = field(default_factory=list)
    relay: list[float] = field(default_factory=list)

    def ratio(self) -> float:
        """How many times better relay's median is than Postfix's."""
        ours, theirs = statistics.median(self.relay), statistics.median(self.postfix)
        return ours / theirs if self.more_is_better else theirs / ours

    def cells(self) -> list[str]:
        """The row of the table."""
        ratio = f"{self.ratio():.2f}" if self.postfix and self.relay else "-"
        goal = f"≥ {GOALS[self.what]}" if self.what in GOALS else ""
        return [self.what, self.unit, _spread(self.postfix), _spread(self.relay), ratio, goal]


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    digits = 0 if min(values) >= 100 else 2
    median, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return median if len(values) == 1 else f"{median} [{low}..{high}]"


def measure_throughput(directory: Path, rounds: int, scale: float, with_postfix: bool) -> list[Row]:
    """End to end: smtp-source, the system, smtp-sink; one connection for each message."""
    rows = []
    with ExitStack() as stack:
        running = _start(stack, directory, with_postfix, [stack.enter_context(load.smtp_sink()) for _ in range(2)])
        for label, size in SIZES.items():
            speed = Row(f"{label} end to end", "messages/s")
            cost = Row(f"{label} CPU", "ms/message", more_is_better=False)
            rows += [speed, cost]
            count = max(int(COUNTS[label] * scale), CONNECTIONS)
            for turn in range(rounds + 1):  # turn 0 warms up
                for system, sink in running:
                    rate, cpu = load.throughput(system, sink, count if turn else count // 4, size, CONNECTIONS)
                    if turn:
                        getattr(speed, system.name).append(rate)
                        getattr(cost, system.name).append(cpu)
                        print(f"  {label:>6} round {turn}: {system.name:<8}{rate:8.0f} messages/s {cpu:6.2f} ms CPU", flush=True)
    return rows


def measure_latency(directory: Path, rounds: int, scale: float, with_postfix: bool) -> list[Row]:
    """One message at a time, connection included."""
    accept = Row("latency to 250, median", "ms", more_is_better=False)
    total = Row("latency to the sink, median", "ms", more_is_better=False)
    tail = Row("latency to the sink, p99", "ms", more_is_better=False)
    with ExitStack() as stack:
        running = _start(stack, directory, with_postfix, [load.StampingSink() for _ in range(2)])
        for turn in range(rounds + 1):
            for system, sink in running:
                marks = [f"{system.name}.{turn}.{number}" for number in range(max(int(100 * scale), 10))]
                samples = [load.latency(system, sink, mark, SIZES["4 KB"]) for mark in marks]
                if turn:
                    getattr(accept, system.name).append(statistics.median(first for first, _ in samples))
                    getattr(total, system.name).append(statistics.median(second for _, second in samples))
                    getattr(tail, system.name).append(sorted(second for _, second in samples)[int(len(samples) * 0.99)])
        for _, sink in running:
            sink.close()
    return [accept, total, tail]


def measure_memory(directory: Path) -> list[Row]:
    """relay alone: what it holds when idle, and what one large message adds at most."""
    idle = Row("idle RSS", "MiB", more_is_better=False)
    growth = Row("peak RSS added by one 25 MiB message", "MiB", more_is_better=False)
    with load.smtp_sink() as sink, systems.relay(directory / "memory", sink.port) as system:
        idle.relay.append(system.rss())
        system.reset_peak()
        load.throughput(system, sink, 1, BIG, 1)
        growth.relay.append(system.rss("VmHWM") - idle.relay[0])
    return [idle, growth]


def _start(stack: ExitStack, directory: Path, with_postfix: bool, sinks: list[AnySink]) -> list[tuple[systems.System, AnySink]]:
    """Both systems, each with a sink of its own."""
    name = f"run{len(list(directory.iterdir()))}"
    running = [(stack.enter_context(systems.relay(directory / name / "relay", sinks[0].port)), sinks[0])]
    if with_postfix:
        running.insert(0, (stack.enter_context(systems.postfix(directory / name / "postfix", sinks[1].port)), sinks[1]))
    return running


def report(rows: list[Row], rounds: int) -> str:
    """docs/performance.md."""
    header = ["what", "unit", "Postfix", "relay", "relay is better by", "goal"]
    table = [header, ["---"] * len(header), *(row.cells() for row in rows)]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return f"""# Performance

Written by `make bench` on {time.strftime("%Y-%m-%d")}: {systems.versions()}.

{lines}

Median [lowest..highest] of {rounds} rounds in which Postfix and relay take turns. "Better by" is the ratio of the medians, above 1 where
relay is ahead. Read the ratios and the CPU per message: absolute figures move with the machine and with what else it does.

- *End to end*: `smtp-source` with {CONNECTIONS} connections at once, one for each message, into the system, from there by SMTP into
  `smtp-sink`; the clock stops when the sink has the last message. Source and sink share the CPUs with the system.
- Both systems sync every message to disk before they answer 250, log every message, and run with their default settings. Postfix is
  a null client with a private configuration and queue on the same disk. relay runs on plain asyncio.
- *Latency*: one message of 4 KB at a time, connection included.
- *Memory*: resident size of the relay process, read after it started; then the growth of its peak while one message of 25 MiB comes in and
  leaves by SMTP.
"""


def main() -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description="relay beside Postfix, interleaved in one run")
    parser.add_argument("--rounds", type=int, default=5, help="how often each system is measured (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of messages (default 1)")
    parser.add_argument("--directory", type=Path, help="where queues and spools go (default: a temporary directory)")
    parser.add_argument("--dry", action="store_true", help="print only, do not write docs/performance.md")
    args = parser.parse_args()
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"  # where Debian puts Postfix, and where only root looks
    if absent := systems.missing():
        print(f"bench needs {', '.join(absent)}: apt install postfix", file=sys.stderr)
        return EX_UNAVAILABLE
    with_postfix = os.getuid() == 0
    if not with_postfix:
        print("not root: Postfix cannot be started, so relay is measured alone", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is stopped
    with tempfile.TemporaryDirectory(prefix="relay-bench-", dir=args.directory) as name:
        directory = Path(name)
        directory.chmod(0o755)  # Postfix's processes walk through it
        rows = measure_throughput(directory, args.rounds, args.scale, with_postfix)
        rows += measure_latency(directory, args.rounds, args.scale, with_postfix)
        rows += measure_memory(directory)
    text = report(rows, args.rounds)
    print(text)
    if with_postfix and not args.dry:
        PERFORMANCE_MD.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
