"""`relay explain`: which route takes a message, and what would become of it. Nothing is sent.

The daemon need not run; where it does, it is asked what only it knows: pauses, what is used of budgets, ramps that stepped back.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from relay import header, routing, users
from relay.cli import door, exits, explanations, unobeyed
from relay.cli.exits import Stop
from relay.cli.verbs import common, mail, outlook
from relay.cli.verbs.common import Options
from relay.config import Config, ListenConfig
from relay.model import Client, Entry
from relay.smtp_protocol import Limits

Json = dict[str, object]


def explain(options: Options) -> int:
    """Print one screen, or one JSON object."""
    if bool(options.file) == bool(options.header):
        raise Stop(exits.USAGE, "name a message, or give header fields: relay explain FILE, or relay explain --header H:V…")
    settings = mail.configuration(options)
    if settings is None:
        raise Stop(exits.NO_INPUT, f"there is no configuration: {door.CONFIG_FILE} does not exist; name one: relay explain -c FILE …")
    listener = mail.listener(settings, options.listener)
    address = _address(options.client, listener)
    found = mail.read(options.file) if options.file else mail.of_fields(options.header)
    envelope = mail.envelope(found, options.sender, options.to)
    client = Client(listener.name, address, name="localhost", helo=settings.hostname, username=users.shown(options.user or ""))
    made = mail.entry(found, envelope, hostname=settings.hostname, client=client)
    live = _live(settings)
    ways = outlook.ways(settings, made, live, time.time())
    shown: Json = {
        "reverse_path": envelope.reverse_path,
        "message_size": found.facts.size if options.file else None,
        "client": client.address,
        "user": client.username,
        "listener": _verdict(settings, listener, made, whole=bool(options.file)),
        "edits": outlook.edits(made.edits),
        "rewritten": outlook.rewritten(settings, made),
        "daemon": live is not None,
        "recipients": [way.shown for way in ways],
        "providers": outlook.providers(settings, found, made, ways, live) if options.file else [],
    }
    if common.as_json(options):
        common.print_json(shown)
    else:
        common.lines(explanations.lines(shown))
    return exits.OK


def _address(given: str | None, listener: ListenConfig) -> str:
    if given is None:
        return "unix" if listener.address.startswith("unix:") else "127.0.0.1"
    try:
        return str(ip_address(given))
    except ValueError as error:
        raise Stop(exits.USAGE, f"--client wants an IP address, not {given!r}") from error


def _live(settings: Config) -> outlook.Live | None:
    """What the running daemon says; None where none runs, or it may not be asked."""
    for address in settings.admin.listen:
        live = door.Live(address)
        try:
            if live.reachable():
                return outlook.Live.of(door.Admin(live).get("/api/v1/status"))
        except Stop as stop:
            print(f"relay: how the providers fare is not known: {stop}", file=sys.stderr)
            return None
    return None


def _verdict(settings: Config, listener: ListenConfig, made: Entry, *, whole: bool) -> Json:
    """What the listener would say, and what it wants beside the mail."""
    refusals, client, user = [], made.client.address, made.client.username
    if listener.allow and client != "unix" and not any(_ip(client) in network for network in listener.allow):
        refusals.append(f"{client} is in none of the networks of allow")
    if user and not listener.auth:
        refusals.append(f"nobody can log in there, {user} neither: it has no auth")
    sender = made.envelope.reverse_path
    for key, allowed in (("allow", settings.senders.allow), (f"users.{user}", settings.senders.users.get(user, ()))):
        if sender and allowed and not any(routing.matches(pattern, sender) for pattern in allowed):
            refusals.append(f"the reverse-path {sender} is none of senders.{key}: {', '.join(allowed)}")
    if whole and made.facts.size > listener.max_size:
        refusals.append(f"{made.facts.size:,} octets are more than max_size, {listener.max_size:,}")
    refusals += _beyond_limits(made)
    refusals += _unknown_user(listener, user)
    wants = ["TLS"] if listener.tls in ("required", "implicit") else []
    wants += ["a login"] if listener.auth and not user else []
    return {
        "name": listener.name,
        "address": listener.address,
        "max_size": listener.max_size,
        "wants": wants,
        "controls": list(listener.controls),
        "refusals": refusals,
        "losses": [{"grade": loss.grade, "what": loss.what} for loss in unobeyed.losses(made.header, listener.name, listener.controls)],
    }


def _unknown_user(listener: ListenConfig, user: str) -> Iterator[str]:
    """That nobody is known by this name where users log in. Nothing where their file cannot be read: it may be the service's alone."""
    if not user or listener.auth is None:
        return
    with contextlib.suppress(users.UsersError):
        known = users.Users(listener.auth)
        if user not in known.identities:
            identity = known.identity(user)
            yield f"nobody who logs in there is known as {user}" + ("" if identity == user else f": that login is known as {identity}")


def _beyond_limits(made: Entry) -> Iterator[str]:
    """What every listener refuses, however it is configured."""
    limits, received = Limits(), sum(name == "received" for name, _ in header.fields(made.header))
    if received > limits.max_received:
        yield f"{received} Received fields are more than {limits.max_received}: the mail goes in a circle"
    if len(made.header) > limits.max_header:
        yield f"a header of {len(made.header):,} octets is more than {limits.max_header:,}"
    if made.facts.longest_line > limits.max_line:
        yield f"a line of {made.facts.longest_line:,} octets is more than {limits.max_line:,}"
    if len(made.envelope.recipients) > limits.max_recipients:
        yield f"{len(made.envelope.recipients):,} recipients are more than {limits.max_recipients:,} in one transaction"


def _ip(address: str) -> IPv4Address | IPv6Address:
    found = ip_address(address)
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
