"""`relay passwd` and `relay smtp-password`: passwords of users, and the one of Amazon SES."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.cli import exits
from relay.cli.main import main
from relay.transports import presets
from relay.users import Users, shown
from tests.commands import write

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


LISTENERS = """\
listen:
  - {{name: lan, address: "10.0.0.5:587", auth: "{0}/users"}}
  - {{name: two, address: "10.0.0.6:587", auth: "{0}/{1}"}}
  - {{name: local, address: "127.0.0.1:25"}}
providers: {{capture: {{}}}}
"""


def typing(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """A terminal at which these passwords are typed, one after the other."""
    left = list(answers)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: left.pop(0))


async def test_a_password_is_set_and_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the users file that the configuration names, which needs neither to exist yet nor the rest to be right."""
    path = write(tmp_path / "relay.yaml", LISTENERS.format(tmp_path, "users"))
    monkeypatch.setenv("RELAY_CONFIG", path)
    typing(monkeypatch, "fake-password", "fake-password")
    assert exits.OK == main(["passwd", "app1"])
    assert f"{tmp_path}/users: app1 added\n" == capsys.readouterr().out
    assert await Users(tmp_path / "users").verify("app1", "fake-password")
    monkeypatch.setattr(sys, "stdin", io.StringIO("another-password\n"))
    assert exits.OK == main(["passwd", "app1", "--stdin"])
    assert f"{tmp_path}/users: app1 has a new password\n" == capsys.readouterr().out
    assert await Users(tmp_path / "users").verify("app1", "another-password")
    assert exits.OK == main(["passwd", "app1", "--delete", "--users", f"{tmp_path}/users"])
    assert exits.NO_INPUT == main(["passwd", "app1", "--delete"])
    assert "there is no user app1" in capsys.readouterr().err


def test_which_users_file_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is more than one it must be said."""
    path = write(tmp_path / "relay.yaml", LISTENERS.format(tmp_path, "others"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("fake-password\n"))
    assert exits.USAGE == main(["passwd", "app1", "--stdin", "-c", path])
    said = capsys.readouterr().err
    assert f"Say --listener L or --users FILE; configured: lan ({tmp_path}/users), two ({tmp_path}/others)" in said
    assert exits.OK == main(["passwd", "app1", "--stdin", "-c", path, "--listener", "two"])
    assert (tmp_path / "others").exists()
    assert exits.USAGE == main(["passwd", "app1", "--stdin", "-c", path, "--listener", "local"])
    assert 'no listener with auth is named "local"' in capsys.readouterr().err
    assert exits.USAGE == main(["passwd", "app1", "-c", write(tmp_path / "x.yaml", "listen: []\n")])
    assert "no listener has auth" in capsys.readouterr().err
    assert exits.NO_INPUT == main(["passwd", "app1"])
    assert exits.NO_INPUT == main(["passwd", "app1", "-c", str(tmp_path)])
    assert exits.CONFIG == main(["passwd", "app1", "-c", write(tmp_path / "x.yaml", "listen: ][\n")])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["one", "two"], "the two passwords are not the same; nothing was done"),
        ([""], "a password is not empty; nothing was done"),
    ],
)
def test_a_password_that_is_not_set(
    typed: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip at the terminal leaves the file alone."""
    typing(monkeypatch, *typed)
    assert exits.USAGE == main(["passwd", "app1", "--users", str(tmp_path / "users")])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "users").exists()


def test_a_password_needs_a_terminal_or_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is never an argument; a users file that cannot be written has the exit code of its reason."""
    users = ["--users", str(tmp_path / "users")]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert exits.USAGE == main(["passwd", "app1", *users])
    assert "--stdin" in capsys.readouterr().err
    assert exits.USAGE == main(["passwd", "app1", "--stdin", *users])
    assert "holds no password" in capsys.readouterr().err
    for name, file, code in (("a:b", users[1], exits.DATA), ("app1", "/no/such/users", exits.NO_INPUT)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("fake-password\n"))
        assert code == main(["passwd", name, "--stdin", "--users", file])


TOKEN = "8e5d2f1a-0c3b-4e7f-9a1b-2c3d4e5f6071"  # of the form of Postmark's server tokens


async def test_an_identity_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It stays with the next password, and tells users of one name apart."""
    users = ["--users", str(tmp_path / "users")]
    for more, password, printed in (
        (["--identity", "shop"], "first", "shop added"),
        ([], "second", "shop has a new password"),
        (["--identity", "news"], "third", "news added"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
        assert exits.OK == main(["passwd", "apikey", "--stdin", *more, *users])
        assert (f"{users[1]}: {printed}\n", "") == capsys.readouterr()
    file = Users(tmp_path / "users")
    assert ["shop", "news"] == [await file.verify("apikey", password) for password in ("second", "third")]
    for how in (["--delete"], []):
        assert exits.DATA == main(["passwd", "apikey", *how, *users])
        assert "apikey is several users: say which by --identity: shop, news" in capsys.readouterr().err
    assert exits.OK == main(["passwd", "apikey", "--delete", "--identity", "news", *users])
    assert f"{users[1]}: news removed\n" == capsys.readouterr().out
    assert exits.NO_INPUT == main(["passwd", "apikey", "--delete", "--identity", "news", *users])
    assert "there is no user news" in capsys.readouterr().err


@pytest.mark.parametrize("at_terminal", [True, False])
async def test_a_name_that_is_a_secret_is_asked_for(
    at_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Like the password, and it is printed nowhere: name first, then password."""
    users = ["--users", str(tmp_path / "users")]

    def run(*arguments: str, typed: Sequence[str]) -> tuple[int, str, str]:
        stdin = [] if at_terminal or "--delete" in arguments else ["--stdin"]
        if at_terminal:
            typing(monkeypatch, *(one for one in typed for _ in range(2)))
        else:
            monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{one}\n" for one in typed)))
        code = main(["passwd", "-", *arguments, *stdin, *users])
        return (code, *capsys.readouterr())

    assert (exits.OK, f"{users[1]}: shop added\n", "") == run("--identity", "shop", typed=[TOKEN, "first"])
    assert (exits.OK, f"{users[1]}: shop has a new password\n", "") == run(typed=[TOKEN, TOKEN])
    assert "shop" == await Users(tmp_path / "users").verify(TOKEN, TOKEN)
    assert (exits.OK, f"{users[1]}: shop removed\n", "") == run("--delete", typed=[TOKEN])
    code, out, err = run("--delete", typed=[TOKEN])
    assert (exits.NO_INPUT, "") == (code, out)
    assert "there is no such user" in err
    code, out, err = run(typed=["my-secret-name", "x"])
    assert (exits.USAGE, "") == (code, out)
    assert "a name that is a secret needs another one, for the log and for routes: --identity ID" in err
    code, out, err = run(typed=[TOKEN, "x"])
    assert (exits.OK, f"{users[1]}: {shown(TOKEN)} added\n") == (code, out)
    assert f"relay: the log and routes know this user as {shown(TOKEN)}; to give it a name there: relay passwd --identity ID -\n" == err
    assert (exits.OK, f"{users[1]}: shop has a new password\n", "") == run("--identity", "shop", typed=[TOKEN, "x"])


async def test_a_secret_name_that_nobody_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As an argument it is taken, and what to do about it is said without showing it again; an access key is no secret."""
    users = ["--stdin", "--users", str(tmp_path / "users")]

    def run(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("fake-password\n"))
        assert exits.OK == main(["passwd", *arguments, *users])
        return capsys.readouterr()

    history = "relay: this name looks like a secret, and the shell may have kept it: delete it from its history\n"
    advice = "relay: the log and routes know this user as {}; to give it a name there: relay passwd --identity ID {}\n"
    assert (f"{users[2]}: {shown(TOKEN)} added\n", advice.format(shown(TOKEN), "-") + history) == run(TOKEN)
    assert (f"{users[2]}: shop has a new password\n", history) == run(TOKEN, "--identity", "shop")
    key = "AKIAFAKEFAKEFAKEFAKE"
    assert (f"{users[2]}: {key} added\n", advice.format(key, key)) == run(key)
    assert (f"{users[2]}: clinic has a new password\n", "") == run(key, "--identity", "clinic")
    assert (f"{users[2]}: apikey added\n", "") == run("apikey")


def test_what_cannot_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a terminal nor a line: nothing is done."""
    users = ["--users", str(tmp_path / "users")]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert exits.USAGE == main(["passwd", "-", "--identity", "shop", *users])
    assert "a user name is asked for at a terminal; --stdin reads it" in capsys.readouterr().err
    assert exits.USAGE == main(["passwd", "-", "--identity", "shop", "--stdin", *users])
    assert "standard input holds no user name" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{TOKEN}\n"))
    assert exits.USAGE == main(["passwd", "-", "--identity", "shop", "--stdin", *users])
    assert "standard input holds no password" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO("fake-password\n"))
    assert exits.DATA == main(["passwd", "apikey", "--identity", TOKEN, "--stdin", *users])
    assert TOKEN not in (said := capsys.readouterr().err)
    assert "an identity is for everybody to see" in said
    assert [] == list(tmp_path.iterdir())


SES_SECRET = "FAKESECRETACCESSKEYforTests0000000000000"


def test_the_smtp_password_of_ses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Alone on standard output, the same by configuration, by standard input and at a terminal."""
    keys = '{region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKEFAKE, secret_access_key: "${env:SES_SECRET}"}'
    routes = "routes: [{name: default, via: [ses, keep]}]"
    path = write(tmp_path / "relay.yaml", f"providers: {{ses: {keys}, keep: {{type: capture}}}}\n{routes}\n")
    monkeypatch.setenv("SES_SECRET", SES_SECRET)
    assert exits.OK == main(["smtp-password", "ses", "-c", path])
    expected = f"{presets.ses_smtp_password(SES_SECRET, 'eu-west-1')}\n"
    assert expected == capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SES_SECRET}\n"))
    assert exits.OK == main(["smtp-password", "--region", "eu-west-1"])
    assert expected == capsys.readouterr().out
    typing(monkeypatch, SES_SECRET)
    assert exits.OK == main(["smtp-password", "--region", "eu-west-1"])
    assert expected == capsys.readouterr().out
    assert exits.USAGE == main(["smtp-password", "keep", "-c", path])
    assert "no provider keep of type ses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [
        ("smtp_password: not-derived, access_key_id: AKIAFAKEFAKEFAKEFAKE, mode: smtp", exits.OK, "not-derived\n"),
        ('access_key_id: AKIAFAKEFAKEFAKEFAKE, secret_access_key: "${cred:ses}"', exits.CONFIG, "only known inside the service"),
        ("profile: mail", exits.USAGE, "has no secret_access_key"),
    ],
)
def test_where_the_secret_of_ses_is(
    keys: str, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configured SMTP password is that password; a secret that is not to be had here is said."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path = write(tmp_path / "relay.yaml", f"providers: {{ses: {{region: eu-west-1, {keys}}}}}\n")
    assert code == main(["smtp-password", "ses", "-c", path])
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_without_a_configuration_the_region_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """66 names the way without one."""
    assert exits.NO_INPUT == main(["smtp-password", "ses"])
    assert "use --region" in capsys.readouterr().err


def test_a_region_is_checked_before_a_password_is_made_of_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The password of a misspelled region would be refused by SES, and nobody could see why."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SES_SECRET}\n{SES_SECRET}\n"))
    assert exits.USAGE == main(["smtp-password", "--region", "ireland"])
    assert ("", 'relay: --region: "ireland" is not an AWS region\n') == capsys.readouterr()
    assert exits.OK == main(["smtp-password", "--region", "eu-west-9"])
    out, err = capsys.readouterr()
    assert presets.ses_smtp_password(SES_SECRET, "eu-west-9") == out.strip()
    assert 'relay: "eu-west-9" is not a region of SES that relay knows of\n' == err
