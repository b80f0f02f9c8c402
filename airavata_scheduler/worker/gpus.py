"""Which GPU a task gets: whole ones of its own, or a share of one."""

from __future__ import annotations

_EPSILON = 1e-9


class GpuShares:
    """What is free of each GPU, from 0 to 1."""

    def __init__(self, ids: tuple[int, ...]) -> None:
        self._free = dict.fromkeys(ids, 1.0)

    def take(self, amount: float) -> tuple[int, ...] | None:
        """GPU numbers for a request of ``amount``, or None if it does not fit at present.

        Above 1 the amount is rounded up to whole GPUs; a share comes from the fullest GPU that still has it.
        """
        if amount <= 0:
            return ()
        if amount < 1:
            fitting = [gpu for gpu, free in self._free.items() if free + _EPSILON >= amount]
            chosen = tuple(sorted(fitting, key=lambda gpu: (self._free[gpu], gpu))[:1])
        else:
            whole = [gpu for gpu, free in self._free.items() if free + _EPSILON >= 1]
            wanted = -int(-amount // 1)
            chosen = tuple(whole[:wanted]) if len(whole) >= wanted else ()
        for gpu in chosen:
            self._free[gpu] -= min(amount, 1.0)
        return chosen or None

    def give_back(self, gpus: tuple[int, ...], amount: float) -> None:
        for gpu in gpus:
            self._free[gpu] = min(1.0, self._free[gpu] + min(amount, 1.0))
