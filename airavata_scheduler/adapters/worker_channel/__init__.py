"""Adapters of the worker_channel port."""
