"""Adapters of the rate_limit port."""
