"""Adapters of the compute port."""
