from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from airavata_scheduler.launcher.ports import free_port, keep_port, port_is_free

_TAKE_ANY = """
import json, socket
from airavata_scheduler.launcher.ports import keep_port
keeping = keep_port(46002, "127.0.0.1")
taken = []
for _ in range(3):
    taken.append(socket.socket(socket.AF_INET6))
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        taken[-1].setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        taken[-1].bind(("::", 0))
        taken[-1].listen()
    except OSError:
        taken.pop()
print(json.dumps([other.getsockname()[1] for other in taken]))
"""


@pytest.fixture
def port() -> int:
    return free_port(exclude=set())


def _server(port: int) -> socket.socket:
    """As Ray Serve does it."""
    made = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def test_who_allows_others_can_listen_on_a_kept_port_and_nobody_else_can_have_it(port: int) -> None:
    with keep_port(port, "127.0.0.1"):
        for _ in range(2):
            with _server(port), socket.create_connection(("127.0.0.1", port)):
                pass
        assert not port_is_free(port)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as most servers do
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
    assert port_is_free(port)


def test_a_port_can_be_kept_when_connections_of_an_earlier_server_still_close(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # who closes first keeps the port in TIME_WAIT
        client.close()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with keep_port(port, "127.0.0.1"), _server(port), socket.create_connection(("127.0.0.1", port)):
        pass


def test_a_port_whose_server_listens_already_can_be_kept(port: int) -> None:
    with _server(port), keep_port(port, "127.0.0.1"), socket.create_connection(("127.0.0.1", port)):
        pass


def test_a_port_of_another_program_cannot_be_kept(port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            keep_port(port, "127.0.0.1")


def test_who_takes_any_free_port_never_gets_one_that_is_kept() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes a network of its own")
    script = 'ip link set lo up && echo "46001 46004" > /proc/sys/net/ipv4/ip_local_port_range && exec "$0" -c "$1"'
    command = ["unshare", "--net", "sh", "-c", script, sys.executable, _TAKE_ANY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)
    assert 46002 not in json.loads(done.stdout)
