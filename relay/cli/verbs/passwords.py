"""`relay passwd` and `relay smtp-password`: passwords of our users, and the one that Amazon SES wants by SMTP.

A password is read without echo, or from standard input; it is never an argument, which other users of the host could see. The same
holds for a user's name that is a secret itself: `-` stands for it, and it is shown nowhere.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from relay.cli import door, exits
from relay.cli.exits import Stop
from relay.cli.verbs.common import Options

_CODES: Mapping[type, int] = {PermissionError: exits.PERMISSION, FileNotFoundError: exits.NO_INPUT}
LONGEST = 4096  # characters of a line read from standard input
_ASKED_FOR = "-"  # stands for a name that is a secret


def passwd(options: Options) -> int:
    """Set a user's password, or take the user away."""
    from relay import users

    path = _users_file(options)
    secret = options.name == _ASKED_FOR
    name = _read("user name", stdin=options.stdin or (options.delete and not sys.stdin.isatty())) if secret else options.name
    try:
        called = users.known_as(path, name, options.identity)
        if options.delete:
            if not users.remove(path, name, options.identity):
                raise Stop(exits.NO_INPUT, f"{path}: there is no {'such user' if secret else f'user {called}'}")
            print(f"{path}: {'the user' if secret and called == name else called} removed")
            return exits.OK
        if secret and called == name:
            raise Stop(exits.USAGE, "a name that is a secret needs another one, for the log and for routes: --identity ID")
        new = users.set_password(path, name, _read("password", called, stdin=options.stdin), options.identity)
    except users.UsersError as error:
        raise Stop(_CODES.get(type(error.__cause__), exits.DATA), str(error)) from error
    print(f"{path}: {called} {'added' if new else 'has a new password'}")
    _advise(name, called, secret=secret)
    return exits.OK


def _advise(name: str, called: str, *, secret: bool) -> None:
    """Say it where the name of a user looks like a credential of a provider."""
    from relay import users

    if called == users.shown(name) and (users.is_token(name) or users.is_access_key(name)):
        mend = f"relay passwd --identity ID {_ASKED_FOR if users.is_token(name) else name}"
        print(f"relay: the log and routes know this user as {called}; to give it a name there: {mend}", file=sys.stderr)
    if users.is_token(name) and not secret:
        print("relay: this name looks like a secret, and the shell may have kept it: delete it from its history", file=sys.stderr)


def _users_file(options: Options) -> Path:
    if options.users:
        return Path(options.users)
    path = door.config_file(getattr(options, "config", None), os.environ)
    if path is None:
        raise Stop(exits.NO_INPUT, f"there is no configuration: {door.CONFIG_FILE} does not exist; name the users file: --users FILE")
    from relay.config.reach import users_files

    files = users_files(path, environ=os.environ)
    if options.listener:
        if options.listener not in files:
            raise Stop(exits.USAGE, f'no listener with auth is named "{options.listener}"; {_known(files)}')
        return files[options.listener]
    distinct = set(files.values())
    if len(distinct) != 1:
        raise Stop(exits.USAGE, f"which users file? Say --listener L or --users FILE; {_known(files)}")
    return distinct.pop()


def _known(files: Mapping[str, Path]) -> str:
    return "configured: " + (", ".join(f"{name} ({file})" for name, file in files.items()) or "no listener has auth")


def _read(what: str, whose: str = "", *, stdin: bool) -> str:
    """A secret, typed twice at the terminal or the next line of standard input."""
    if stdin:
        return _from_stdin(what)
    if not sys.stdin.isatty():
        raise Stop(exits.USAGE, f"a {what} is asked for at a terminal; --stdin reads it from standard input")
    first = getpass.getpass(f"{what}{f' for {whose}' if whose else ''}: ")
    if not first:
        raise Stop(exits.USAGE, f"a {what} is not empty; nothing was done")
    if getpass.getpass("again: ") != first:
        raise Stop(exits.USAGE, f"the two {what}s are not the same; nothing was done")
    return first


def _from_stdin(what: str) -> str:
    """The next line of standard input."""
    found = sys.stdin.readline(LONGEST + 1).rstrip("\r\n")
    if not found or len(found) > LONGEST:
        raise Stop(exits.USAGE, f"standard input holds no {what}: one line of at most {LONGEST} characters")
    return found


def smtp_password(options: Options) -> int:
    """Print the SMTP password for Amazon SES, and nothing else."""
    from relay.transports import presets

    if options.region:
        if options.provider:
            raise Stop(exits.USAGE, "a provider of the configuration has its own region: leave out P, or --region")
        region = _region(options.region)
        secret = getpass.getpass("secret access key: ") if sys.stdin.isatty() else _from_stdin("secret")
        print(presets.ses_smtp_password(secret, region))
        return exits.OK
    if not options.provider:
        raise Stop(exits.USAGE, "say which: relay smtp-password P, or --region with the secret access key on standard input")
    print(_of_provider(options, options.provider))
    return exits.OK


def _region(given: str) -> str:
    """The region is part of the password: a wrong one gives a password that is wrong as well, and nothing would say so."""
    from relay.config import aws

    try:
        region = aws.region(given)
    except ValueError as error:
        raise Stop(exits.USAGE, f"--region: {error}") from error
    if region not in aws.REGIONS:
        print(f'relay: "{region}" is not a region of SES that relay knows of', file=sys.stderr)
    return region


def _of_provider(options: Options, name: str) -> str:
    from relay import config
    from relay.config.references import UNRESOLVED
    from relay.transports import presets

    path = door.config_file(getattr(options, "config", None), os.environ)
    if path is None:
        raise Stop(exits.NO_INPUT, f"there is no configuration: {door.CONFIG_FILE} does not exist; use --region")
    provider = config.load(path, environ=os.environ, inside_service=False).providers.get(name)
    if not isinstance(provider, config.SesProvider):
        raise Stop(exits.USAGE, f"{path} has no provider {name} of type ses")
    if provider.smtp_password is not None:
        found = provider.smtp_password.get_secret_value()
    elif provider.secret_access_key is not None:
        found = provider.secret_access_key.get_secret_value()
    else:
        raise Stop(exits.USAGE, f"{name} has no secret_access_key in {path}; use --region")
    if found == UNRESOLVED:
        raise Stop(exits.CONFIG, f"the secret of {name} is only known inside the service; use --region with it on standard input")
    return found if provider.smtp_password is not None else presets.ses_smtp_password(found, provider.region)
