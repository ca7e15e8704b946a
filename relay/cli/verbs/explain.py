"""`relay explain`: which route takes a message, and what would become of it. Nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from relay import assembly, header, routing
from relay.cli import door, exits, explanations, previews, unobeyed
from relay.cli.exits import Stop
from relay.cli.verbs import common, mail
from relay.cli.verbs.common import Options
from relay.cli.verbs.convert import asked
from relay.config import Config, ListenConfig
from relay.errors import CannotCarry
from relay.model import Client, Entry, Recipient
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
    client = Client(listener.name, address, name="localhost", helo=settings.hostname)
    made = mail.entry(found, envelope, hostname=settings.hostname, client=client)
    routes = settings.route_table()
    tried = {recipient: routing.explain(routes, made, recipient.address) for recipient in envelope.recipients}
    shown: Json = {
        "reverse_path": envelope.reverse_path,
        "message_size": found.facts.size if options.file else None,
        "client": client.address,
        "listener": _verdict(settings, listener, made, whole=bool(options.file)),
        "edits": [{"kind": edit.kind.value, "text": edit.text} for edit in made.edits],
        "recipients": [_recipient(recipient.address, looked_at) for recipient, looked_at in tried.items()],
        "providers": [],
    }
    if options.file:
        used = dict.fromkeys(name for looked_at in tried.values() for name in _via(looked_at))
        shown["providers"] = [
            _provider(settings, name, found, made, [one for one, looked_at in tried.items() if name in _via(looked_at)]) for name in used
        ]
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


def _verdict(settings: Config, listener: ListenConfig, made: Entry, *, whole: bool) -> Json:
    """What the listener would say, and what it wants beside the mail."""
    refusals, client = [], made.client.address
    if listener.allow and client != "unix" and not any(_ip(client) in network for network in listener.allow):
        refusals.append(f"{client} is in none of the networks of allow")
    sender, allowed = made.envelope.reverse_path, settings.senders.allow
    if sender and allowed and not any(routing.matches(pattern, sender) for pattern in allowed):
        refusals.append(f"the reverse-path {sender} is none of senders.allow: {', '.join(allowed)}")
    if whole and made.facts.size > listener.max_size:
        refusals.append(f"{made.facts.size:,} octets are more than max_size, {listener.max_size:,}")
    refusals += _beyond_limits(made)
    wants = ["TLS"] if listener.tls in ("required", "implicit") else []
    wants += ["a login"] if listener.auth else []
    return {
        "name": listener.name,
        "address": listener.address,
        "max_size": listener.max_size,
        "wants": wants,
        "controls": list(listener.controls),
        "refusals": refusals,
        "losses": [{"grade": loss.grade, "what": loss.what} for loss in unobeyed.losses(made.header, listener.name, listener.controls)],
    }


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


def _via(looked_at: Sequence[routing.Tried]) -> tuple[str, ...]:
    """The providers of the route that was taken: the last one looked at, because the last of a configuration takes everything."""
    return looked_at[-1].route.via


def _recipient(address: str, looked_at: Sequence[routing.Tried]) -> Json:
    return {
        "address": address,
        "route": looked_at[-1].route.name,
        "via": list(_via(looked_at)),
        "tried": [{"route": tried.route.name, "against": list(tried.against)} for tried in looked_at],
    }


def _provider(settings: Config, name: str, found: mail.FileMessage, made: Entry, recipients: Sequence[Recipient]) -> Json:
    """What a provider would do with the recipients whose route leads to it."""
    transport = assembly.transport_for(name, settings.providers[name], settings)
    shown: Json = {"name": name, "type": settings.providers[name].type, "requests": 0, "losses": [], "cannot": []}
    try:
        requests = asyncio.run(asked(transport, mail.job(found, made, recipients)))
    except CannotCarry as error:
        return {**shown, "cannot": list(error.reasons)}
    losses = dict.fromkeys((loss.grade, loss.what) for one in requests for loss in one.losses)
    told: Json = {"requests": len(requests), "losses": [{"grade": grade, "what": what} for grade, what in losses]}
    if why := dict.fromkeys(previews.way(one) for one in requests if one.why):
        told |= {"by_smtp": sum(bool(one.why) and one.method == "SMTP" for one in requests), "why": list(why)}
    return {**shown, **told}
