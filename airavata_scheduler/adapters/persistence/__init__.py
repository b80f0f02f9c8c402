"""Adapters of the persistence port."""
