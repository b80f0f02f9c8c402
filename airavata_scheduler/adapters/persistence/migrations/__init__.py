"""Alembic's scripts; a package so that a wheel takes them along."""
