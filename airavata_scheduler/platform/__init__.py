"""The hexagon: domain, ports and services; no Ray, no I/O, no framework."""
