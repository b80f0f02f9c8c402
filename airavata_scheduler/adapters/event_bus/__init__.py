"""Adapters of the event_bus port."""
