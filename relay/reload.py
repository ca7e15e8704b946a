"""A changed configuration put in force while mail goes on: all of it, or nothing of it.

Promises: a file with mistakes, a certificate or users file that cannot be used, or an address that cannot be listened on
changes nothing, and the log and the caller hear every reason; sessions and attempts under way end as they began; a
provider whose settings did not change keeps its connections. What belongs to the whole process (`FIXED`) needs a
restart, and a file that changes it is refused, because half of a file in force would be worse than none.
Certificates and users files are looked at by themselves as well (`refresh`): a renewed certificate needs no signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from relay import assembly, certificates, config
from relay.certificates import ServerTls
from relay.config import Config
from relay.delivery import Delivery
from relay.errors import ConfigError, RelayError, SpoolError
from relay.listener import Listeners, ListenerSettings
from relay.log import Events
from relay.metrics import Metrics
from relay.transports.base import Transport
from relay.users import Users

T = TypeVar("T")

FIXED: Mapping[str, Callable[[Config], object]] = {
    "hostname": lambda settings: settings.hostname,
    "queue.spool": lambda settings: settings.queue.spool,
    "admin": lambda settings: settings.admin,
}
"""What only a restart changes."""

READ = 30.0  # seconds that reading the configuration, or the certificates and users that it names, may take
CLOSE = 10.0  # seconds that the transports may take to close their connections at the end
_DAY = 86400.0  # seconds
NO_FILE = "this is the development set-up: it has no configuration file to read again"


class Reloader:
    """The configuration in force, and the parts that a new one is put into.

    `transports` are the running ones by provider; `relog` sets up the log for a configuration.
    """

    def __init__(
        self,
        settings: Config,
        source: Path | None,
        *,
        listen: Sequence[ListenerSettings],
        listeners: Listeners,
        delivery: Delivery,
        transports: Mapping[str, Transport],
        events: Events,
        metrics: Metrics,
        relog: Callable[[Config], object],
    ) -> None:
        self.config = settings
        self.changed = ""  # what the last reload changed
        self.transports = dict(transports)
        self._source = source
        self._listen = listen
        self._wanted = assembly.all_transport_settings(settings)
        self._listeners = listeners
        self._delivery = delivery
        self._events = events
        self._metrics = metrics
        self._relog = relog
        self._one_at_a_time = asyncio.Lock()
        self._told: dict[str, float] = {}  # warning -> when it was said last

    async def reload(self) -> Sequence[str]:
        """Read the file again and put it in force; returns why that was refused, nothing when it was done."""
        async with self._one_at_a_time:
            try:
                if self._source is None:
                    raise ConfigError([NO_FILE])
                self.changed = await self._apply(await _aside(partial(config.load, self._source, environ=os.environ)))
            except RelayError as error:
                problems = error.problems if isinstance(error, ConfigError) else (str(error),)
                self._events.reload_refused(problems)
                self._metrics.config_loaded(False)
                return problems
            except Exception as error:  # a mistake of ours must cost neither the caller its answer nor the next reload its chance
                self._events.bug("reload", error)
                self._metrics.config_loaded(False)
                return (f"internal error: {type(error).__name__}; the log has more",)
            self._events.reloaded(self.changed)
            self._metrics.config_loaded(True)
            return ()

    async def _apply(self, new: Config) -> str:
        """Everything that can fail first, then everything else. Returns what changed."""
        if fixed := [f"{key} changed, which takes a restart of relay" for key, of in FIXED.items() if of(new) != of(self.config)]:
            raise ConfigError(fixed)
        listen = await _aside(partial(assembly.listener_settings, new, self._listen))
        wanted = assembly.all_transport_settings(new)
        made = {name: assembly.make(settings) for name, settings in wanted.items() if settings != self._wanted.get(name)}
        try:
            await self._listeners.configure(listen)
        except BaseException:
            for transport in made.values():
                await transport.aclose()
            raise
        old, self.config, self._wanted, self._listen = self.config, new, wanted, listen
        self.transports = {name: made.get(name) or self.transports[name] for name in wanted}
        self._relog(new)
        self._metrics.configured(**assembly.metric_labels(new))
        try:
            await self._delivery.configure(self.transports, new.route_table(), assembly.delivery_settings(new), assembly.allowances(new))
        except SpoolError as error:
            self._events.warning(f"after the reload: what waits is looked at only when its time comes: {error}")
        for warning in new.warnings:
            self._events.warning(warning)
        return changes(old, new)

    def refresh(self, now: float) -> None:
        """Read certificates and users files again that changed since. What is wrong with one is told once; a certificate that
        ends soon, once a day. `now` is Unix seconds."""
        told: dict[str, float] = {}
        for item in self._listen:
            certificate = item.certificate
            for what, part in (("certificate", certificate), ("users", item.users)):
                if isinstance(part, ServerTls | Users):
                    self._read_again(f"{what} of listener {item.name}", part, now, told)
            if isinstance(certificate, ServerTls) and certificate.expires() - now < certificates.SOON:
                self._warn(f"the certificate of listener {item.name} {_end(certificate.expires(), now)}", now, told, _DAY)
        self._told = told

    def _read_again(self, what: str, part: ServerTls | Users, now: float, told: dict[str, float]) -> None:
        try:
            if part.refresh():
                self._events.reloaded(what)
        except RelayError as error:
            self._warn(f"{what} changed and cannot be used, the old one stays: {error}", now, told, math.inf)

    def _warn(self, text: str, now: float, told: dict[str, float], again: float) -> None:
        """Say it, unless it was said less than `again` seconds ago and has been true ever since."""
        said = self._told.get(text)
        if said is None or now - said >= again:
            self._events.warning(text)
            said = now
        told[text] = said

    async def close(self) -> None:
        """Close the running transports, at the same time; one that does not close is left alone after `CLOSE` seconds."""
        await asyncio.gather(*map(_close, self.transports.values()), return_exceptions=True)


async def _aside(read: Callable[[], T]) -> T:
    """What `read` returns, from a thread that nobody waits for longer than `READ` seconds, nor at the end of the process: a
    pipe without a writer, or a file server that is down, must not be what a stop hangs on. Raises ConfigError then."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def end(set_: Callable[[Any], None], value: object) -> None:
        if not future.done():
            set_(value)

    def run() -> None:
        try:
            how: tuple[Callable[[Any], None], object] = future.set_result, read()
        except Exception as error:
            how = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(end, *how)

    threading.Thread(target=run, name="reload", daemon=True).start()
    try:
        async with asyncio.timeout(READ):
            return await future
    except TimeoutError:
        raise ConfigError([f"the configuration, or a file that it names, could not be read within {READ:g} s"]) from None


async def _close(transport: Transport) -> None:
    async with asyncio.timeout(CLOSE):
        await transport.aclose()


def _end(expires: float, now: float) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(expires))
    return f"expired on {day}: renew it" if expires <= now else f"expires on {day}: renew it before"


def changes(old: Config, new: Config) -> str:
    """What differs between two configurations, in a line."""
    found = _named("listener", {one.name: one for one in old.listen}, {one.name: one for one in new.listen})
    found += _named("provider", old.providers, new.providers)
    found += _named("route", {route.name: route for route in old.routes}, {route.name: route for route in new.routes})
    found += [word for word in ("senders", "queue", "bounce", "log") if getattr(old, word) != getattr(new, word)]
    if not found and [route.name for route in old.routes] != [route.name for route in new.routes]:
        found = ["order of routes"]
    return ", ".join(found) or "nothing changed; certificates and users were read again"


def _named(what: str, old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    added = [f"{what} {name} added" for name in new if name not in old]
    gone = [f"{what} {name} gone" for name in old if name not in new]
    return added + gone + [f"{what} {name} changed" for name in new if name in old and new[name] != old[name]]
