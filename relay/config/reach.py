"""Where a configuration says that the daemon can be reached, and nothing else.

For commands that run beside the daemon: they may be typed where its secrets are not to be had, and while the rest of
the file is being edited. Only the sections `admin` and `queue` are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from relay.config import build, marks, references
from relay.config.model import AdminConfig, QueueConfig
from relay.config.problems import Report
from relay.errors import ConfigError


def reach(path: Path, *, environ: Mapping[str, str]) -> tuple[tuple[str, ...], Path]:
    """(addresses of the admin API, directory of the spool). Raises ConfigError when these cannot be told."""
    report = Report(str(path))
    try:
        raw = marks.read(path.read_bytes(), report)
    except OSError as error:
        code = 77 if isinstance(error, PermissionError) else 66
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"], code) from error
    wanted = {key: raw.get(key) for key in ("admin", "queue")} if isinstance(raw, dict) else {}
    wanted = references.resolve(wanted, report, environ, inside_service=False)
    admin = build.section(AdminConfig, wanted.get("admin"), ("admin",), report).value
    queue = build.section(QueueConfig, wanted.get("queue"), ("queue",), report).value
    if report.problems:
        raise ConfigError(report.problems)
    return admin.listen, queue.spool
