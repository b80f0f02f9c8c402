"""Designs of experiments with random access. Standard library only.

A design of ``n`` points in ``d`` dimensions is a pure function ``(index, dimension) -> [0, 1)``: nothing is stored, the
points can be computed in any order and on any machine, and the same seed gives the same points for ever.

Direction numbers of the Sobol sequence: S. Joe and F. Y. Kuo, "Constructing Sobol sequences with better
two-dimensional projections", SIAM J. Sci. Comput. 30 (2008), table new-joe-kuo-6, dimensions 1 to 21.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Method = Literal["latin_hypercube", "sobol", "random"]
METHODS: tuple[Method, ...] = ("latin_hypercube", "sobol", "random")
MAX_SOBOL_DIMENSIONS = 21
MAX_SOBOL_POINTS = 1 << 32

_MASK = (1 << 64) - 1
_BITS = 32
_ROUNDS = 6
_BELOW_ONE = math.nextafter(1.0, 0.0)

#: Dimension 2 and up: (degree, coefficients of the primitive polynomial without its ends, initial m_k).
JOE_KUO: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
    (5, 11, (1, 1, 5, 1, 1)),
    (5, 13, (1, 1, 1, 3, 11)),
    (5, 14, (1, 3, 5, 5, 31)),
    (6, 1, (1, 3, 3, 9, 7, 49)),
    (6, 13, (1, 1, 1, 15, 21, 21)),
    (6, 16, (1, 3, 1, 13, 27, 49)),
    (6, 19, (1, 1, 1, 15, 7, 5)),
    (6, 22, (1, 3, 1, 15, 13, 25)),
    (6, 25, (1, 1, 5, 5, 19, 61)),
    (7, 1, (1, 3, 7, 11, 23, 15, 103)),
    (7, 4, (1, 3, 7, 13, 13, 15, 69)),
)


def mix(value: int) -> int:
    """The finalizer of SplitMix64: 64 bits in, 64 well-mixed bits out."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def stream(*words: int) -> int:
    """64 bits that depend on every one of ``words``."""
    state = 0
    for word in words:
        state = mix(state * 0x9E3779B97F4A7C15 + word + 0x9E3779B97F4A7C15)
    return state


def unit(*words: int) -> float:
    """A number of [0, 1) with 53 random bits, from ``words``."""
    return (stream(*words) >> 11) * 2.0**-53


def permuted(index: int, n: int, key: int) -> int:
    """Where a pseudo-random permutation of 0..n-1, chosen by ``key``, puts ``index``.

    A Feistel network over the next even number of bits; results outside 0..n-1 are walked on (less than four
    times on average), so the map stays one to one.
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = index >> half, index & low
        for turn in range(_ROUNDS):
            left, right = right, left ^ (mix(key + turn * 0x9E3779B97F4A7C15 + right) & low)
        index = (left << half) | right
        if index < n:
            return index


def direction_numbers(dimension: int) -> tuple[int, ...]:
    """The 32 direction numbers of a dimension (0 first), as integers scaled by 2**32."""
    if dimension == 0:
        return tuple(1 << (_BITS - 1 - k) for k in range(_BITS))
    degree, inner, initial = JOE_KUO[dimension - 1]
    v = [m << (_BITS - 1 - k) for k, m in enumerate(initial)]
    for k in range(degree, _BITS):
        value = v[k - degree] ^ (v[k - degree] >> degree)
        for j in range(1, degree):
            if (inner >> (degree - 1 - j)) & 1:
                value ^= v[k - j]
        v.append(value)
    return tuple(v[:_BITS])


def sobol_bits(index: int, directions: tuple[int, ...]) -> int:
    """Point ``index`` of the sequence in Gray-code order, as an integer scaled by 2**32."""
    gray = index ^ (index >> 1)
    value = 0
    while gray:
        lowest = gray & -gray
        value ^= directions[lowest.bit_length() - 1]
        gray ^= lowest
    return value


@dataclass(frozen=True, slots=True)
class Design:
    """``n`` points in ``dimensions`` dimensions. Raises ValueError for what the method cannot do."""

    method: Method
    n: int
    dimensions: int
    seed: int = 0
    _keys: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _directions: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; there are {', '.join(METHODS)}")
        if self.n < 1:
            raise ValueError(f"n must be at least 1, not {self.n}")
        sobol = self.method == "sobol"
        if sobol and (self.dimensions > MAX_SOBOL_DIMENSIONS or self.n > MAX_SOBOL_POINTS):
            raise ValueError(
                f"sobol has at most {MAX_SOBOL_DIMENSIONS} parameters and {MAX_SOBOL_POINTS} points, "
                f"not {self.dimensions} and {self.n}; use latin_hypercube"
            )
        directions = tuple(direction_numbers(d) for d in range(self.dimensions)) if sobol else ()
        object.__setattr__(self, "_keys", tuple(stream(self.seed, d) for d in range(self.dimensions)))
        object.__setattr__(self, "_directions", directions)

    def at(self, index: int, dimension: int) -> float:
        """Coordinate ``dimension`` of point ``index``, in [0, 1)."""
        key = self._keys[dimension]
        if self.method == "random":
            return unit(key, index)
        if self.method == "sobol":
            return (sobol_bits(index, self._directions[dimension]) ^ (key >> 32)) * 2.0**-_BITS
        cell = permuted(index, self.n, key)
        return min((cell + unit(key, index)) / self.n, _BELOW_ONE)
