"""Adapters of the vault port."""
