"""Secrets of a configuration that this process cannot have: which reference, why, and how to have it.

The commands that need no secret read a configuration with stand-ins in their place; this says what those stand for, in the words
of `relay check`. No value of a secret is ever part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.config import Config, ProviderConfig, marks, references
from relay.config.problems import Loc, Report
from relay.transports.base import Check

_AS_SERVICE = "as root: CREDENTIALS_DIRECTORY=/etc/relay/credentials relay provider test"
_CHANGED = Check("secrets", False, "a secret cannot be had here", "relay check says which")


@dataclass
class _Told(Report):
    """A report that keeps what is said as it is said."""

    said: list[tuple[Loc, str, str]] = field(default_factory=list)

    def add(self, loc: Loc, text: str, mend: str = "", *, at_key: bool = False) -> None:
        """A reference that cannot be resolved."""
        self.said.append((loc, text, mend))

    def warn(self, loc: Loc, text: str, mend: str = "") -> None:
        """A reference that only the service can resolve."""
        self.said.append((loc, "a credential, which only the service has", _AS_SERVICE))


def secrets(config: Config, names: Sequence[str], path: Path | None, environ: Mapping[str, str]) -> dict[str, list[Check]]:
    """A failed check for each reference that cannot be had, by the provider whose section names it. `path` is the file that
    `config` was read from; None where it is of no file."""
    stood_for = {name: _stand_ins(config.providers[name]) for name in names}
    sections = _sections(path) if path and any(stood_for.values()) else {}
    return {name: _checks(sections.get(name), environ) or [_CHANGED] for name, some in stood_for.items() if some}


def _stand_ins(provider: ProviderConfig) -> bool:
    values = (value.get_secret_value() if hasattr(value, "get_secret_value") else value for _, value in provider)
    return any(references.UNRESOLVED in str(value) for value in values)


def _sections(path: Path) -> Mapping[str, Any]:
    """The providers as they are written."""
    raw = marks.read(path.read_bytes(), Report(str(path)))
    found = raw.get("providers") if isinstance(raw, dict) else None
    return found if isinstance(found, dict) else {}


def _checks(section: Any, environ: Mapping[str, str]) -> list[Check]:
    report = _Told("")
    references.resolve(section, report, environ, inside_service=False)
    return [Check("secrets", False, f"{'.'.join(map(str, loc))}: {text}", mend) for loc, text, mend in report.said]
