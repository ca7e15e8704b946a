"""AWS keys by botocore: the only module that knows it, loaded only when a provider has no keys of its own.

botocore renews temporary keys 15 minutes before they expire; where that fails they are used until 10 minutes before. Its
calls block, so they run in a thread. Its log is kept to warnings: below that it writes what it is sent.
"""

from __future__ import annotations

import logging

from botocore.credentials import RefreshableCredentials  # type: ignore[import-untyped] # it has no types
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped] # it has no types
from botocore.session import Session  # type: ignore[import-untyped] # it has no types

from relay.transports import net
from relay.transports.ses.credentials import NoKeys
from relay.transports.ses.sigv4 import Keys

logging.getLogger("botocore").setLevel(logging.WARNING)

_MEND = "see what `aws sts get-caller-identity` says as the user relay runs as, or give access_key_id and secret_access_key"
_MAX_TEXT = 300  # characters


class Botocore:
    """The keys of a profile, or of the first place that has some: environment, files, container, instance."""

    def __init__(self, profile: str, region: str) -> None:
        self._profile = profile
        self._region = region
        self._found: object = None
        self._keys = Keys("", "")

    @property
    def fresh(self) -> bool:
        """Whether the keys are far from their end."""
        found = self._found
        return found is not None and not (isinstance(found, RefreshableCredentials) and found.refresh_needed())

    @property
    def keys(self) -> Keys:
        """The keys loaded last."""
        return self._keys

    def load(self) -> None:
        """Find the keys, or renew them when it is time; blocks. Raises NoKeys."""
        where = f"profile {self._profile}" if self._profile else "environment, files, container or instance"
        try:
            found = self._found or self._look()
            frozen = found.get_frozen_credentials() if found else None  # type: ignore[attr-defined] # as above: what it found is of no type we know
        except Exception as error:  # a credential process or plugin raises what it likes
            told = isinstance(error, BotoCoreError | ClientError)
            why = net.one_line(str(error), _MAX_TEXT) if told else type(error).__name__
            raise NoKeys(f"no AWS keys from {where}: {why}", _MEND) from error
        if frozen is None:
            raise NoKeys(f"no AWS keys in {where}", _MEND)
        self._found = found
        self._keys = Keys(frozen.access_key, frozen.secret_key, frozen.token or "")

    def _look(self) -> object:
        session = Session(profile=self._profile or None)
        session.set_config_variable("region", self._region)  # where a role is assumed, unless the profile says otherwise
        return session.get_credentials()
