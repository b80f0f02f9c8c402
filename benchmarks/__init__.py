"""Benchmarks: throughput, scheduling."""
