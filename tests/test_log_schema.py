"""docs/log.schema.json: every line of the JSON log fits it, and docs/logs.md tells the same fields."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from relay import log
from tests.logs import CLIENT, FORMS, HOSTILE, ID, event_of, events, objects, undone

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs/log.schema.json").read_text())
LOGS_MD = (ROOT / "docs/logs.md").read_text()
VALIDATOR = Draft202012Validator(SCHEMA)
EVENTS = {choice["$ref"].rpartition("/")[2] for choice in SCHEMA["oneOf"]}
SHARED = {"time", "level", "event", "queue_id"}


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; everything is put back afterwards."""
    with undone():
        yield io.StringIO()


def fits(line: dict[str, Any]) -> None:
    """Raises where the line does not fit the definition of its own event, which says more than "none of them"."""
    Draft202012Validator({"$ref": f"#/$defs/{line['event']}", "$defs": SCHEMA["$defs"]}).validate(line)
    VALIDATOR.validate(line)


def test_the_schema_is_one() -> None:
    """JSON Schema 2020-12, and each definition of an event names itself."""
    Draft202012Validator.check_schema(SCHEMA)
    assert sorted(EVENTS) == sorted(SCHEMA["$defs"][name]["properties"]["event"]["const"] for name in EVENTS)
    assert all(SCHEMA["$defs"][name]["additionalProperties"] is False for name in EVENTS)


def test_every_event_is_in_the_schema() -> None:
    """Each method of Events, what libraries say, and nothing else."""
    assert {name for name in dir(log.Events) if not name.startswith("_")} | {"library"} == EVENTS


@pytest.mark.parametrize("mask", ["none", "local", "full"])
@pytest.mark.parametrize("name", FORMS)
def test_a_line_fits(stream: io.StringIO, name: str, mask: str) -> None:
    """A line of every event, with and without masks."""
    FORMS[name][0](events(stream, form="json", mask=mask))
    (line,) = objects(stream)
    assert event_of(name) == line["event"]
    fits(line)


@pytest.mark.parametrize("mask", ["none", "full"])
def test_odd_lines_fit(stream: io.StringIO, mask: str) -> None:
    """A traceback, a library's warning, and texts and lists that are too long."""
    to = events(stream, form="json", mask=mask)
    to.bug("delivery", ValueError("one\ntwo"))
    logging.getLogger("uvicorn").warning("hm")
    to.expired(ID, "", [f"recipient{number}@example.com" for number in range(1000)])
    to.rejected(CLIENT, HOSTILE, HOSTILE * 100, HOSTILE, [HOSTILE])
    lines = objects(stream)
    assert ["bug", "library", "expired", "rejected"] == [line["event"] for line in lines]
    for line in lines:
        fits(line)


def test_a_field_that_nobody_knows_does_not_fit(stream: io.StringIO) -> None:
    """The schema is not so wide that it would let anything through."""
    events(stream, form="json").removed(ID)
    (line,) = objects(stream)
    with pytest.raises(ValidationError):
        fits({**line, "surprise": 1})
    del line["queue_id"]
    with pytest.raises(ValidationError):
        fits(line)


def rows() -> dict[str, str]:
    """Event -> the last column of its row in docs/logs.md."""
    section = LOGS_MD.partition("## Events")[2].partition("\n## ")[0]
    cells = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {event: row[-1] for row in cells for event in re.findall(r"`(\w+)`", row[0])}


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_the_document_tells_the_fields(event: str) -> None:
    """The row of an event names the fields that the schema has for it, and the schema has those of the row."""
    told = {name for span in re.findall(r"`([\w, ]+)`", rows()[event]) for name in span.split(", ")}
    assert set(SCHEMA["$defs"][event]["properties"]) - SHARED == told
