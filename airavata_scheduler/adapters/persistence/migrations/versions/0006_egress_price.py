"""What a resource pays for reading the storage.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a fresh database has it already, because the first revision makes the tables as they are now."""
    op.execute("ALTER TABLE resources ADD COLUMN IF NOT EXISTS egress_price_per_gb double precision NOT NULL DEFAULT 0")


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE resources DROP COLUMN egress_price_per_gb")
