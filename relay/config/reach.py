"""Where a configuration says that the daemon can be reached, and where its users are; nothing else.

For commands that run beside the daemon: they may be typed where its secrets are not to be had, and while the rest of
the file is being edited, or before the files exist that it names. Only the sections `admin` and `queue`, or `listen`, are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relay.config import build, marks, references
from relay.config.model import AdminConfig, QueueConfig
from relay.config.problems import Report
from relay.errors import ConfigError


def reach(path: Path, *, environ: Mapping[str, str]) -> tuple[tuple[str, ...], Path]:
    """(addresses of the admin API, directory of the spool). Raises ConfigError when these cannot be told."""
    report = Report(str(path))
    wanted = _sections(path, ("admin", "queue"), report, environ)
    admin = build.section(AdminConfig, wanted.get("admin"), ("admin",), report).value
    queue = build.section(QueueConfig, wanted.get("queue"), ("queue",), report).value
    if report.problems:
        raise ConfigError(report.problems)
    return admin.listen, queue.spool


def users_files(path: Path, *, environ: Mapping[str, str]) -> dict[str, Path]:
    """Listener -> the users file that its `auth` names, for those that have one. Raises ConfigError when that cannot be told."""
    report = Report(str(path))
    listed = _sections(path, ("listen",), report, environ)["listen"]
    if report.problems:
        raise ConfigError(report.problems)
    listeners = [item for item in (listed if isinstance(listed, list) else [listed]) if isinstance(item, dict)]
    return {str(item.get("name")): Path(item["auth"]) for item in listeners if isinstance(item.get("auth"), str)}


def _sections(path: Path, names: Sequence[str], report: Report, environ: Mapping[str, str]) -> dict[str, Any]:
    """These sections as plain data, None for what is not there. Mistakes go to the report."""
    try:
        with path.open("rb") as file:
            raw = marks.read(file.read(marks.LARGEST + 1), report)
    except OSError as error:
        code = 77 if isinstance(error, PermissionError) else 66
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"], code) from error
    wanted = {name: raw.get(name) if isinstance(raw, dict) else None for name in names}
    found: dict[str, Any] = references.resolve(wanted, report, environ, inside_service=False)
    return found
