"""`python -m bench`: measure, print, and write the figures into docs/performance.md.

Postfix and relay take turns in one run (A B A B …) on the same disk with their default settings; what is compared is
the ratio, because absolute figures move with the machine and its other load. Needs Debian's package postfix, which holds
smtp-source and smtp-sink too, and root for Postfix itself. Only loopback is used; what is started is stopped.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from bench import measure, rows, systems

EX_UNAVAILABLE = 69
MEASUREMENTS = {
    "end-to-end": measure.end_to_end,
    "accept": measure.accept_only,
    "rest": measure.rest,
    "latency": measure.latency,
    "memory": measure.memory,
}


def main() -> int:
    """Run what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description="relay beside Postfix, interleaved in one run")
    parser.add_argument("--rounds", type=int, default=5, help="how often each system is measured (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of messages (default 1)")
    parser.add_argument("--directory", type=Path, help="where queues and spools go (default: a temporary directory)")
    parser.add_argument("--only", choices=MEASUREMENTS, action="append", help="measure this, and write nothing; may be repeated")
    parser.add_argument("--dry", action="store_true", help="print only, do not write docs/performance.md")
    args = parser.parse_args()
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"  # where Debian puts Postfix, and where only root looks
    if absent := systems.missing():
        print(f"bench needs {', '.join(absent)}: apt install postfix", file=sys.stderr)
        return EX_UNAVAILABLE
    with_postfix = os.getuid() == 0
    if not with_postfix:
        print("not root: Postfix cannot be started, so relay is measured alone and nothing is written", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is stopped
    with tempfile.TemporaryDirectory(prefix="relay-bench-", dir=args.directory) as name:
        directory = Path(name)
        directory.chmod(0o755)  # Postfix's processes walk through it
        machine = systems.machine(directory)
        bench = measure.Bench(directory, args.rounds, args.scale, with_postfix)
        found = [row for name in args.only or MEASUREMENTS for row in MEASUREMENTS[name](bench)]
    figures = rows.figures(found, machine, args.rounds)
    print(f"\n{figures}")
    if with_postfix and not args.dry and not args.only:
        rows.PERFORMANCE_MD.write_text(rows.insert(rows.PERFORMANCE_MD.read_text(), figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
