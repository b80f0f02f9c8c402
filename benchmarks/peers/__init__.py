"""What else runs many small programs on one machine; each in a process of its own, so that none disturbs the next.

A peer is a module with ``run(command, tasks, slots) -> float``: the seconds that it took to run the command so many
times, so many at once, without its own start and end. Modules of this package import nothing of the platform, because
most of them run in the peers' own environment.
"""
