"""Airavata Scheduler: run computational experiments on whatever computers you can reach."""

__version__ = "0.1.0"
