"""`relay convert`: the requests or transactions that a message becomes, without sending them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from relay import assembly
from relay.cli import exits, previews, unobeyed
from relay.cli.exits import Stop
from relay.cli.verbs import common, mail
from relay.cli.verbs.common import Options
from relay.config import ProviderConfig
from relay.errors import CannotCarry
from relay.model import Client, Job
from relay.transports.base import Preview, Transport


def convert(options: Options) -> int:
    """Print each request; exit code 65 where the provider cannot carry the message."""
    settings = mail.configuration_or_type(options, options.provider)
    provider = _in_mode(options.provider, settings.providers[options.provider], options.mode)
    found = mail.read(options.file)
    envelope = mail.envelope(found, options.sender, options.to)
    listener = mail.listener(settings, options.listener) if options.listener else None
    client = Client(listener.name if listener else "", "127.0.0.1", name="localhost", helo=settings.hostname)
    made = mail.entry(found, envelope, hostname=settings.hostname, client=client)
    transport = assembly.transport_for(options.provider, provider, settings)
    try:
        shown = asyncio.run(asked(transport, mail.job(found, made, envelope.recipients)))
    except CannotCarry as error:
        what = "the message" if options.file == "-" else options.file
        raise Stop(exits.DATA, f"{options.provider} cannot carry {what}: {error}") from error
    if listener:
        in_vain = tuple(unobeyed.losses(found.header, listener.name, listener.controls))
        shown = [replace(preview, losses=(*preview.losses, *in_vain)) for preview in shown]
    _print(shown, options, str(getattr(provider, "ca_file", None) or ""))
    return exits.OK


async def asked(transport: Transport, job: Job) -> Sequence[Preview]:
    """What the transport would send; it is closed afterwards. Raises CannotCarry."""
    try:
        return await transport.preview(job)
    finally:
        await transport.aclose()


def _in_mode(name: str, provider: ProviderConfig, mode: str | None) -> ProviderConfig:
    """The provider spoken to in another way than it is configured."""
    if mode is None or mode == getattr(provider, "mode", provider.type):
        return provider
    field = type(provider).model_fields.get("mode")
    modes = get_args(field.annotation) if field else (provider.type,)
    if mode not in modes:
        raise Stop(exits.USAGE, f"--mode {mode}: {name} is spoken to by {' or '.join(modes)} only")
    return provider.model_copy(update={"mode": mode})


def _print(shown: Sequence[Preview], options: Options, ca_file: str) -> None:
    if options.json:
        for preview in shown:
            common.print_json(previews.as_json(preview))
        return
    if options.curl:
        if any(preview.method == "CAPTURE" for preview in shown):
            raise Stop(exits.USAGE, f"--curl: {options.provider} keeps mail on this host; there is no request")
        for preview in shown:
            sys.stdout.flush()
            sys.stdout.buffer.write(previews.curl(preview, ca_file).encode())
        return
    for number, preview in enumerate(shown):
        if number:
            print()
        common.lines(previews.lines(preview))
