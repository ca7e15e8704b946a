"""Where the keys come from: the configuration, or the places where the AWS tools look.

Keys of the configuration need nothing else. Everything else (profile, environment, container, instance role, single
sign-on, an assumed role) is botocore's to find and to renew, in a thread; it is loaded only when such keys are asked for.
Fails with NoKeys, which says what to do.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import importlib
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Protocol

from relay.errors import ConfigError, RelayError
from relay.transports.ses.request import SesSettings
from relay.transports.ses.sigv4 import Keys

INSTALL = f"{sys.executable} -m pip install botocore"


class NoKeys(RelayError):
    """No keys are to be had now. `mend` is one sentence for the admin."""

    def __init__(self, text: str, mend: str) -> None:
        self.text = text
        self.mend = mend
        super().__init__(f"{text}; {mend}")


class Credentials(Protocol):
    """A source of keys. `source` names it for mends; "" for the configuration."""

    @property
    def source(self) -> str:
        """Where the keys come from."""

    async def keys(self) -> Keys:
        """Keys that are valid now. Raises NoKeys."""

    def forget(self) -> None:
        """Look anew the next time: these keys were refused."""


class Fixed:
    """The keys of the configuration."""

    source = ""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def keys(self) -> Keys:
        """The keys."""
        return self._keys

    def forget(self) -> None:
        """There are no others."""


class Chain(Protocol):
    """Keys found by botocore (aws.py)."""

    @property
    def fresh(self) -> bool:
        """Whether `keys` can be had without asking anybody."""

    @property
    def keys(self) -> Keys:
        """The keys loaded last."""

    def load(self) -> None:
        """Find or renew the keys; blocks. Raises NoKeys."""


class Found:
    """Keys that are found where the AWS tools find them, and renewed before they expire. One look at a time, for all who ask."""

    def __init__(self, profile: str, region: str, timeout: float) -> None:
        self.source = f"profile {profile}" if profile else "the places where the AWS tools look"
        self._profile = profile
        self._region = region
        self._timeout = timeout
        self._chain: Chain | None = None
        self._look: asyncio.Future[Chain] | None = None

    async def keys(self) -> Keys:
        """The keys, renewed in a thread when they soon expire. Raises NoKeys, also after `timeout` seconds; the look goes on then,
        and who asks next waits for the same one."""
        chain = self._chain
        if chain is not None and chain.fresh:
            return chain.keys
        if self._look is None:
            self._chain = None  # what fails is looked up from the start the next time: files may have been mended
            self._look = _beside(functools.partial(self._load, chain))
            self._look.add_done_callback(self._looked)
        try:
            async with asyncio.timeout(self._timeout):
                return (await asyncio.shield(self._look)).keys
        except TimeoutError as error:
            raise NoKeys("AWS keys: timed out", f"look why {self.source} do not answer (aws sts get-caller-identity)") from error

    def _looked(self, look: asyncio.Future[Chain]) -> None:
        self._look = None
        if not look.cancelled() and look.exception() is None:
            self._chain = look.result()

    def forget(self) -> None:
        """Begin from the start the next time."""
        self._chain = None

    def _load(self, chain: Chain | None) -> Chain:
        if chain is None:
            try:
                aws = importlib.import_module("relay.transports.ses.aws")
            except ImportError as error:
                raise NoKeys("AWS keys: botocore is not installed", INSTALL) from error
            chain = aws.Botocore(self._profile, self._region)
        chain.load()
        return chain


def _beside(work: Callable[[], Chain]) -> asyncio.Future[Chain]:
    """What `work` returns or raises, from a thread of its own, which the end of the process does not wait for: a command that gives
    keys may wait for a person, and must take no thread from those who encode mail."""
    done: concurrent.futures.Future[Chain] = concurrent.futures.Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="aws-keys", daemon=True).start()
    return asyncio.wrap_future(done)


def credentials(settings: SesSettings) -> Credentials:
    """The source of keys that the settings ask for. Raises ConfigError where it needs what is not installed."""
    if settings.access_key_id:
        return Fixed(Keys(settings.access_key_id, settings.secret_access_key, settings.session_token))
    if find_spec("botocore") is None:
        text = f"providers.{settings.provider}: keys from a profile, the environment or a role need botocore: {INSTALL}"
        raise ConfigError([f"{text} (or give access_key_id and secret_access_key)"])
    return Found(settings.profile, settings.region, settings.timeout)
