"""Bring the schema to this version's. `python -m airavata_scheduler.adapters.persistence.migrate --home DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from airavata_scheduler.settings import Settings

#: Any constant of our own; two platforms that start at once on one database take turns.
_LOCK = 7_236_001


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def migrate(url: str) -> None:
    """Run the missing revisions. ``url`` is an SQLAlchemy URL."""
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))
        connection.commit()
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    engine.dispose()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    migrate(Settings.from_run(parser.parse_args().home).sqlalchemy_url())


if __name__ == "__main__":
    main()
