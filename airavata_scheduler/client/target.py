"""Which platform a client talks to, and as whom. Standard library only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airavata_scheduler.client.errors import ApiError, UnreachableError

CONFIG_KEYS = {
    "url": "address of the platform, such as https://airavata.example.org",
    "project": "project that experiments are submitted to",
}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Target:
    """An address, and what is needed to be let in."""

    url: str  #: without a slash at the end
    home: Path
    config_dir: Path
    username: str | None = None
    password: str | None = None
    token: str | None = None
    ca_file: str | None = None
    local: bool = False  #: found through the home directory: its admin secret may be used, and its address may change

    @property
    def loopback(self) -> bool:
        """Whether the address is this machine, where no proxy can help."""
        return (urlsplit(self.url).hostname or "") in _LOOPBACK

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User name and password to log in with, if there are any without asking."""
        if self.username and self.password:
            return self.username, self.password
        secret = admin_secret(self.home) if self.local else None
        return secret if secret and self.username in {None, secret[0]} else None


def find_target(
    url: str | None = None,
    home: Path | str | None = None,
    *,
    username: str | None = None,
    password: str | None = None,
    token: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Target:
    """The platform to talk to; the first of these that is there.

    `url`; the platform that runs in an explicitly given `home`; AIRAVATA_SERVER_URL; `airavata config set url`; the
    platform that runs in AIRAVATA_HOME or ~/.airavata. Raises `UnreachableError` when there is none.
    """
    env = os.environ if environment is None else environment
    root = absolute(home or env.get("AIRAVATA_HOME") or "~/.airavata")
    config_dir = absolute(env["AIRAVATA_CONFIG_DIR"]) if env.get("AIRAVATA_CONFIG_DIR") else root / "client"
    running = running_url(root)
    configured = env.get("AIRAVATA_SERVER_URL") or read_config(config_dir).get("url")
    local = running is not None and not url and (home is not None or not configured)
    chosen = running[0] if running and local else url or configured
    if not chosen:
        raise UnreachableError(
            f"no platform runs in {root}",
            remedy=f"start one with `airavata up --home {root}`, or name one with --url or AIRAVATA_SERVER_URL",
        )
    # A token in the environment belongs to the address in the environment, not to a home that was asked for by name.
    given = {} if local and home is not None else env
    return Target(
        url=_checked(chosen),
        home=root,
        config_dir=config_dir,
        username=username or given.get("AIRAVATA_USERNAME"),
        password=password or given.get("AIRAVATA_PASSWORD"),
        token=token or given.get("AIRAVATA_TOKEN"),
        ca_file=env.get("AIRAVATA_CA_FILE") or (running[1] if running and local else None),
        local=local,
    )


def absolute(path: Path | str) -> Path:
    """Absolute, with ~ resolved, links kept."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  (resolve() would follow links)


def running_url(home: Path) -> tuple[str, str | None] | None:
    """Address of the platform that `airavata up` started in `home`, and its certificate file; None if there is none."""
    try:
        settings = json.loads((home / "run" / "settings.json").read_text(encoding="utf-8"))
        host, port = str(settings["http_host"]), int(settings["http_port"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (where to connect, not where to listen)
    certificate = settings.get("http_tls_cert")
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if certificate else 'http'}://{shown}:{port}", certificate


def admin_secret(home: Path) -> tuple[str, str] | None:
    """Name and password that the first start made for the admin; None if this user may not read them."""
    try:
        secret = json.loads((home / "secrets" / "admin.json").read_text(encoding="utf-8"))
        return str(secret["username"]), str(secret["password"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_config(config_dir: Path) -> dict[str, str]:
    """What `airavata config set` has written; empty if nothing."""
    path = config_dir / "config.json"
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ApiError(f"{path} cannot be read: {error}", remedy="correct the file, or remove it") from None
    return {key: str(value) for key, value in values.items()} if isinstance(values, dict) else {}


def write_config(config_dir: Path, values: Mapping[str, str]) -> Path:
    """Replace the configuration file; returns its path."""
    return write_private(config_dir / "config.json", json.dumps(dict(values), indent=1, sort_keys=True) + "\n")


def write_private(path: Path, text: str) -> Path:
    """Replace a file in one step by one that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
    return path


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")) or len(url.split("://", 1)[1].strip("/")) == 0:
        raise ApiError(f"{url!r} is not the address of a platform", remedy="write http://HOST:PORT or https://HOST")
    return url.rstrip("/").removesuffix("/api/v1")
