"""Whether nothing may start that would end after the deadline.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a fresh database has it already, because the first revision makes the tables as they are now."""
    op.execute("ALTER TABLE experiments ADD COLUMN IF NOT EXISTS hard_deadline boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE experiments DROP COLUMN hard_deadline")
