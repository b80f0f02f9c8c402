"""What follows from finished tasks: release, skip, open gates, finish experiments.

Runs inside a transaction that holds the rows of the experiments concerned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from airavata_scheduler.platform.domain.events import Followed
from airavata_scheduler.platform.domain.gates import StepStatus, decide
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState

_COUNTS = ", ".join(f"c.{state.name.lower()}" for state in TaskState)
_STEPS = sa.text(f"""
SELECT s.id, s.experiment, s.n, s.needs, s.follows, s.gate_open, s.rest_state,
       coalesce(jsonb_array_length(s.spec->'gather'), 0) > 0 AS gathers, {_COUNTS}
FROM steps s JOIN step_counts c ON c.step_id = s.id
WHERE s.experiment = ANY(:experiments) ORDER BY s.experiment, s.position
""")
# A follower's tasks of one upstream index become ready when that index succeeded in every step it follows.
_RELEASE = sa.text("""
INSERT INTO tasks (step_id, index, state)
SELECT d.id, u.index * d.fan_out + j, 1
FROM unnest(CAST(:steps AS int[]), CAST(:indexes AS int[])) AS u(step_id, index)
JOIN steps d ON d.id = ANY(:followers) AND u.step_id = ANY(d.follows) AND d.gate_open AND d.rest_state = 0
CROSS JOIN LATERAL generate_series(0, d.fan_out - 1) j
WHERE NOT EXISTS (
  SELECT FROM unnest(d.follows) f WHERE NOT EXISTS (
    SELECT FROM tasks t WHERE t.step_id = f AND t.index = u.index AND t.state = 6))
ON CONFLICT DO NOTHING
""")
_RELEASE_ALL = sa.text("""
INSERT INTO tasks (step_id, index, state)
SELECT d.id, u.index * d.fan_out + j, 1
FROM steps d
JOIN tasks u ON u.step_id = d.follows[1] AND u.state = 6
CROSS JOIN LATERAL generate_series(0, d.fan_out - 1) j
WHERE d.id = :step AND NOT EXISTS (
  SELECT FROM unnest(d.follows[2:]) f WHERE NOT EXISTS (
    SELECT FROM tasks t WHERE t.step_id = f AND t.index = u.index AND t.state = 6))
ON CONFLICT DO NOTHING
""")
_SKIP = sa.text("""
INSERT INTO tasks (step_id, index, state)
SELECT d.id, u.index * d.fan_out + j, 8
FROM unnest(CAST(:steps AS int[]), CAST(:indexes AS int[])) AS u(step_id, index)
JOIN steps d ON d.id = ANY(:followers) AND u.step_id = ANY(d.follows)
CROSS JOIN LATERAL generate_series(0, d.fan_out - 1) j
ON CONFLICT DO NOTHING RETURNING step_id, index
""")
# Only what still waits: whoever wrote the manifests may come after a cancel.
_OPEN_GATES = sa.text("""
UPDATE steps SET gate_open = true, rest_state = CASE WHEN follows = '{}' THEN 1 ELSE rest_state END
WHERE id = ANY(:steps) AND NOT gate_open AND rest_state = 0
RETURNING id, follows <> '{}' AS by_index, CASE WHEN follows = '{}' THEN n ELSE 0 END AS released
""")
_SKIP_STEPS = sa.text("UPDATE steps SET rest_state = 8 WHERE id = ANY(:steps) AND rest_state = 0")
_FINISH = sa.text("""
UPDATE experiments SET status = :status, reason = '', finished_at = clock_timestamp(), version = version + 1
WHERE id = :id AND finished_at IS NULL AND status IN ('RUNNING', 'PAUSED') RETURNING id
""")


async def follow(
    connection: AsyncConnection,
    experiments: Sequence[str],
    *,
    succeeded: Sequence[tuple[int, int]] = (),
    lost: Sequence[tuple[int, int]] = (),
) -> Followed:
    """Draw the consequences of tasks that succeeded, or were lost (failed for good), as (step id, index)."""
    done = Followed()
    steps = await load_steps(connection, experiments)
    followers = [step.step_id for members in steps.values() for step in members if step.follows]
    if followers and (succeeded or lost):
        done.released += await _release(connection, followers, succeeded)
        await _skip(connection, followers, lost)
        steps = await load_steps(connection, experiments)
    while steps:
        steps = await _advance(connection, steps, done)
    return done


async def _advance(
    connection: AsyncConnection, steps: Mapping[str, Sequence[StepStatus]], done: Followed
) -> dict[str, list[StepStatus]]:
    """One round of the rules; the experiments that need another one, as they are then."""
    again = []
    for experiment, members in steps.items():
        decision = decide(members)
        if decision.finished and await _finish(connection, experiment, decision.finished):
            done.finished[experiment] = decision.finished
        if decision.skip:
            await connection.execute(_SKIP_STEPS, {"steps": decision.skip})
        if decision.open:
            done.released += await open_gates(connection, decision.open)
        if decision.changes:
            again.append(experiment)
        else:
            done.manifests_due += decision.manifests
    return await load_steps(connection, again) if again else {}


async def _finish(connection: AsyncConnection, experiment: str, state: ExperimentState) -> bool:
    """Whether this call is the one that ended it."""
    return (await connection.execute(_FINISH, {"id": experiment, "status": str(state)})).first() is not None


async def open_gates(connection: AsyncConnection, steps: Sequence[int]) -> int:
    """Let the tasks of steps run whose needs are met; how many became ready."""
    released = 0
    for step_id, by_index, ready in (await connection.execute(_OPEN_GATES, {"steps": list(steps)})).all():
        released += ready
        if by_index:
            released += (await connection.execute(_RELEASE_ALL, {"step": step_id})).rowcount
    return released


async def _release(connection: AsyncConnection, followers: Sequence[int], succeeded: Sequence[tuple[int, int]]) -> int:
    if not succeeded:
        return 0
    return (await connection.execute(_RELEASE, _arrays(followers, succeeded))).rowcount


async def _skip(connection: AsyncConnection, followers: Sequence[int], lost: Sequence[tuple[int, int]]) -> None:
    """Skip what follows index by index, and what follows that: once around for each level of the graph."""
    while lost:
        rows = await connection.execute(_SKIP, _arrays(followers, lost))
        lost = [(row[0], row[1]) for row in rows]


def _arrays(followers: Sequence[int], tasks: Sequence[tuple[int, int]]) -> dict[str, Any]:
    steps, indexes = (list(column) for column in zip(*tasks, strict=True))
    return {"followers": list(followers), "steps": steps, "indexes": indexes}


async def load_steps(connection: AsyncConnection, experiments: Sequence[str]) -> dict[str, list[StepStatus]]:
    """The steps of experiments as the rules see them."""
    steps: dict[str, list[StepStatus]] = {}
    for row in await connection.execute(_STEPS, {"experiments": list(experiments)}):
        counts = {state: getattr(row, state.name.lower()) for state in TaskState}
        rest = TaskState(row.rest_state)
        counts[rest] += row.n - sum(counts.values())
        status = StepStatus(
            row.id, row.n, counts, tuple(row.needs), tuple(row.follows), row.gate_open, rest, row.gathers
        )
        steps.setdefault(row.experiment, []).append(status)
    return steps
