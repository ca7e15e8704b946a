"""The users file: reading it, checking passwords against it, and writing it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given
from hypothesis import strategies as st

from relay.users import REMEMBERED, Users, UsersError, hashed, is_access_key, is_token, known_as, remove, set_password, shown
from relay.users.lines import parsed

SALT = bytes(range(16))
GOOD = hashed("not-a-secret", salt=SALT)
PARAMETERS = {"n": 2**14, "r": 8, "p": 2}


class Clock:
    """A clock that stands until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def users_file(directory: Path, text: str | bytes = f"app1:{GOOD}\n") -> Path:
    """A users file with the rights it should have."""
    path = directory / "users"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o640)
    return path


@pytest.fixture
def scrypts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """The work parameters of every scrypt from now on."""
    made: list[dict[str, int]] = []
    real = hashlib.scrypt

    def counted(password: bytes, **how: Any) -> bytes:
        made.append({name: how[name] for name in ("n", "r", "p")})
        return real(password, **how)

    monkeypatch.setattr(hashlib, "scrypt", counted)
    return made


# The hash.


def test_hash_by_another_implementation() -> None:
    """A line's hash is plain scrypt with the parameters that the line names, as cryptography computes it too."""
    text, _, key = GOOD.rpartition("$")
    assert text == "{SCRYPT}ln=14,r=8,p=2$AAECAwQFBgcICQoLDA0ODw"
    Scrypt(SALT, 32, 2**14, 8, 2).verify(b"not-a-secret", b64decode(key + "="))


async def test_parameters_of_the_line_count(tmp_path: Path, scrypts: list[dict[str, int]]) -> None:
    """A line with other parameters is checked with these; the first test vector of RFC 7914 that fits is accepted."""
    key = hashlib.scrypt(b"pleaseletmein", salt=b"SodiumChloride", n=16384, r=8, p=1, dklen=32)
    assert key.hex().startswith("7023bdcb3afd7348461c06cd81fd38eb")  # RFC 7914 §12
    scrypts.clear()
    users = Users(users_file(tmp_path, "app1:{SCRYPT}ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+qQT47+qVOltn9lDgps\n"))
    assert not await users.verify("app1", "pleaseletmeout")
    assert {"n": 2**14, "r": 8, "p": 1} == scrypts[0]


@pytest.mark.parametrize("password", ["not-a-secret", "pässwörd", "p\u00e9", " spaces ", "a:b", "x" * 5000, "\U0001f511"])
async def test_passwords_as_given(tmp_path: Path, password: str) -> None:
    """Any text is a password, octet for octet; one that only looks alike is another."""
    path = tmp_path / "users"
    assert set_password(path, "app1", password)
    users = Users(path)
    assert await users.verify("app1", password)
    assert not await users.verify("app1", password + " ")
    assert not await users.verify("app1", password + "\0")
    assert (await users.verify("app1", password.replace("\u00e9", "e\u0301")) == "app1") is ("\u00e9" not in password)


async def test_what_no_decoder_makes(tmp_path: Path) -> None:
    """Lone surrogates are a wrong name and a wrong password, and no error."""
    users = Users(users_file(tmp_path))
    assert not await users.verify("app1", "\ud800")
    assert not await users.verify("\udcff", "not-a-secret")


# Checking.


async def test_unknown_names_cost_the_same(tmp_path: Path, scrypts: list[dict[str, int]]) -> None:
    """A wrong name, an empty one and a wrong password take one scrypt each, with the same parameters."""
    users = Users(users_file(tmp_path))
    assert not await users.verify("nobody", "not-a-secret")
    assert not await users.verify("", "")
    assert not await users.verify("app1", "wrong")
    assert [PARAMETERS] * 3 == scrypts


async def test_unknown_names_cost_the_most(tmp_path: Path, scrypts: list[dict[str, int]]) -> None:
    """Where lines differ in their parameters, a name that is not there costs what the dearest line costs."""
    cheap = GOOD.replace("ln=14", "ln=4")
    users = Users(users_file(tmp_path, f"a:{cheap}\nb:{GOOD}\nc:{cheap}\n"))
    assert not await users.verify("nobody", "x")
    assert [PARAMETERS] == scrypts


async def test_success_is_remembered_for_a_time(tmp_path: Path, scrypts: list[dict[str, int]]) -> None:
    """A success costs no scrypt for some minutes from the first on; another password always does."""
    clock = Clock()
    users = Users(users_file(tmp_path), clock=clock)
    for _ in range(3):
        assert await users.verify("app1", "not-a-secret")
    assert len(scrypts) == 1
    assert not await users.verify("app1", "wrong")
    assert len(scrypts) == 2
    clock.now += REMEMBERED - 0.1
    assert await users.verify("app1", "not-a-secret")
    assert len(scrypts) == 2
    clock.now += 0.1
    assert await users.verify("app1", "not-a-secret")
    assert len(scrypts) == 3


async def test_failure_is_not_remembered(tmp_path: Path, scrypts: list[dict[str, int]]) -> None:
    """The same wrong password costs a scrypt every time."""
    users = Users(users_file(tmp_path))
    assert [await users.verify("app1", "wrong") for _ in range(2)] == [None, None]
    assert len(scrypts) == 2


async def test_many_at_once(tmp_path: Path, scrypts: list[dict[str, int]]) -> None:
    """Twenty clients of two apps that come at the same time are all let in, and cost at most two scrypts each."""
    users = Users(users_file(tmp_path, f"app1:{GOOD}\napp2:{hashed('other', salt=SALT)}\n"))
    pairs = [("app1", "not-a-secret"), ("app2", "other")] * 10
    scrypts.clear()
    assert [name for name, _ in pairs] == await asyncio.gather(*(users.verify(*pair) for pair in pairs))
    assert len(scrypts) <= 4
    wrong = [("app1", "other"), ("app2", "not-a-secret")] * 3
    assert [None] * 6 == await asyncio.gather(*(users.verify(*pair) for pair in wrong))


async def test_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is cancelled while waiting costs no scrypt; who is cancelled in it keeps the turn until its thread is done."""
    users = Users(users_file(tmp_path))
    gate, full, real, loop, under_way, most, made = threading.Event(), asyncio.Event(), hashlib.scrypt, asyncio.get_running_loop(), 0, 0, 0

    def slow(password: bytes, **how: Any) -> bytes:
        nonlocal under_way, most, made
        under_way, made = under_way + 1, made + 1
        most = max(most, under_way)
        if under_way == 2:
            loop.call_soon_threadsafe(full.set)
        gate.wait(10)
        under_way -= 1
        return real(password, **how)

    monkeypatch.setattr(hashlib, "scrypt", slow)
    logins = [asyncio.create_task(users.verify("app1", f"wrong {number}")) for number in range(20)]
    await full.wait()
    for login in logins:
        login.cancel()
    right = asyncio.create_task(users.verify("app1", "not-a-secret"))
    await asyncio.wait(logins[2:])
    assert not any(login.done() for login in logins[:2])
    gate.set()
    assert await right
    await asyncio.wait(logins)
    assert [True] * 20 == [login.cancelled() for login in logins]
    assert (2, 3) == (most, made)


async def test_changed_file(tmp_path: Path, scrypts: list[dict[str, int]]) -> None:
    """A new password counts once the file is read again, and what was remembered of the old one is forgotten."""
    path = users_file(tmp_path)
    users = Users(path)
    assert not users.refresh()
    assert await users.verify("app1", "not-a-secret")
    set_password(path, "app1", "new")
    assert users.refresh()
    assert not await users.verify("app1", "not-a-secret")
    assert await users.verify("app1", "new")
    assert not users.refresh()
    set_password(path, "app2", "second")
    users.refresh()
    scrypts.clear()
    assert await users.verify("app1", "new")
    assert len(scrypts) == 1


async def test_changed_file_that_nobody_refreshes(tmp_path: Path) -> None:
    """A login looks by itself, so that a password that was changed counts nowhere; `refresh` still tells of it, once."""
    path = users_file(tmp_path)
    users = Users(path)
    assert await users.verify("app1", "not-a-secret")
    set_password(path, "app1", "new")
    assert not await users.verify("app1", "not-a-secret")
    assert await users.verify("app1", "new")
    assert [True, False] == [users.refresh(), users.refresh()]


async def test_wrong_file_leaves_the_old_users(tmp_path: Path) -> None:
    """A file that became wrong, or went away, is told at every call, and changes nothing."""
    path = users_file(tmp_path)
    users = Users(path)
    path.write_text("app1:plain\n")
    for _ in range(2):
        with pytest.raises(UsersError, match="is not hashed"):
            users.refresh()
    assert await users.verify("app1", "not-a-secret")
    path.unlink()
    with pytest.raises(UsersError, match="there is no such file"):
        users.refresh()
    users_file(tmp_path)
    assert users.refresh()


async def test_removed_while_being_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right password of a user that goes while it is checked lets nobody in."""
    path = users_file(tmp_path)
    users = Users(path)
    real = hashlib.scrypt

    def slow(password: bytes, **how: Any) -> bytes:
        users_file(tmp_path, f"app2:{GOOD}\n")
        users.refresh()
        return real(password, **how)

    monkeypatch.setattr(hashlib, "scrypt", slow)
    assert not await users.verify("app1", "not-a-secret")


# Reading.

NAME = "a user's name is printable, holds no colon, begins with no # and has no space at its ends: give another one"
PARAMETERS_OF = "the scrypt parameters of app1 ask for too much memory or time, or for none"
MEND = "set the password again: relay passwd app1"
WRONG = {
    "": "{path} names no user: add one: relay passwd NAME",
    "# only a comment\n\n": "{path} names no user: add one: relay passwd NAME",
    f"\n# x\napp1:{GOOD}\napp2:{GOOD}\napp1:{GOOD}\n": "{path}:5: app1 "
    "is already on line 3: delete one of the two, or give it another identity",
    "hunter2\n": "{path}:1: no colon: a line is name:{{SCRYPT}}…, as relay passwd NAME writes it",
    "app1:hunter2\n": f"{{path}}:1: the password of app1 is not hashed as {{{{SCRYPT}}}}: {MEND}",
    "app1:\n": f"{{path}}:1: the password of app1 is not hashed as {{{{SCRYPT}}}}: {MEND}",
    "app1:{SCRYPT}hunter2\n": f"{{path}}:1: the {{{{SCRYPT}}}} of app1 is damaged: {MEND}",
    f"app1:{GOOD}x\n": f"{{path}}:1: the {{{{SCRYPT}}}} of app1 is damaged: {MEND}",
    f"app1:{GOOD.replace('ODw$', 'ODwxxx$')}\n": f"{{path}}:1: the {{{{SCRYPT}}}} of app1 is damaged: {MEND}",
    f"app1:{GOOD.replace('ln=14', 'ln=17')}\n": f"{{path}}:1: {PARAMETERS_OF}: {MEND}",
    f"app1:{GOOD.replace('p=2', 'p=99')}\n": f"{{path}}:1: {PARAMETERS_OF}: {MEND}",
    f"app1:{GOOD.replace('r=8', 'r=0')}\n": f"{{path}}:1: {PARAMETERS_OF}: {MEND}",
    f"app1:{GOOD.replace('ln=14', 'ln=0')}\n": f"{{path}}:1: {PARAMETERS_OF}: {MEND}",
    f":{GOOD}\n": "{path}:1: " + NAME,
    f" a:{GOOD}\n": "{path}:1: " + NAME,
    f"a\tb:{GOOD}\n": "{path}:1: " + NAME,
    f"{'é' * 128}:{GOOD}\n": "{path}:1: a user's name has at most 255 octets: give a shorter one",
    b"\nb\xfcro:{SCRYPT}\n": "{path}:2: not UTF-8 text: save the file as UTF-8",
    b"#" * (4 * 1024 * 1024 + 1): "{path} is larger than 4194304 octets: name the users file",
}


@pytest.mark.parametrize(("text", "expected"), WRONG.items(), ids=[str(number) for number in range(len(WRONG))])
def test_wrong_lines(tmp_path: Path, text: str | bytes, expected: str) -> None:
    """Each mistake is told with file, line and mend, and never with what might be a password."""
    path = users_file(tmp_path, text)
    with pytest.raises(UsersError) as caught:
        Users(path)
    assert expected.format(path=path) == str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_comments_and_line_ends(tmp_path: Path) -> None:
    """Comments, empty lines, CRLF, a missing last line end and names with spaces or a # inside are all right."""
    text = f"# users\r\n\r\napp1:{GOOD}\r\n  \n#app9:x\nä b#:{GOOD}"
    users = Users(users_file(tmp_path, text))
    assert await users.verify("app1", "not-a-secret")
    assert await users.verify("ä b#", "not-a-secret")
    assert not await users.verify("#app9", "x")


@pytest.mark.parametrize("mode", [0o644, 0o642])
def test_open_to_others(tmp_path: Path, mode: int) -> None:
    """A file that others may read or change is refused with the command that mends it."""
    path = users_file(tmp_path)
    path.chmod(mode)
    with pytest.raises(UsersError) as caught:
        Users(path)
    assert f"{path} can be read or changed by others (mode {mode:04o}): chmod 640 {path}" == str(caught.value)


def test_no_such_file_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is missing, a directory, a FIFO, no path or not to be read is told as such."""
    path = tmp_path / "users"
    with pytest.raises(UsersError, match="there is no such file or directory: correct the path, or add a user: relay passwd NAME"):
        Users(path)
    with pytest.raises(UsersError, match="Is a directory: correct the path"):
        Users(tmp_path)
    with pytest.raises(UsersError, match="not a path: correct the path"):
        Users(Path("users\0"))
    os.mkfifo(path)
    with pytest.raises(UsersError, match="is not a regular file: name the users file"):
        Users(path)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root, which may run the tests, is refused nothing
    with pytest.raises(UsersError, match="permission denied: run as root, or let relay's group read it: chmod 640"):
        Users(path)


@given(st.text())
def test_any_text_is_refused_in_one_way(text: str) -> None:
    """Whatever text a file holds by mistake, it is refused with UsersError and the place."""
    with pytest.raises(UsersError, match=r"^users(:\d+: | names no user)"):
        parsed(Path("users"), text.encode("utf-8", "surrogatepass"))


# Writing.


def test_new_file(tmp_path: Path) -> None:
    """The first user makes the file, readable by owner and group alone, of the group of its directory."""
    path = tmp_path / "users"
    assert set_password(path, "app1", "not-a-secret")
    assert (0o640, tmp_path.stat().st_gid) == (path.stat().st_mode & 0o777, path.stat().st_gid)
    assert asyncio.run(Users(path).verify("app1", "not-a-secret"))
    assert ["users"] == [one.name for one in tmp_path.iterdir()]


async def test_everything_else_stays(tmp_path: Path) -> None:
    """Changing, adding and removing a user leaves comments, order and other lines as they are; doubles of the user go."""
    path = users_file(tmp_path, f"# head\u2028er\r\napp1:{GOOD}\n\n# app1: the shop\napp2:{GOOD}\napp1:old")
    assert not set_password(path, "app1", "new")
    lines = path.read_bytes().decode().split("\n")
    assert lines[1].startswith("app1:{SCRYPT}ln=14,r=8,p=2$")
    assert ["# head\u2028er\r", "", "# app1: the shop", f"app2:{GOOD}", ""] == [lines[0], *lines[2:]]
    assert await Users(path).verify("app1", "new")
    assert set_password(path, "app3", "third")
    assert remove(path, "app2")
    assert not remove(path, "app2")
    assert ["app1", "app3"] == [line.partition(":")[0] for line in path.read_text().split("\n") if line and line[0] == "a"]
    assert remove(path, "app1")
    assert remove(path, "app3")
    with pytest.raises(UsersError, match="names no user"):
        Users(path)


def test_same_password_other_line(tmp_path: Path) -> None:
    """Each line has its own salt."""
    path = tmp_path / "users"
    for name in ("a", "b"):
        set_password(path, name, "same")
    first, second = (line.partition(":")[2] for line in path.read_text().splitlines())
    assert first != second


@pytest.mark.parametrize(("mode", "kept"), [(0o600, 0o600), (0o640, 0o640), (0o660, 0o660), (0o644, 0o640)])
def test_rights_are_kept(tmp_path: Path, mode: int, kept: int) -> None:
    """The file's rights stay, but never any for others; the inode is a new one, and a link to the file stays a link."""
    path = users_file(tmp_path)
    path.chmod(mode)
    link = tmp_path / "link"
    link.symlink_to(path)
    before = path.stat()
    set_password(link, "app1", "new")
    assert link.is_symlink()
    after = path.stat()
    assert (kept, True) == (after.st_mode & 0o777, after.st_ino != before.st_ino)


def test_owner_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Owner and group are given to the new file; where that is not allowed, the old one stays."""
    path = users_file(tmp_path)
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    real = os.fstat

    def elsewhere(descriptor: int) -> os.stat_result:
        return os.stat_result((*real(descriptor)[:4], 4321, 4321, *real(descriptor)[6:10]))

    monkeypatch.setattr(os, "fstat", elsewhere)
    set_password(path, "app1", "new")
    assert [(os.getuid(), path.stat().st_gid)] == given

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    before = path.read_bytes()
    with pytest.raises(UsersError, match="permission denied: run as root"):
        set_password(path, "app1", "newer")
    assert (before, ["users"]) == (path.read_bytes(), [one.name for one in tmp_path.iterdir()])
    path.unlink()
    assert set_password(path, "app1", "new")  # a new file is left to our own group where the directory's is not ours


def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails before the new file stands, the old one is there whole, and nothing is left behind."""
    path = users_file(tmp_path)
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UsersError, match="No space left on device"):
        set_password(path, "app2", "x")
    assert (before, ["users"]) == (path.read_bytes(), [one.name for one in tmp_path.iterdir()])


async def test_two_writers(tmp_path: Path) -> None:
    """Writers at the same time do not undo each other."""
    path = tmp_path / "users"
    names = [f"app{number}" for number in range(8)]
    await asyncio.gather(*(asyncio.to_thread(set_password, path, name, "x") for name in names))
    assert names == sorted(line.partition(":")[0] for line in path.read_text().splitlines())


@pytest.mark.parametrize("name", ["", "a:b", "#a", " a", "a\n", "a\x1b", "\ud800", "x" * 256])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    """A name that could not be read back is refused, and no file is made."""
    with pytest.raises(UsersError, match="a user's name"):
        set_password(tmp_path / "users", name, "x")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("password", ["", "a\0b"])
def test_passwords_that_cannot_be(tmp_path: Path, password: str) -> None:
    """An empty password, and one that AUTH PLAIN cannot carry, are refused."""
    with pytest.raises(UsersError, match="at least one character, and no NUL"):
        set_password(tmp_path / "users", "app1", password)


def test_files_that_cannot_be_rewritten(tmp_path: Path) -> None:
    """A file that is no text is not touched; nothing is removed from a file that is not there."""
    path = users_file(tmp_path, b"\xff\n")
    with pytest.raises(UsersError, match="not UTF-8 text"):
        set_password(path, "app1", "x")
    with pytest.raises(UsersError, match="there is no such file"):
        remove(tmp_path / "other", "app1")
    with pytest.raises(UsersError, match="there is no such file or directory"):
        set_password(tmp_path / "nowhere" / "users", "app1", "x")


# Identities.

TOKEN = "8e5d2f1a-0c3b-4e7f-9a1b-2c3d4e5f6071"  # of the form of Postmark's server tokens
FINGERPRINT = f"token-{hashlib.sha256(TOKEN.encode()).hexdigest()[:8]}"
OTHER = hashed("other", salt=SALT)


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("app1", "", "app1"),
        ("apikey", ":shop", "shop"),
        ("api", ":Büro 7", "Büro 7"),
        ("AKIAFAKEFAKEFAKEFAKE", "", "AKIAFAKEFAKEFAKEFAKE"),
        ("smtp@mta.example", ":smtp@mta.example", "smtp@mta.example"),
        (TOKEN, ":shop", "shop"),
        (TOKEN, "", FINGERPRINT),
    ],
)
async def test_by_what_a_user_is_known(tmp_path: Path, name: str, line: str, expected: str) -> None:
    """By the third field of the line, else by the name, and never by what looks like a token."""
    users = Users(users_file(tmp_path, f"{name}:{GOOD}{line}\n"))
    assert expected == await users.verify(name, "not-a-secret")
    assert expected == await users.verify(name, "not-a-secret")  # as remembered
    assert expected == users.identity(name)
    assert {expected} == users.identities
    assert await users.verify(name, "wrong") is None


async def test_several_users_of_one_name(tmp_path: Path, scrypts: list[dict[str, int]]) -> None:
    """All apps of some providers have the same name: the password tells them apart, and every failure costs the same."""
    users = Users(users_file(tmp_path, f"api:{GOOD}:shop\napi:{OTHER}:news\napp1:{GOOD}\n"))
    assert "shop" == await users.verify("api", "not-a-secret")
    assert "news" == await users.verify("api", "other")
    assert 3 == len(scrypts)
    scrypts.clear()
    assert ["shop", "news"] == [await users.verify("api", password) for password in ("not-a-secret", "other")]
    assert [] == scrypts
    for name in ("api", "app1", "nobody"):
        assert await users.verify(name, "wrong") is None
        assert [PARAMETERS] * 2 == scrypts
        scrypts.clear()
    assert "shop or news" == users.identity("api")
    assert frozenset({"shop", "news", "app1"}) == users.identities


def test_who_is_not_there_is_not_shown_either(tmp_path: Path) -> None:
    """A token that logs in at the wrong place is no line of the log."""
    users = Users(users_file(tmp_path))
    assert [FINGERPRINT, "nobody", ""] == [users.identity(name) for name in (TOKEN, "nobody", "")]


@pytest.mark.parametrize(
    "name",
    [
        TOKEN,
        TOKEN.upper(),
        "0123456789abcdef0123456789abcdef",
        "PM-T-outbound-VFJ4Iq2gS4Bw2O3k",
        "SGxk3Yz9AbQ7rT2mNvW8pL5c",
        "SG.fake-fake-fake-fake.fake-fake-fake-fake",
    ],
)
def test_what_looks_like_a_token(name: str) -> None:
    """UUIDs, long hexadecimal numbers, and long words of letters and digits through each other."""
    assert is_token(name)
    assert shown(name).startswith("token-")
    assert name not in shown(name)


@pytest.mark.parametrize(
    "name",
    [
        *("apikey", "api", "app1", "smtp@mta.example", "1a2b3c4d5e6f7a", "order-confirmation-service-1", "web-01.prod-3.eu-west-1", ""),
        *("x" * 5000, "AKIAFAKEFAKEFAKEFAKE", "ASIA2345Z7Z7Z7Z7Z7Z7"),
    ],
)
def test_what_does_not_look_like_a_token(name: str) -> None:
    """Names that people give, and the access keys of AWS, which are no secret."""
    assert not is_token(name)
    assert name == shown(name)
    assert name.startswith(("AKIA", "ASIA")) == is_access_key(name)


@given(st.text(max_size=300))
def test_any_name_can_be_shown(name: str) -> None:
    """What comes in a login may be anything."""
    assert shown(name) in (name, f"token-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{TOKEN}:{GOOD}\n{TOKEN}:{GOOD}\n", f"{FINGERPRINT} is already on line 1: delete one of the two, or give it another identity"),
        (f"api:{GOOD}:a\napi:{GOOD}:a\n", "api is already on line 1: delete one of the two, or give it another identity"),
        (f"{TOKEN}:plain\n", f"the password of {FINGERPRINT} is not hashed as {{SCRYPT}}: set the password again: relay passwd -"),
        (f"{TOKEN}:{GOOD}x\n", f"the {{SCRYPT}} of {FINGERPRINT} is damaged: set the password again: relay passwd -"),
        (f"app1:{GOOD}:\n", "the identity of app1, behind the second colon, is printable, holds no colon, "),
        (f"app1:{GOOD}:a:b\n", "the identity of app1, behind the second colon, is printable, holds no colon, "),
    ],
)
def test_wrong_lines_show_no_token(tmp_path: Path, text: str, expected: str) -> None:
    """The text goes into the log."""
    with pytest.raises(UsersError) as caught:
        Users(users_file(tmp_path, text))
    assert expected in str(caught.value)
    assert TOKEN not in str(caught.value)


async def test_an_identity_is_written_and_kept(tmp_path: Path) -> None:
    """A new password leaves it; a new one for a user without one is given to this user; one that equals the name is none."""
    path = tmp_path / "users"
    assert set_password(path, "api", "first")
    assert not set_password(path, "api", "second", "shop")
    assert not set_password(path, "api", "third")
    assert "shop" == await Users(path).verify("api", "third")
    assert set_password(path, "api", "fourth", "news")
    assert not set_password(path, "api", "fifth", "news")
    assert set_password(path, "api", "sixth", "api")
    users = Users(path)
    assert ["shop", "news", "api"] == [await users.verify("api", password) for password in ("third", "fifth", "sixth")]
    assert ["shop", "news", None] == [line.partition("$")[2].partition(":")[2] or None for line in path.read_text().splitlines()]


def test_several_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Whoever does not say which is told whom there are; nothing is done."""
    path = users_file(tmp_path, before := f"api:{GOOD}:shop\napi:{GOOD}:news\n")
    for act in (lambda: set_password(path, "api", "x"), lambda: remove(path, "api"), lambda: known_as(path, "api")):
        with pytest.raises(UsersError, match="api is several users: say which by --identity: shop, news"):
            act()
    assert before == path.read_text()
    assert not remove(path, "api", "other")
    assert remove(path, "api", "shop")
    assert f"api:{GOOD}:news\n" == path.read_text()
    assert remove(path, "api")


def test_by_what_a_user_will_be_known(tmp_path: Path) -> None:
    """Before anything is written; what is no hash holds no identity, it might be a password."""
    path = users_file(tmp_path, f"api:{GOOD}:shop\n{TOKEN}:{GOOD}\nold:plain:hunter2\nbad:{GOOD}:{TOKEN}\n\xff:\n")
    named = [("api", "shop"), ("app1", "app1"), (TOKEN, FINGERPRINT), ("old", "old"), ("bad", "bad")]
    assert [one for _, one in named] == [known_as(path, name) for name, _ in named]
    assert "news" == known_as(path, "api", "news")
    assert "app1" == known_as(tmp_path / "none", "app1")
    assert not set_password(path, "old", "new")
    assert "hunter2" not in path.read_text()


@pytest.mark.parametrize("identity", ["", " a", "a:b", "#a", "a\nb", "x" * 256, TOKEN])
def test_what_is_no_identity(tmp_path: Path, identity: str) -> None:
    """It stands in a line and in the log."""
    with pytest.raises(UsersError, match="an identity "):
        set_password(tmp_path / "users", "app1", "x", identity)
    assert [] == list(tmp_path.iterdir())
