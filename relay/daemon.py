"""The daemon: builds every part by hand, starts it, and stops it in order.

The only room that knows all the concrete classes. It decides nothing about mail: the parts start from the spool
outwards (spool, admin, delivery, listeners) and stop the other way, so that what is accepted always has a place to go
and what is under way can end. SIGTERM and SIGINT drain: nothing new, sessions and attempts under way end within `GRACE`;
a second signal ends at once, which the spool survives as it survives a crash. Other signals that would kill a process
which does not know them get a line in the log.

Fails before `ready` with ConfigError, SpoolBusy, SpoolError or Unavailable; each holds a sentence for the admin.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relay import __version__, config, log
from relay.admin import Admin, Api, Context
from relay.config import Config, PostmarkProvider, ProviderConfig, SmtpProvider
from relay.delivery import Delivery, DeliverySettings, SpoolTrouble
from relay.errors import SpoolError, Unavailable
from relay.listener import Listeners, ListenerSettings
from relay.log import Events
from relay.metrics import Metrics
from relay.spool.base import Health, Spool
from relay.spool.sqlite import SqliteSpool
from relay.transports.base import Transport
from relay.transports.capture import Capture, CaptureSettings
from relay.transports.http import Http
from relay.transports.postmark import Postmark, PostmarkSettings
from relay.transports.smtp import Smtp, SmtpSettings

GRACE = 30.0  # seconds that sessions and attempts under way are given at the end
PROBE = 5.0  # seconds between two looks at the disk
PURGE = 600.0  # seconds between two rounds of forgetting history and bodies
RELOAD = "SIGHUP: reload is not built yet; a changed configuration needs a restart"


@dataclass(frozen=True)
class Development:
    """What the hints of `relay serve --dev` name."""

    directory: Path
    command: str


def configured(path: Path) -> int:
    """Run by a configuration file until stopped; returns the exit code."""
    found = config.load(path, environ=os.environ)
    return _run(found, development=None)


def development(directory: Path, command: str) -> int:
    """Run without a configuration: everything is captured in `directory`, nothing leaves this host. `command` is how
    relay's other verbs are typed."""
    settings = config.dev(directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        code = 77 if isinstance(error, PermissionError) else 69
        raise Unavailable(f"cannot make {directory}: {error.strerror}. Name another: relay serve --dev --directory DIR", code) from error
    return _run(settings, development=Development(directory, command))


def _run(settings: Config, development: Development | None) -> int:
    log.setup(
        stream=sys.stderr,
        environ=os.environ,
        level=settings.log.level,
        form=settings.log.format,
        hostname=settings.hostname,
        secrets=settings.secrets(),
    )
    try:
        asyncio.run(Daemon(settings, development).run())
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    return 0


class Daemon:
    """One relay process."""

    def __init__(self, settings: Config, development: Development | None) -> None:
        self._settings = settings
        self._development = development
        self._events = Events()
        self._stopping = ""
        self._started = time.time()

    async def run(self) -> None:
        """Start, say `ready`, serve until a signal, drain."""
        settings, events, stop = self._settings, self._events, asyncio.Event()
        count = len(settings.providers)
        events.starting(f"relay {__version__}, {count} provider{'' if count == 1 else 's'}, spool {settings.queue.spool}")
        for warning in settings.warnings:
            events.warning(warning)
        self._on_signals(stop)
        async with contextlib.AsyncExitStack() as stack:
            spool = SqliteSpool(settings.queue.spool, clock=time.time)
            await spool.open()
            stack.push_async_callback(spool.close)

            transports = {name: transport_for(name, provider, settings) for name, provider in settings.providers.items()}
            for transport in transports.values():
                stack.push_async_callback(transport.aclose)
            metrics = self._metrics()
            delivery = Delivery(
                spool=spool,
                transports=transports,
                routes=settings.route_table(),
                settings=delivery_settings(settings),
                events=events,
                metrics=metrics,
                clock=time.time,
                random=random.random,
            )
            listeners = Listeners(
                [ListenerSettings(item.name, item.address, item.max_size) for item in settings.listen],
                spool=spool,
                hostname=settings.hostname,
                events=events,
                metrics=metrics,
                clock=time.time,
            )
            admin = Admin(settings.admin.listen, self._api(spool, delivery, listeners, metrics))
            await admin.start()
            stack.push_async_callback(admin.stop)
            await delivery.start()
            stack.push_async_callback(_wind_up, listeners, delivery)
            await listeners.start()

            chores = asyncio.create_task(self._keep_house(spool, delivery.trouble))
            stack.callback(chores.cancel)
            self._say_ready(listeners.addresses, admin.addresses)
            await stop.wait()
            self._stopping = "shutting down"
            events.stopping("signal received; what is under way ends first")
        events.stopped("everything accepted and not delivered is in the spool")

    def _on_signals(self, stop: asyncio.Event) -> None:
        """The first signal stops in order, the second one at once; those that ask for something else are answered."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def received() -> None:
            if stop.is_set():
                task.cancel()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, received)
        loop.add_signal_handler(signal.SIGHUP, self._events.warning, RELOAD)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, self._events.warning, f"{number.name}: this signal means nothing to relay")

    def _metrics(self) -> Metrics:
        routes = [(route.name, provider) for route in self._settings.route_table() for provider in route.via]
        metrics = Metrics(
            version=__version__,
            listeners=[item.name for item in self._settings.listen],
            providers=list(self._settings.providers),
            routes=routes,
        )
        metrics.config_loaded(True)
        return metrics

    def _api(self, spool: Spool, delivery: Delivery, listeners: Listeners, metrics: Metrics) -> Api:
        settings = self._settings
        context = Context(
            version=__version__,
            hostname=settings.hostname,
            spool_path=str(settings.queue.spool),
            clock=time.time,
            refusing=lambda: self._stopping or _refusal(spool.health()),
            providers=delivery.providers,
            listeners=lambda: listeners.addresses,
            hurry=delivery.hurry,
            test_sender=settings.bounce.sender or "",
            pid=os.getpid(),
            started=self._started,
        )
        return Api(context, spool, spool=spool, events=self._events, metrics=metrics if settings.admin.metrics else None)

    async def _keep_house(self, spool: Spool, trouble: SpoolTrouble) -> None:
        """Look at the disk often, forget what is old enough now and then."""
        queue, purge_at = self._settings.queue, 0.0
        while True:
            try:
                why = _refusal(await spool.probe(queue.min_free))
                if why:
                    trouble.begin(self, why)
                else:
                    trouble.end(self)
                now = time.time()
                if now >= purge_at and not why:
                    await spool.purge(now - queue.keep_history, now - queue.keep_bodies)
                    purge_at = now + PURGE
            except SpoolError as error:
                self._events.warning(f"housekeeping: {error}")
            except Exception as error:  # mail goes on without housekeeping
                self._events.bug("housekeeping", error)
            await asyncio.sleep(PROBE)

    def _say_ready(self, listening: Sequence[tuple[str, str]], administered: Sequence[str]) -> None:
        where = ", ".join(f"{name} {address}" for name, address in listening)
        self._events.ready(f"mail at {where}; admin at {', '.join(administered) or 'no address'}")
        if self._development is not None:
            with contextlib.suppress(OSError):  # hints that nobody can read are no reason to stop
                print("\n".join(hints(self._development.directory, listening, administered, self._development.command)), flush=True)


async def _wind_up(listeners: Listeners, delivery: Delivery) -> None:
    """End both halves at the same time, so that together they take no longer than `GRACE`. What a session hands in
    meanwhile is in the spool for the next start."""
    async with asyncio.TaskGroup() as halves:
        halves.create_task(listeners.stop(GRACE))
        halves.create_task(delivery.drain(GRACE))


def hints(directory: Path, listening: Sequence[tuple[str, str]], administered: Sequence[str], command: str) -> list[str]:
    """What `relay serve --dev` says: where things are, `ready`, how to send a first mail and how to see it."""
    smtp = listening[0][1]
    host, _, port = smtp.rpartition(":")
    pages = [f"http://{address}" for address in administered if not address.startswith("unix:")]
    mail = "From: app@example.com\\nTo: you@example.com\\nSubject: first mail\\n\\nHello.\\n"
    send = f"smtplib.SMTP('{host}', {port}).sendmail('app@example.com', 'you@example.com', '{mail}')"
    return [
        f"relay {__version__} dev: SMTP {smtp}, admin {', '.join(pages)}, everything is captured in {directory}, nothing leaves this host",
        "ready",
        f'send a mail:  python3 -c "import smtplib; {send}"',
        f"see it:       {command} log you@example.com",
    ]


def _refusal(health: Health) -> str:
    """Why no mail is accepted, or ""."""
    if health.full:
        return health.why or "the disk is full"
    return "" if health.ok else health.why or "the spool cannot store mail"


def delivery_settings(settings: Config) -> DeliverySettings:
    """What delivery is told."""
    held = [name for name, provider in settings.providers.items() if getattr(provider, "unknown_outcome", "retry") == "hold"]
    return DeliverySettings(
        retry=settings.queue.retry,
        expire=settings.queue.expire,
        bounce_from=settings.bounce.sender or "",
        hostname=settings.hostname,
        keep_bodies=settings.queue.keep_bodies > 0,
        hold_unknown=frozenset(held),
    )


def transport_for(name: str, provider: ProviderConfig, settings: Config) -> Transport:
    """The transport of a configured provider."""
    if isinstance(provider, SmtpProvider):
        return Smtp(
            SmtpSettings(
                provider=name,
                host=provider.host,
                port=provider.port,
                hostname=settings.hostname,
                tls=provider.tls,
                username=provider.username or "",
                password=provider.password.get_secret_value() if provider.password else "",
                ca_file=str(provider.ca_file) if provider.ca_file else None,
                timeout=provider.timeout,
                concurrency=provider.limits.concurrency,
            )
        )
    if isinstance(provider, PostmarkProvider):
        http = Http(base_url=provider.base_url, timeout=provider.timeout, concurrency=provider.limits.concurrency)
        return Postmark(
            PostmarkSettings(
                provider=name,
                token=provider.token.get_secret_value(),
                base_url=provider.base_url,
                stream=provider.stream,
                on_loss=provider.on_loss,
                timeout=provider.timeout,
                concurrency=provider.limits.concurrency,
                track_opens=provider.track_opens,
                track_links=provider.track_links or "",
                controls={listener.name: listener.controls for listener in settings.listen},
            ),
            http,
        )
    assert provider.directory is not None, "the configuration fills it in"
    return Capture(CaptureSettings(provider=name, directory=provider.directory))
