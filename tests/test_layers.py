"""The import rules, checked against the source itself: floors, fences around libraries, and pure rooms."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "relay"

# A room is a module, or a package with all its modules where only the package is named. It imports only from lower
# floors; neighbours on a floor do not know each other.
WORDS = {"model", "errors", "address", "header", "charsets"}
JUDGEMENT = [
    {"edits", "mailboxes", "mime", "directives", "schedule", "verdicts", "views", "smtp_protocol", "transports.esmtp", "transports.presets"}
    | {"transports.replies", "transports.singles", "ramps", "budgets"},
    {"fidelity", "reencoding", "routing", "pauses", "transports.bodies"} | {"transports.refused", "transports.stamps"},
    {"dsn", "rewriting", "transports.rebuilding"},
]
CONTRACTS = {"spool.base", "transports.base", "transports.net", "sockets", "certificates", "users"}
OUTSIDE = {"config", "spool", "log", "metrics", "systemd", "transports.http", "transports.conversation"}
HALVES = {"listener", "delivery", "admin", "transports.smtp", "transports.capture", "transports.auto"}
HALVES |= {"transports.postmark", "transports.ses", "transports.mailtrap", "transports.paubox", "transports.lowcodeapi"}
SHARED = {"transports.rest", "transports.sesv2"}
FLOORS = [WORDS, *JUDGEMENT, CONTRACTS, OUTSIDE, SHARED, HALVES, {"assembly"}, {"reload"}, {"daemon"}, {"cli"}, {"__main__"}]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

PURE = WORDS.union(*JUDGEMENT)
IMPURE = {"asyncio", "os", "socket", "ssl", "time", "random", "logging", "pathlib", "tempfile", "subprocess", "threading"}
FENCED = {  # each library that touches the outside is known to one room
    "aiosmtpd": "listener",
    "aiosmtplib": "transports.smtp",
    "httpx": "transports.http",
    "certifi": "transports.net",
    "yaml": "config",
    "pydantic": "config",
    "starlette": "admin",
    "uvicorn": "admin",
    "prometheus_client": "metrics",
    "sqlite3": "spool",
    "idna": "address",
    "rich": "cli",
    "botocore": "transports.ses",
}
LAZY = {"cli", "__main__"}  # may import inside functions, so that a command starts fast


def room_of(dotted: str) -> str:
    """The room of a dotted name below `relay.`: the longest prefix on a floor, or the module's own name."""
    parts = dotted.split(".")
    known = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((room for room in known if room in FLOOR_OF), dotted)


def modules() -> dict[str, ast.Module]:
    """Dotted name below `relay.` -> syntax tree. Package files that only hold a docstring are no rooms."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        if name and (path.name != "__init__.py" or imports_of(tree)):
            found[name] = tree
    return found


def imports_of(tree: ast.AST) -> set[str]:
    """Every dotted name a module imports; `from a import b` counts as `a.b`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def rooms_in(imports: set[str]) -> set[str]:
    """The rooms that these imports land in; what is not ours, or only the package `relay` itself, is left out."""
    ours = {name.removeprefix("relay.") for name in imports if name.startswith("relay.")}
    return {room for name in ours if (room := room_of(name)) in FLOOR_OF}


MODULES = modules()


@pytest.mark.parametrize("module", MODULES)
def test_every_room_has_a_floor(module: str) -> None:
    """A new room is put on a floor on purpose."""
    assert room_of(module) in FLOOR_OF, f"relay/{module.replace('.', '/')}.py stands on no floor: add it to FLOORS in {__file__}"


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_lower_floors(module: str) -> None:
    """No room knows a neighbour or a room above it."""
    room = room_of(module)
    floor = FLOOR_OF.get(room, -1)
    others = rooms_in(imports_of(MODULES[module])) - {room}
    wrong = {other for other in others if FLOOR_OF[other] >= floor}
    assert set() == wrong, f"{room} (floor {floor}) imports from its own floor or above"


@pytest.mark.parametrize("module", MODULES)
def test_each_library_is_known_to_one_room(module: str) -> None:
    """What touches the outside has one door."""
    libraries = {name.split(".")[0] for name in imports_of(MODULES[module])}
    assert set() == {library for library in libraries & FENCED.keys() if room_of(module) != FENCED[library]}


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in PURE])
def test_a_pure_room_touches_nothing_outside(module: str) -> None:
    """Clock, randomness and files are arguments on the lower floors."""
    assert set() == {name.split(".")[0] for name in imports_of(MODULES[module])} & IMPURE


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_absolute_and_at_the_top(module: str) -> None:
    """No relative import, no `import *`; inside a function only where a command line must start fast."""
    imports = imports_of(MODULES[module])
    assert set() == {name for name in imports if name.startswith(".") or name.endswith(".*")}
    functions = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {name for function in functions for name in imports_of(function)}
    assert set() == (set() if room_of(module) in LAZY else inside)
