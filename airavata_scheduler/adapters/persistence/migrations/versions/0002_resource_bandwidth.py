"""How fast a resource reads the storage.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a fresh database has it already, because the first revision makes the tables as they are now."""
    op.execute(
        "ALTER TABLE resources ADD COLUMN IF NOT EXISTS bandwidth_bytes_per_s double precision NOT NULL DEFAULT 0"
    )


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE resources DROP COLUMN bandwidth_bytes_per_s")
