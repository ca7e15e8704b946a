"""The daemon: builds every part by hand, starts it, and stops it in order.

The only room that knows all the concrete classes. It decides nothing about mail: the parts start from the spool
outwards (spool, admin, delivery, listeners) and stop the other way, so that what is accepted always has a place to go
and what is under way can end. SIGTERM and SIGINT drain: nothing new, sessions and attempts under way end within `GRACE`;
before `ready` they end the start. A second signal ends at once, which the spool survives as it survives a crash. SIGHUP
reloads (relay/reload.py). Other
signals that would kill a process which does not know them get a line in the log. The service manager hears of all of it
(relay/systemd.py), and its watchdog is fed, until the end begins, for as long as the event loop turns and the spool's writer answers.

Fails before `ready` with ConfigError, CertificateError, UsersError, SpoolBusy, SpoolError or Unavailable; each holds a
sentence for the admin.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relay import __version__, assembly, config, log, systemd
from relay.admin import Admin, Api, Context
from relay.config import Config
from relay.delivery import Delivery
from relay.errors import SpoolError, Unavailable
from relay.listener import Listeners
from relay.log import Events, Tail
from relay.metrics import Metrics
from relay.reload import Reloader
from relay.spool.base import Health, Spool
from relay.spool.sqlite import SqliteSpool
from relay.systemd import Notifier
from relay.transports.base import Transport

GRACE = 30.0  # seconds that sessions and attempts under way are given at the end
PROBE = 5.0  # seconds between two looks at the disk, and at certificates and users files
SWITCH = 0.001  # seconds after which the spool's writer hands the interpreter back to the event loop, where clients wait
PURGE = 600.0  # seconds between two rounds of forgetting history and bodies
_NOBODY = "00000000000000"  # a queue id that is never given out


@dataclass(frozen=True)
class Development:
    """What the hints of `relay serve --dev` name."""

    directory: Path
    command: str


def configured(path: Path) -> int:
    """Run by a configuration file until stopped; returns the exit code."""
    found = config.load(path, environ=os.environ)
    return _run(Daemon(found, source=path))


def development(directory: Path, command: str) -> int:
    """Run without a configuration: everything is captured in `directory`, nothing leaves this host. `command` is how
    relay's other verbs are typed."""
    settings = config.dev(directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        code = 77 if isinstance(error, PermissionError) else 69
        raise Unavailable(f"cannot make {directory}: {error.strerror}. Name another: relay serve --dev --directory DIR", code) from error
    return _run(Daemon(settings, development=Development(directory, command)))


def _run(daemon: Daemon) -> int:
    sys.setswitchinterval(SWITCH)
    try:
        asyncio.run(daemon.run())
    except asyncio.CancelledError:
        return 128 + daemon.cut_by
    return 0


def set_up_log(settings: Config, secrets: Collection[str]) -> Tail:
    """Write the log as configured, without any of `secrets`, from now on; returns where its lines can be followed."""
    return log.setup(
        stream=sys.stderr,
        environ=os.environ,
        level=settings.log.level,
        form=settings.log.format,
        hostname=settings.hostname,
        secrets=secrets,
        mask=settings.log.mask,
    )


class Daemon:
    """One relay process. `source` is the file that its configuration came from, and is read again from."""

    def __init__(self, settings: Config, *, source: Path | None = None, development: Development | None = None) -> None:
        self._settings = settings
        self._source = source
        self._development = development
        self._events = Events()
        self._notifier = Notifier(os.environ)
        self._hangup = asyncio.Event()
        self._ready = asyncio.Event()
        self.cut_by = signal.SIGTERM  # the signal that ended everything at once
        self._cut = False
        self._stopping = ""
        self._started = time.time()
        self._secrets: set[str] = set()  # old ones as well: attempts under way with them may still be told of
        self._tail = self._relog(settings)

    def _relog(self, settings: Config) -> Tail:
        self._secrets.update(settings.secrets())
        return set_up_log(settings, self._secrets)

    async def run(self) -> None:
        """Start, say `ready`, serve until a signal, drain. Raises asyncio.CancelledError after a second signal."""
        stop = asyncio.Event()
        self._on_signals(stop)
        try:
            await self._serve(stop)
        except asyncio.CancelledError:
            if self._cut or not stop.is_set():
                raise
            self._events.stopped("before it was ready; what is in the spool stays for the next start")

    async def _serve(self, stop: asyncio.Event) -> None:
        settings, events = self._settings, self._events
        count = len(settings.providers)
        events.starting(f"relay {__version__}, {count} provider{'' if count == 1 else 's'}, spool {settings.queue.spool}")
        for warning in settings.warnings:
            events.warning(warning)
        async with contextlib.AsyncExitStack() as stack:
            passed = systemd.inherited(os.environ, os.getpid())
            listen = assembly.listener_settings(settings)
            spool = SqliteSpool(settings.queue.spool, clock=time.time)
            await spool.open()
            stack.push_async_callback(spool.close)

            metrics = Metrics(version=__version__, **assembly.metric_labels(settings))
            transports = {name: assembly.make(told) for name, told in assembly.all_transport_settings(settings).items()}
            delivery = self._delivery(spool, transports, metrics)
            listeners = Listeners(
                listen,
                spool=spool,
                hostname=settings.hostname,
                events=events,
                metrics=metrics,
                clock=time.time,
                adopted=passed,
            )
            reloader = Reloader(
                settings,
                self._source,
                listen=listen,
                listeners=listeners,
                delivery=delivery,
                transports=transports,
                events=events,
                metrics=metrics,
                relog=self._relog,
            )
            stack.push_async_callback(self._unless_cut, reloader.close)
            admin = Admin(settings.admin.listen, self._api(spool, reloader, delivery, listeners, metrics))
            await admin.start()
            stack.push_async_callback(admin.stop)
            stack.callback(self._give_up)
            await delivery.start()
            stack.push_async_callback(_wind_up, listeners, delivery, events)
            await listeners.start()

            chores = [asyncio.create_task(chore) for chore in self._chores(spool, reloader, delivery)]
            for chore in chores:
                stack.callback(chore.cancel)
            self._say_ready(listeners.addresses, admin.addresses, spool.health())
            for sentence in systemd.unclaimed(passed, listeners.addresses):
                events.warning(sentence)
            await stop.wait()
            self._stopping = "shutting down"
            self._notifier.stopping()
            events.stopping("signal received; what is under way ends first")
        events.stopped("everything accepted and not delivered is in the spool")

    def _delivery(self, spool: Spool, transports: Mapping[str, Transport], metrics: Metrics) -> Delivery:
        return Delivery(
            spool=spool,
            transports=transports,
            routes=self._settings.route_table(),
            settings=assembly.delivery_settings(self._settings),
            allowances=assembly.allowances(self._settings),
            events=self._events,
            metrics=metrics,
            clock=time.time,
            random=random.random,
            steady=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        )

    def _give_up(self) -> None:
        """Also when the start failed: who waits for its end to reload must not be waited for."""
        self._stopping = "shutting down"
        self._ready.set()

    def _on_signals(self, stop: asyncio.Event) -> None:
        """The first signal stops in order (a start at once), the second one at once; those that ask for something else are
        answered."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def received(number: signal.Signals) -> None:
            if stop.is_set():
                self._cut, self.cut_by = True, number
            if stop.is_set() or not self._ready.is_set():
                task.cancel()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, received, number)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, self._events.warning, f"{number.name}: this signal means nothing to relay")

    async def _unless_cut(self, close: Callable[[], Awaitable[None]]) -> None:
        """Close in order, unless a second signal asked for the end at once."""
        if not self._cut:
            await close()

    def _api(self, spool: Spool, reloader: Reloader, delivery: Delivery, listeners: Listeners, metrics: Metrics) -> Api:
        settings = self._settings

        async def reload() -> Sequence[str]:
            return await self._reload(spool, reloader)

        context = Context(
            version=__version__,
            hostname=settings.hostname,
            spool_path=str(settings.queue.spool),
            clock=time.time,
            refusing=lambda: self._stopping or ("" if self._ready.is_set() else "relay is starting") or _refusal(spool.health()),
            providers=delivery.providers,
            listeners=lambda: listeners.addresses,
            hurry=delivery.hurry,
            pause=delivery.pause,
            resume=delivery.resume,
            bounce=delivery.bounce,
            ramps=delivery.ramps,
            shadows=delivery.shadows,
            sandboxes=lambda: reloader.config.sandboxes(),
            reload=reload,
            reloaded=lambda: reloader.changed,
            tail=self._tail.subscribe,
            test_sender=lambda: reloader.config.bounce.sender,
            pid=os.getpid(),
            started=self._started,
        )
        return Api(context, spool, spool=spool, events=self._events, metrics=metrics if settings.admin.metrics else None)

    async def _reload(self, spool: Spool, reloader: Reloader) -> Sequence[str]:
        """Reload, and tell the service manager of its begin and its end. Not before everything has started by the first
        configuration, and not when the end has begun."""
        await self._ready.wait()
        if self._stopping:
            return (f"relay is {self._stopping}: the next start reads the file",)
        self._notifier.reloading()
        try:
            return await reloader.reload()
        finally:
            if not self._stopping:
                self._notifier.ready(_status_line(spool.health()))

    # Chores: each runs until it is cancelled.

    def _chores(self, spool: Spool, reloader: Reloader, delivery: Delivery) -> list[Coroutine[object, object, None]]:
        chores = [self._keep_house(spool, reloader, delivery), self._reload_on_hangup(spool, reloader)]
        if (seconds := systemd.watchdog_seconds(os.environ, os.getpid())) is not None:
            # A renewal of nothing: answered by the thread that writes, and only after all that it was asked before.
            chores.append(systemd.keep_alive(self._notifier, seconds, lambda: spool.renew(_NOBODY, (), 0.0)))
        return chores

    async def _reload_on_hangup(self, spool: Spool, reloader: Reloader) -> None:
        """However many signals come during a reload, one more follows it."""
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            await self._reload(spool, reloader)

    async def _keep_house(self, spool: Spool, reloader: Reloader, delivery: Delivery) -> None:
        """Look at the disk, at certificates and at budgets often, forget what is old enough now and then."""
        purge_at, trouble = 0.0, delivery.trouble
        while True:
            queue = reloader.config.queue
            try:
                health = await spool.probe(queue.min_free)
                self._notifier.status(_status_line(health))
                if why := _refusal(health):
                    trouble.begin(self, why)
                else:
                    trouble.end(self)
                reloader.refresh(time.time())
                delivery.measure()
                now = time.time()
                if now >= purge_at and not why:
                    await spool.purge(now - queue.keep_history, now - queue.keep_bodies)
                    purge_at = now + PURGE
            except SpoolError as error:
                self._events.warning(f"housekeeping: {error}")
            except Exception as error:  # mail goes on without housekeeping
                self._events.bug("housekeeping", error)
            await asyncio.sleep(PROBE)

    def _say_ready(self, listening: Sequence[tuple[str, str]], administered: Sequence[str], health: Health) -> None:
        where = ", ".join(f"{name} {address}" for name, address in listening)
        self._events.ready(f"mail at {where}; admin at {', '.join(administered) or 'no address'}")
        self._notifier.ready(_status_line(health))
        self._ready.set()
        if self._development is not None:
            with contextlib.suppress(OSError):  # hints that nobody can read are no reason to stop
                print("\n".join(hints(self._development.directory, listening, administered, self._development.command)), flush=True)


async def _wind_up(listeners: Listeners, delivery: Delivery, events: Events) -> None:
    """End both halves at the same time, so that together they take no longer than `GRACE`; a bug in one does not cut the other
    short. What a session hands in meanwhile is in the spool for the next start."""
    for end in await asyncio.gather(listeners.stop(GRACE), delivery.drain(GRACE), return_exceptions=True):
        if isinstance(end, BaseException):
            events.bug("shutting down", end)


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


def _status_line(health: Health) -> str:
    """One line for `systemctl status`."""
    why = _refusal(health)
    return f"accepting no mail: {why}" if why else "accepting mail"
