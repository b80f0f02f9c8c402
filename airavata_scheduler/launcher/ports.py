"""TCP ports: whether one is free, one that will stay so, and one that is kept for somebody who comes and goes."""

from __future__ import annotations

import contextlib
import random
import socket

_OURS = range(20_000, 32_000)


def port_is_free(port: int, host: str = "") -> bool:
    """Whether a TCP port can be bound now."""
    with _socket(host) as probe, contextlib.suppress(OSError, OverflowError):
        probe.bind((host, port))
        return True
    return False


def free_port(exclude: set[int]) -> int:
    """A free port below those that the kernel gives to outgoing connections, which could take it before it is bound."""
    for port in random.sample(_OURS, 200):
        if port not in exclude and port_is_free(port):
            return port
    raise OSError(f"no free TCP port found between {_OURS.start} and {_OURS.stop}: set ray_port and dashboard_port")


def keep_port(port: int, host: str) -> socket.socket:
    """Bind a port without listening, which keeps it from everybody who takes any port that is free.

    A server of the same user that allows others beside it (SO_REUSEPORT) can listen there all the same, now or later.
    Raises OSError if another program has it.
    """
    keeping = _socket(host, socket.SO_REUSEPORT)
    try:
        # With SO_REUSEADDR on both sides Linux gives a port that nobody listens on to a second one: only where the
        # closed connections of an earlier server are still in the way is there no keeping it without.
        try:
            keeping.bind((host, port))
        except OSError:
            keeping.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeping.bind((host, port))
    except OSError:
        keeping.close()
        raise
    return keeping


def _socket(host: str, option: int = socket.SO_REUSEADDR) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, option, 1)
    return made
