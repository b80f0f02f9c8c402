"""The secrets of an installation: made at the first start, one file of mode 0600 each, and never changed afterwards."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from airavata_scheduler.settings import Paths, SettingsError, write_private

ADMIN_NAME = "admin"
_GROUP_OR_OTHERS = 0o077


def ensure_secrets(paths: Paths) -> None:
    """Makes every secret that is not there yet, and takes other users' access away from those that are."""
    paths.create()
    for path in (paths.ray_token, paths.database_password, paths.jwt_key, paths.vault_key):
        if not path.exists():
            write_private(path, secrets.token_hex(32))
    if not paths.admin.exists():
        credentials = {"username": ADMIN_NAME, "password": secrets.token_urlsafe(24)}
        write_private(paths.admin, json.dumps(credentials) + "\n")
    for path in loose_secrets(paths):
        path.chmod(0o600)


def loose_secrets(paths: Paths) -> list[Path]:
    """Secret files that somebody other than their owner may read or write."""
    if not paths.secrets.is_dir():
        return []
    return [path for path in sorted(paths.secrets.iterdir()) if path.stat().st_mode & _GROUP_OR_OTHERS]


def read_secret(path: Path) -> str:
    """The secret in a file; `SettingsError` when it is missing or empty."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            [f"the secret {path} cannot be read ({error.strerror}): run `airavata up` again"]
        ) from error
    if not text:
        raise SettingsError([f"the secret {path} is empty: remove it and run `airavata up` again"])
    return text
