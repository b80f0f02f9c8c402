"""Tokens between two runs of the client: `<config dir>/tokens.json`, mode 0600. Standard library only."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airavata_scheduler.client.target import write_private

_MARGIN_S = 30.0  #: a token that ends sooner is renewed before it is used


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gave. `expires_at` is in seconds since the epoch."""

    username: str
    access_token: str
    refresh_token: str
    expires_at: float

    @classmethod
    def from_answer(cls, username: str, answer: dict[str, Any], now: float | None = None) -> Tokens:
        """From the JSON of a login or a refresh."""
        at = time.time() if now is None else now
        return cls(username, answer["access_token"], answer["refresh_token"], at + float(answer["expires_in"]))

    def fresh(self, now: float | None = None) -> bool:
        """Whether it will still be accepted when the request arrives."""
        return (time.time() if now is None else now) < self.expires_at - _MARGIN_S


class TokenStore:
    """The tokens of one user of one platform. A file that cannot be read is as good as none."""

    def __init__(self, config_dir: Path, url: str) -> None:
        self._path = config_dir / "tokens.json"
        self._url = url

    def load(self, username: str | None = None) -> Tokens | None:
        """The tokens of a user, or of whoever logged in last."""
        entry = self._read().get(self._url, {})
        row = entry.get("users", {}).get(username or entry.get("current", ""))
        try:
            return Tokens(**row) if row else None
        except TypeError:
            return None

    def save(self, tokens: Tokens) -> None:
        """Keep them, and make their user the current one."""
        everything = self._read()
        entry = everything.setdefault(self._url, {"users": {}})
        entry["users"][tokens.username] = asdict(tokens)
        entry["current"] = tokens.username
        write_private(self._path, json.dumps(everything, indent=1) + "\n")

    def forget(self, username: str) -> None:
        """Remove the tokens of a user."""
        everything = self._read()
        entry = everything.get(self._url, {"users": {}})
        entry["users"].pop(username, None)
        if entry.get("current") == username:
            entry.pop("current")
        write_private(self._path, json.dumps(everything, indent=1) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from using the same refresh token, because using one twice revokes it."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path.with_name(".tokens.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
