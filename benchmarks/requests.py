"""A small HTTP/1.1 client for many connections at once: what a measuring program does itself should cost little."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Self
from urllib.parse import urlsplit


class Connection:
    """One kept connection of one client."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = f"Host: {self._host}\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n\r\n"

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def get(self, path: str) -> int:
        """The status code, after the whole body was read."""
        self._writer.write(f"GET {path} HTTP/1.1\r\n{self._head}".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b"content-length:" in head:
            await self._reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        elif b"chunked" in head:
            while (size := int(await self._reader.readline(), 16)) > 0:
                await self._reader.readexactly(size + 2)
            await self._reader.readline()
        return int(head.split()[1])


async def latencies(
    url: str, token: str, clients: int, seconds: float, pause_s: float, path: Callable[[int], str]
) -> Sequence[float]:
    """Seconds of each answer, of so many clients that ask, wait for the answer, pause, and ask again.

    ``path`` says what the n-th request of all is for. RuntimeError for an answer other than 200.
    """
    taken: list[float] = []
    asked = 0

    async def one(delay_s: float) -> None:
        nonlocal asked
        await asyncio.sleep(delay_s)
        async with Connection(url, token) as connection:
            while time.perf_counter() < end:
                asked += 1
                wanted = path(asked)
                began = time.perf_counter()
                status = await connection.get(wanted)
                taken.append(time.perf_counter() - began)
                if status != 200:
                    message = f"GET {wanted} answered {status}"
                    raise RuntimeError(message)
                await asyncio.sleep(pause_s)

    end = time.perf_counter() + seconds
    await asyncio.gather(*(one(pause_s * number / clients) for number in range(clients)))
    return taken


def p50_p99_ms(taken: Sequence[float]) -> tuple[float, float]:
    """Milliseconds."""
    cuts = statistics.quantiles(taken, n=100)
    return cuts[49] * 1000, cuts[98] * 1000
