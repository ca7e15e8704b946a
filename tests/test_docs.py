"""The documents keep up with the code: every key, event and series is told, with the defaults that hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from relay import config, log, users
from relay.config import marks
from relay.config.model import LATER, MatchConfig, Root
from relay.config.problems import Report
from relay.config.providers import PROVIDERS
from relay.config.section import Section, keys_of
from relay.metrics import Metrics
from tests.configs import certificate
from tests.servers import ca_file

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / "relay.yaml.example").read_text()
CONFIG_MD = (ROOT / "docs/config.md").read_text()
LOGS_MD = (ROOT / "docs/logs.md").read_text()


def _below(model: type[Section], key: str) -> type[Section]:
    return cast(type[Section], keys_of(model)[key].annotation)


def sections() -> Iterator[tuple[type[Section], tuple[str | int, ...]]]:
    """Each section's model, and where the example shows it in full."""
    yield Root, ()
    yield config.ListenConfig, ("listen", 0)
    for kind, model in PROVIDERS.items():
        name = "smarthost" if kind == "smtp" else kind
        yield model, ("providers", name)
        if "limits" in keys_of(model):
            yield _below(model, "limits"), ("providers", name, "limits")
    yield config.RouteConfig, ("routes", 0)
    yield MatchConfig, ("routes", 0, "match")
    for name in ("senders", "queue", "bounce", "admin", "log"):
        yield _below(Root, name), (name,)


ENVIRON = {
    "POSTMARK_TOKEN": "fake-token-0000",
    "AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKE0000",
    "AWS_SECRET_ACCESS_KEY": "fake-secret-0000",
    "MAILTRAP_TOKEN": "fake-token-0001",
    "PAUBOX_API_KEY": "fake-key-0000",
}
SECTIONS = {model: loc for model, loc in sections()}
KEYS = [(model, key) for model in SECTIONS for key in keys_of(model)]


def example(loc: tuple[str | int, ...]) -> Any:
    """What stands there in the example, as plain data."""
    found = marks.read(EXAMPLE.encode(), Report("relay.yaml.example"))
    for part in loc:
        found = found[part]
    return found or {}


def test_every_section_is_looked_at() -> None:
    """A new section cannot be forgotten here."""
    assert set(LATER) == set(SECTIONS)


@pytest.mark.parametrize(("model", "key"), KEYS, ids=lambda value: getattr(value, "__name__", value))
def test_the_example_has_every_key_with_its_default(model: type[Section], key: str) -> None:
    """The key stands in its section, below its sentence, with its default; one without a default shows an example, which may
    be commented out."""
    field, shown = keys_of(model)[key], example(SECTIONS[model])
    assert f"# {field.description}\n" in EXAMPLE
    if field.is_required() or isinstance(field.default, Section) or key in {"listen", "routes", "header"}:
        assert key in shown
    elif field.default in (None, "", ()):
        assert re.search(rf"(?m)^ *# {re.escape(field.description or '')}\n *(# )?{key}: \S", EXAMPLE)
    else:
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert default == shown[key]


EXCLUSIVE = {"session_token", "profile", "username: 1a2b", 'password: "${cred:mailtrap', "proxy"}
"""How those examples begin that stand for another choice than the one shown beside them."""


@pytest.mark.parametrize("all_keys", [False, True], ids=["as it is", "with every key"])
def test_the_example_loads(tmp_path: Path, all_keys: bool) -> None:
    """The example is a good configuration, also when what is commented out is not."""
    text = EXAMPLE
    if all_keys:
        text = re.sub(r"(?m)^( *)# ([a-z_]+: (?:\S+|\[.*\]))$", _uncommented, text).replace("/etc/relay/ca.pem", ca_file(tmp_path))
        text = text.replace("tls: off", "tls: optional").replace("/etc/relay/", f"{tmp_path}/")
        certificate(tmp_path)
        users.set_password(tmp_path / "users", "app", "fake-password")
        assert "\nhostname: relay.example.com" in text
    path = tmp_path / "relay.yaml"
    path.write_text(text)
    path.chmod(0o600)
    for name in ("smarthost", "ses-smtp", "postmark-access", "postmark-secret"):
        (tmp_path / name).write_text("fake-password")
    loaded = config.load(path, environ={**ENVIRON, "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert ["newsletter", "patients", "default"] == [route.name for route in loaded.route_table()]
    assert all_keys == ("fake-password" in loaded.secrets())


def _uncommented(match: re.Match[str]) -> str:
    return match[0] if any(match[2].startswith(begin) for begin in EXCLUSIVE) else match[1] + match[2]


@pytest.mark.parametrize(("model", "key"), KEYS, ids=lambda value: getattr(value, "__name__", value))
def test_config_md_tells_every_key(model: type[Section], key: str) -> None:
    """The key, whether it is required, and its sentence."""
    field = keys_of(model)[key]
    row = next(line for line in CONFIG_MD.splitlines() if line.startswith(f"| `{key}` |") and line.endswith(f"| {field.description} |"))
    assert field.is_required() == ("| required |" in row)


def test_logs_md_tells_every_event() -> None:
    """Each method of Events has its row."""
    rows = "".join(line for line in LOGS_MD.splitlines() if line.startswith("| `"))
    assert {name for name in vars(log.Events) if not name.startswith("_")} <= set(re.findall(r"`(\w+)`", rows))


def test_logs_md_tells_every_series() -> None:
    """Each series on the metrics page has its row, and no row tells of one that is not there."""
    page = Metrics(version="1", listeners=["l"], providers=["p"], routes=[("r", "p")]).render()[0].decode()
    there = {name.removesuffix("_total") for name in re.findall(r"(?m)^# TYPE (relay_\w+) ", page)}
    told = {name.removesuffix("_total") for name in re.findall(r"(?m)^\| `(relay_\w+)", LOGS_MD)}
    assert there == told


DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """A link to a file of ours names one that is there, and a heading in it that is there."""
    for target, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]*))?\)", document.read_text()):
        path = document.parent / target if target else document
        assert path.exists(), target
        headings = {_anchor(heading) for heading in re.findall(r"(?m)^#+ (.+)$", path.read_text())} if anchor else set()
        assert not anchor or anchor in headings, f"{target}#{anchor}"


def _anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
