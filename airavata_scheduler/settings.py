"""What a user can set, where each value comes from, and where everything of one installation lives on disk.

A value comes from, first found wins: an explicit argument, the environment (``AIRAVATA_*``, and ``DATABASE_URL``), the
table ``[platform]`` of ``<home>/config.toml``, the default. All of it is checked once, here; `Settings.save_run` then
freezes the result in ``<home>/run/settings.json``, which is what the supervisor, the keeper and every actor load.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as PydanticSettingsError

ENV_PREFIX = "AIRAVATA_"
CONFIG_TABLE = "platform"
_SECRET_MODE = 0o600
_RAY_KINDS = frozenset({"CPU", "GPU", "TPU", "memory", "object_store_memory"})


def _of_our_own(name: str) -> str:
    if name in _RAY_KINDS or ":" in name:
        raise ValueError("is a name that Ray uses itself: take another one, such as license_matlab")
    return name


#: Licences and the like. Ray keeps them beside its own kinds of resources, whose names are taken.
NamedResource = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_of_our_own)]


class SettingsError(ValueError):
    """One or more settings are wrong.

    `problems` has one sentence for each: key, value, remedy.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Paths:
    """Every path of one installation, derived from its home directory. Creates nothing unless `create` is called."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "config.toml"
        self.run = home / "run"
        self.log = home / "log"
        self.secrets = home / "secrets"
        self.postgres = home / "postgres"
        self.run_settings = self.run / "settings.json"
        self.cluster = self.run / "cluster.json"
        self.processes = self.run / "processes.json"
        self.ray_state = self.run / "ray.json"
        self.supervisor_lock = self.run / "supervisor.lock"
        self.command_lock = self.run / "command.lock"
        self.ray_token = self.secrets / "ray_token"
        self.database_password = self.secrets / "database_password"
        self.database_url = self.secrets / "database_url"
        self.jwt_key = self.secrets / "jwt_key"
        self.admin = self.secrets / "admin.json"
        self.vault_key = self.secrets / "vault_key"

    @property
    def mark(self) -> str:
        """A short name that is the same for the same home, and differs between homes."""
        return hashlib.sha256(str(self.home).encode()).hexdigest()[:16]

    @property
    def short(self) -> Path:
        """A directory with a path short enough for unix sockets (107 bytes), which a long home would exceed."""
        return Path(tempfile.gettempdir()) / f"airavata-{os.getuid()}" / self.mark

    def create(self) -> None:
        """Makes the directories; those that can hold a secret are for their owner alone."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.log.mkdir(exist_ok=True)
        for private in (self.run, self.secrets):
            private.mkdir(mode=0o700, exist_ok=True)
            private.chmod(0o700)

    def create_short(self) -> Path:
        """Makes `short`, refusing one that somebody else has made for us to fall into."""
        for directory in (self.short.parent, self.short):
            directory.mkdir(mode=0o700, exist_ok=True)
            if directory.stat().st_uid != os.getuid() or directory.is_symlink():
                raise SettingsError(
                    [f"{directory} belongs to another user: remove it, or set TMPDIR to your own directory"]
                )
        return self.short


class Settings(BaseSettings):
    """One installation's settings; times in seconds, sizes in bytes. Immutable once made.

    `cpus` and `gpus` of None mean all of this machine; `named` are its licences and the like; `database_url` of None
    the embedded PostgreSQL; `ray_address` of None a Ray head of our own; a port of None a free one, which stays the
    same until `down`.
    """

    model_config = SettingsConfigDict(
        frozen=True, env_prefix=ENV_PREFIX, extra="forbid", validate_default=True, populate_by_name=True
    )

    home: Path = Field(default_factory=lambda: default_home())  # noqa: PLW0108  (defined below)
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8700, ge=1, le=65535)
    http_tls_cert: Path | None = None
    http_tls_key: Path | None = None
    cpus: int | None = Field(default=None, ge=1, le=4096)
    gpus: int | None = Field(default=None, ge=0, le=1024)
    named: dict[NamedResource, float] = {}
    database_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("database_url", "AIRAVATA_DATABASE_URL", "DATABASE_URL")
    )
    database_pool_size: int = Field(default=8, ge=1, le=100)
    database_outage_s: float = Field(default=600.0, ge=0.0, le=86400.0)
    ray_address: str | None = None
    ray_node_ip: str = "127.0.0.1"
    ray_port: int | None = Field(default=None, ge=1024, le=65535)
    dashboard: bool = True
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int | None = Field(default=None, ge=1024, le=65535)
    object_store_memory_bytes: int = Field(default=200_000_000, ge=80_000_000)
    worker_lease_s: float = Field(default=20.0, ge=1.0, le=3600.0)
    heartbeat_s: float = Field(default=5.0, ge=0.1, le=1200.0)
    actor_lease_s: float = Field(default=20.0, ge=1.0, le=3600.0)
    access_token_s: int = Field(default=3600, ge=60, le=7 * 86400)
    refresh_token_s: int = Field(default=30 * 86400, ge=3600, le=366 * 86400)
    storage_root: Path | None = None
    scratch_root: Path | None = None
    sync_outputs: bool = False
    start_limit_s: float = Field(default=180.0, ge=5.0, le=3600.0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    keeper_module: str = Field(default="airavata_scheduler.actors.keeper", pattern=r"^[A-Za-z_][\w.]*$")
    migrate_module: str = Field(default="airavata_scheduler.adapters.persistence.migrate", pattern=r"^[A-Za-z_][\w.]*$")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (the signature is the library's)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed counts: `load` merges the sources itself, and `from_run` must ignore the environment."""
        return (init_settings,)

    @field_validator("home", "storage_root", "scratch_root", "http_tls_cert", "http_tls_key")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().resolve()

    @field_validator("ray_address")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        host, _, port = (value or "").rpartition(":")
        if value is not None and not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("write HOST:PORT, such as 10.0.0.1:6379")
        return value

    @field_validator("named")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if wrong := [name for name, amount in value.items() if not 0 < amount <= 1e9]:
            raise ValueError(f"the amount of {', '.join(wrong)} must be above 0 and at most 1e9")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _postgresql_only(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or value.get_secret_value().startswith(
            ("postgresql://", "postgres://", "postgresql+psycopg://")
        ):
            return value
        raise ValueError("only PostgreSQL 15 or newer is supported: use postgresql://USER:PASSWORD@HOST:PORT/NAME")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.heartbeat_s * 2 > self.worker_lease_s:
            raise ValueError(
                f"heartbeat_s={self.heartbeat_s} leaves no room for a lost heartbeat in "
                f"worker_lease_s={self.worker_lease_s}: make the lease at least twice the heartbeat"
            )
        if (self.http_tls_cert is None) != (self.http_tls_key is None):
            raise ValueError("http_tls_cert and http_tls_key belong together: set both, or neither")
        return self

    @field_serializer("database_url", when_used="json")
    def _url_for_run_file(self, value: SecretStr | None) -> str | None:
        # Reached by `save_run` alone in practice: the file is of mode 0600 and the actors need the password.
        return None if value is None else value.get_secret_value()

    @property
    def paths(self) -> Paths:
        return Paths(self.home)

    @property
    def storage_dir(self) -> Path:
        return self.storage_root or self.home / "storage"

    @property
    def scratch_dir(self) -> Path:
        return self.scratch_root or self.home / "scratch"

    def conninfo(self) -> str:
        """The database as a libpq URL, password included: the one given, or that of the running embedded PostgreSQL."""
        if self.database_url is not None:
            return self.database_url.get_secret_value().replace("postgresql+psycopg://", "postgresql://", 1)
        try:
            return self.paths.database_url.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(
                [f"the embedded PostgreSQL of {self.home} was never started: run `airavata up`"]
            ) from error

    def sqlalchemy_url(self) -> str:
        """The same for SQLAlchemy."""
        _, _, rest = self.conninfo().partition("://")
        return f"postgresql+psycopg://{rest}"

    @property
    def url(self) -> str:
        """Where this machine's clients find the API; a bind to all addresses is reached through loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.http_host, self.http_host)  # noqa: S104  (compared)
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"{'https' if self.http_tls_cert else 'http'}://{host}:{self.http_port}"

    @classmethod
    def load(cls, home: Path | str | None = None, **overrides: Any) -> Settings:
        """Settings from all sources; overrides that are None count as not given.

        Raises `SettingsError`, which lists every problem at once.
        """
        root = Path(home).expanduser().resolve() if home is not None else default_home()
        given = {key: value for key, value in overrides.items() if value is not None}
        try:
            environment = EnvSettingsSource(cls)()
        except PydanticSettingsError:
            message = (
                f'{ENV_PREFIX}NAMED is {os.environ.get(f"{ENV_PREFIX}NAMED")!r}: write it as JSON, {{"matlab": 2}}'
            )
            raise SettingsError([message]) from None
        return cls._checked({**_config_table(root), **environment, **given, "home": root}, Paths(root).config)

    @classmethod
    def from_run(cls, home: Path | str) -> Settings:
        """The settings that `airavata up` started this home with; `SettingsError` when it was never started."""
        path = Paths(Path(home).expanduser().resolve()).run_settings
        try:
            values = json.loads(path.read_text())
        except FileNotFoundError:
            raise SettingsError(
                [f"{path} does not exist: start the platform with `airavata up --home {home}`"]
            ) from None
        except (OSError, ValueError) as error:
            raise SettingsError([f"{path} cannot be read ({error}): run `airavata up --home {home}` again"]) from error
        return cls._checked(values, path)

    def save_run(self) -> Path:
        """Writes these settings to ``<home>/run/settings.json`` (mode 0600, atomically); returns the path."""
        self.paths.create()
        return write_private(self.paths.run_settings, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def _checked(cls, values: Mapping[str, Any], source: Path) -> Settings:
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingsError([_problem(dict(item), source) for item in error.errors()]) from None


def default_home() -> Path:
    """``AIRAVATA_HOME`` or ``~/.airavata``, absolute."""
    return Path(os.environ.get("AIRAVATA_HOME") or "~/.airavata").expanduser().resolve()


def write_private(path: Path, text: str) -> Path:
    """Replaces `path` in one step by a file that only its owner can read, on disk before this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _SECRET_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    return path


def _config_table(home: Path) -> dict[str, Any]:
    path = Paths(home).config
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError([f"{path} cannot be read: {error}. Correct the file, or remove it"]) from None
    table = document.get(CONFIG_TABLE, {})
    if not isinstance(table, dict):
        raise SettingsError([f"{path}: `{CONFIG_TABLE}` is {table!r}: write it as a table, [{CONFIG_TABLE}]"])
    return table


def _problem(item: dict[str, Any], source: Path) -> str:
    """One sentence with key, value and remedy; the value of a secret stays unsaid."""
    key = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    if not key:
        return message
    name = key if key in Settings.model_fields else key.lower()
    if name == "database_url":
        return f"database_url: {message}"
    if item["type"] == "extra_forbidden":
        known = ", ".join(sorted(Settings.model_fields))
        return f"{key} = {item['input']!r} is not a setting: remove it from {source}, or use one of {known}"
    remedy = f"correct {ENV_PREFIX}{name.upper()}, {name} in {source}, or the option of the command"
    return f"{name} = {item['input']!r}: {message}; {remedy}"
