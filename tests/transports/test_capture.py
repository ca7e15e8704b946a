"""The transport that keeps mail."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from relay.errors import CorruptEntry, SpoolError
from relay.model import Edit, EditKind, Verdict
from relay.transports import capture
from relay.transports.base import ALONE, Check, Transport
from relay.transports.capture import Capture, CaptureSettings
from tests.jobs import HELLO, MemoryMessage, job

ID = "687E7641C64007"


def transport(directory: Path) -> Transport:
    """A capture into `directory`."""
    return Capture(CaptureSettings("capture", directory))


async def test_message_and_envelope_are_kept(tmp_path: Path) -> None:
    """The .eml is the message as it would have left; the .json tells envelope and headers; both are private."""
    kept = transport(tmp_path / "new" / "mail")
    edits = [Edit(EditKind.PREPEND, "Received: by test\r\n"), Edit(EditKind.REMOVE, "to")]
    data = b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe=0d=0aBcc:_x?=\r\n" + HELLO
    [one] = await kept.prepare(job("a@example.net", "b@example.net", data=data, edits=edits, envid="E1"))
    outcomes = await kept.attempt([one])
    assert set(outcomes) == {(ID, "a@example.net"), (ID, "b@example.net")}
    outcome = outcomes[ID, "a@example.net"]
    directory = tmp_path / "new" / "mail"
    assert (outcome.verdict, outcome.remote_id, outcome.remote) == (Verdict.OK, f"{ID}.eml", f"capture[{directory}]")
    expected = b"Received: by test\r\n" + data.replace(b"To: <a@example.net>\r\n", b"")
    assert (directory / f"{ID}.eml").read_bytes() == expected
    about = json.loads((directory / f"{ID}.json").read_text())
    assert (about["reverse_path"], about["recipients"], about["envid"]) == ("app@example.com", ["a@example.net", "b@example.net"], "E1")
    assert about["size"] == len(expected)
    assert about["headers"]["subject"] == "grüße Bcc: x"
    assert "to" not in about["headers"]
    assert stat.S_IMODE((directory / f"{ID}.eml").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    await kept.aclose()


async def test_a_preview_keeps_nothing(tmp_path: Path) -> None:
    """It names the file and holds the message as it would have left."""
    edits = [Edit(EditKind.PREPEND, "Received: by test\r\n")]
    [shown] = await transport(tmp_path / "new").preview(job("a@example.net", "b@example.net", edits=edits))
    assert ("CAPTURE", f"file://{tmp_path}/new/{ID}.eml", b"Received: by test\r\n" + HELLO) == (shown.method, shown.url, shown.body)
    assert ("app@example.com", ("a@example.net", "b@example.net")) == (shown.reverse_path, shown.recipients)
    assert not (tmp_path / "new").exists()


async def test_second_attempt_keeps_the_first(tmp_path: Path) -> None:
    """A further attempt of the same entry gets its own name; nothing is overwritten."""
    kept = transport(tmp_path)
    names = [(await kept.attempt([job(address)]))[ID, address].remote_id for address in ("a@x.test", "b@x.test", "c@x.test")]
    assert names == [f"{ID}.eml", f"{ID}-2.eml", f"{ID}-3.eml"]
    assert json.loads((tmp_path / f"{ID}-2.json").read_text())["recipients"] == ["b@x.test"]


async def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """Where the directory cannot be made the provider is paused, in plain words, and says what to do."""
    (tmp_path / "file").write_bytes(b"")
    outcome = (await transport(tmp_path / "file" / "mail").attempt([job()]))[ID, "a@example.net"]
    assert (outcome.verdict, outcome.status, outcome.reply) == (Verdict.PAUSE, "4.3.1", "cannot capture: Not a directory")
    assert outcome.own
    assert str(tmp_path) in outcome.mend


async def test_failed_sync_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails at the last step leaves no half-captured mail behind."""

    def broken(directory: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(capture, "_sync", broken)
    outcome = (await transport(tmp_path).attempt([job()]))[ID, "a@example.net"]
    assert (outcome.verdict, outcome.reply) == (Verdict.PAUSE, "cannot capture: No space left on device")
    assert os.listdir(tmp_path) == []


async def test_contract_of_the_rest(tmp_path: Path) -> None:
    """Anything is carried, in one piece, under no identity."""
    kept = transport(tmp_path)
    assert (kept.provider, kept.batching, kept.concurrency, kept.carries_reports) == ("capture", ALONE, 4, True)
    assert kept.identity(job()) == ()
    assert kept.share(job()) is None


@pytest.mark.parametrize("error", [SpoolError("the disk does not answer"), CorruptEntry("A", "cut short")])
async def test_a_message_that_cannot_be_read(tmp_path: Path, error: SpoolError) -> None:
    """The spool's trouble comes out as it is, and nothing is kept."""

    class Unreadable(MemoryMessage):
        async def read(self) -> bytes:
            raise error

    with pytest.raises(SpoolError) as raised:
        await Capture(CaptureSettings("one", tmp_path)).attempt([replace(job(), message=Unreadable(HELLO))])
    assert raised.value is error
    assert os.listdir(tmp_path) == []


async def test_a_probe_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says whether the directory can be written to, or made, and what to do where it can not."""
    new = tmp_path / "new" / "mail"
    assert [Check("directory", True, f"{new} will be made")] == await transport(new).probe()
    assert [] == os.listdir(tmp_path)
    assert [Check("directory", True, f"{tmp_path} can be written to")] == await transport(tmp_path).probe()
    file = tmp_path / "file"
    file.write_bytes(b"")
    mend = f"make room in {file}/mail, or give relay the right to write there"
    assert [Check("directory", False, f"{file} is no directory", mend)] == await transport(file / "mail").probe()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, who may write anywhere
    assert [f"{tmp_path} cannot be written to"] == [check.text for check in await transport(tmp_path).probe()]
