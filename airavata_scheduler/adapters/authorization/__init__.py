"""Adapters of the authorization port."""
