"""What was seen of the queue waits of a resource.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a fresh database has it already, because the first revision makes the tables as they are now."""
    op.execute("ALTER TABLE resources ADD COLUMN IF NOT EXISTS queue_waits jsonb NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE resources DROP COLUMN queue_waits")
