"""What the application asks: who is it, what may they use; and where it tells what was used."""

from __future__ import annotations

import dataclasses
import getpass
import logging
import sqlite3
import time
from collections import OrderedDict
from typing import Any

from gollama.server.access.buckets import Account, today
from gollama.server.access.credentials import credential_of, unauthorized
from gollama.server.access.database import connect
from gollama.server.access.keys import PREFIX, KnownKeys, hashed, same
from gollama.server.access.oidc import Oidc, oidc_options
from gollama.server.access.principals import SCOPES, Limits, Principal
from gollama.server.access.start import check_access, is_local
from gollama.server.access.writer import Done, Row, Writer
from gollama.server.config import ServerConfig, shown
from gollama.version import __version__

logger = logging.getLogger("gollama.server")

MOST_ACCOUNTS = 10_000
OWN_KEY = "config"  # the id of the key that stands in the settings
STATES = {"revoked": ("this key was revoked", "key_revoked"), "expired": ("this key has expired", "key_expired"),
          "unknown": ("that key is not known here", "invalid_api_key")}


class Access:
    """One for each app. Event loop only, but for what says otherwise. OptionError and AccessFileError before anything listens."""

    def __init__(self, config: ServerConfig) -> None:
        check_access(config)
        self._config = config
        self._limits = Limits(config.requests_per_minute, config.tokens_per_minute, config.tokens_per_day)
        options = oidc_options(config)
        self._oidc = None if options is None else Oidc(options, self._limits)
        self._own = None if config.api_key is None else hashed(config.api_key)
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._connection: sqlite3.Connection | None = None
        self._keys: KnownKeys | None = None
        self._writer: Writer | None = None
        if config.access_file is not None:
            self._connection = connect(config.access_file)
            self._keys = KnownKeys(self._connection)
            self._writer = Writer(config.access_file, config.usage_days)

    # ---- from start to end ----

    def start(self) -> None:
        if self._writer is not None:
            self._writer.start()
        if self.open and not is_local(self._config):
            logger.warning("anybody who reaches %s may use this server (auth)", self._config.host)
        self.tell(Done(f"local:{_user()}", "server.start", {"version": __version__, "config": shown(self._config)}))

    def close(self) -> None:
        """Writes what waits to be written. Any thread; may be called again."""
        self.tell(Done(f"local:{_user()}", "server.stop", {}))
        if self._writer is not None:
            self._writer.close()
        if self._connection is not None:
            self._connection.close()
        if self._oidc is not None:
            self._oidc.close()

    # ---- who asks ----

    @property
    def open(self) -> bool:
        """Nobody is asked for a key. The first key that is made ends that, and revoking all does not bring it back."""
        if not self._config.auth:
            return True
        return self._own is None and self._oidc is None and not (self._keys is not None and self._keys.any)

    async def identify(self, scope: Any) -> Principal:
        """Whose request it is. ApiError 401."""
        text = credential_of(scope)
        if text is None:
            raise unauthorized("a key is needed: `Authorization: Bearer KEY`", "missing_api_key")
        if self._own is not None and same(text, self._own):
            return Principal(OWN_KEY, OWN_KEY, frozenset(SCOPES), None, self._limits)
        if self._oidc is not None and not text.startswith(PREFIX) and text.count(".") == 2:  # head.claims.signature
            return await self._oidc.principal(text)
        key, state = (None, "unknown") if self._keys is None else self._keys.find(text)
        if key is None or state != "active":
            raise unauthorized(*STATES[state])
        return dataclasses.replace(key.principal, limits=key.principal.limits.otherwise(self._limits))

    def account(self, principal: Principal) -> Account | None:
        """What it has used; None for one without limits."""
        if principal.limits == Limits():
            return None
        found = self._accounts.get(principal.id)
        if found is None or found.limits != principal.limits:
            day = today(time.time())
            found = self._accounts[principal.id] = Account(principal.limits, day, self._spent(principal.id, day))
            if len(self._accounts) > MOST_ACCOUNTS:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(principal.id)
        return found

    def _spent(self, key: str, day: str) -> int:
        if self._connection is None:
            return 0
        row = self._connection.execute("SELECT tokens FROM quotas WHERE key = ? AND day = ?", (key, day)).fetchone()
        return int(row[0]) if row else 0

    # ---- what was used ----

    @property
    def records(self) -> bool:
        """Whether there is a file that usage is written to."""
        return self._writer is not None

    def tell(self, row: Row) -> None:
        """Any thread."""
        if self._writer is not None:
            self._writer.put(row)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, in a container
        return "unknown"
