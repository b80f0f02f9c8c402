"""What an idempotency key stands for.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a fresh database has it already, because the first revision makes the tables as they are now."""
    op.execute("ALTER TABLE experiments ADD COLUMN IF NOT EXISTS request_digest text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE experiments DROP COLUMN request_digest")
