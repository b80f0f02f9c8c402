"""`plan(snapshot, now, limits) -> Plan`: check, classify, compile, solve, rehearse, share out, explain. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from .arrivals import arrival_assignments, with_arrivals
from .check import check
from .classes import classify
from .errors import SolverError
from .forecast import forecast
from .greedy import greedy
from .objective import Costs, costs, stage_loads, value
from .plan import Plan
from .problem import Floats, Problem, compile_problem
from .reasons import unplaced
from .rehearsal import Cast, Outcome, Script, cast, large, until
from .rounding import rounded
from .scripts import best_script
from .shapes import with_shapes
from .shares import Decision, share_out
from .snapshot import Limits, Snapshot
from .solution import Solution, Solver
from .targets import worker_targets
from .waves import wave_assignments

#: Programmes that know of waves and of arrivals are solved if the effort is this much for each class.
WAVE_EFFORT = 100
#: For each class, its best few resources have a price in the plan.
PRICED = 4
#: Tasks times pools in a rehearsal: making a script takes time for both.
REHEARSED_CELLS = 50_000


@cache
def ladder() -> tuple[Solver, ...]:
    """The solvers, the simplest first. Loaded when first needed: whoever only handles plans never pays for them."""
    from .flow import Flow  # noqa: PLC0415
    from .linear import Linear  # noqa: PLC0415

    return Flow(), Linear()


def plan(
    snapshot: Snapshot, now: float, limits: Limits | None = None, *, stopwatch: Callable[[], float] = time.perf_counter
) -> Plan:
    """Decides what goes where.

    `now` is in the snapshot's epoch, in seconds. Raises SnapshotError for a malformed snapshot. The stopwatch only
    measures `Plan.spent_s`; the decision does not depend on it.
    """
    started = stopwatch()
    limits = Limits() if limits is None else limits
    check(snapshot, now, limits)
    problem = compile_problem(snapshot, classify(snapshot, limits.max_classes), now, limits)
    price = costs(problem)
    packed = with_shapes(problem, len(price.finish_weight))
    assigned, solution, notes = climb(packed, price)
    x, objective, script, outcome, who = _rehearse(problem, price, assigned, _near(problem, assigned, solution))
    starts = _starts(problem, price, x, who, outcome)
    near = _near(problem, x, solution)
    exact = who is not None and max(who.each) <= 1.0
    decision = Decision(
        x, starts, near, _positions(problem, price, script, who), exact, script is None or script.strict
    )
    bound, scope = _honest_bound(problem, price, solution)
    gap_of = objective if scope == "any" else value(packed, price, assigned)
    return Plan(
        shares=share_out(problem, decision),
        targets=worker_targets(problem, x),
        unplaced=unplaced(problem, x),
        forecasts=forecast(problem, x, who, outcome),
        prices=_capacity_prices(problem, solution),
        budget_prices={
            e.key: float(p) for e, p in zip(snapshot.experiments, solution.budget_price, strict=True) if p > 0
        },
        task_prices=_task_prices(problem, near),
        objective=objective,
        bound=bound,
        bound_scope=scope,
        gap=None if bound is None else max(0.0, gap_of - bound) / max(abs(bound), 1e-9),
        solver=solution.solver if script is None else f"{solution.solver}+{script.name}",
        spent_s=stopwatch() - started,
        classes=len(problem.classes),
        notes=notes,
    )


def climb(problem: Problem, price: Costs) -> tuple[Floats, Solution, tuple[str, ...]]:
    """The ladder: greedy always, then the first solver that suits; the better of the two assignments (C, P)."""
    if not problem.allowed.any():
        nothing = np.zeros(problem.cause.shape)
        return nothing, _unpriced(problem, price, nothing), ()
    incumbent = greedy(problem, price)
    wanted = problem.limits.solver
    notes: list[str] = []
    for solver in ladder():
        if wanted not in ("auto", solver.name) or not solver.suits(problem, price, incumbent):
            continue
        try:
            solution = solver.solve(problem, price, incumbent)
        except SolverError as error:
            notes.append(str(error))
            continue
        x = _whole(problem, price, solution)
        if value(problem, price, x) <= value(problem, price, incumbent):
            return x, solution, tuple(notes)
        notes.append(f"{solver.name}: rounding was worse than greedy")
        return incumbent, solution, tuple(notes)
    return incumbent, _unpriced(problem, price, incumbent), tuple(notes)


def _whole(problem: Problem, price: Costs, solution: Solution) -> Floats:
    """The better of plain rounding and rounding around gangs that were placed by CP-SAT."""
    x = rounded(problem, price, solution)
    if not any(task_class.nodes > 1 for task_class in problem.classes):
        return x
    from .gangs import place_gangs  # noqa: PLC0415 - as in `ladder`

    with_gangs = place_gangs(problem, price, solution)
    if with_gangs is None:
        return x
    rival = rounded(problem, price, replace(solution, x=with_gangs))
    return rival if value(problem, price, rival) < value(problem, price, x) else x


def _honest_bound(problem: Problem, price: Costs, solution: Solution) -> tuple[float | None, str]:
    """The bound, and whether it holds for any plan, or for plans that serve the experiments in this plan's stages."""
    experiments = len(np.unique(problem.experiment))
    timed = bool(price.finish_weight.any() or price.late_weight.any())
    return solution.bound, "stages" if timed and experiments > 1 else "any"


def _unpriced(problem: Problem, price: Costs, x: Floats) -> Solution:
    """Greedy's answer as a solution without a bound: cells compared by what they cost by themselves."""
    held = price.cell + float(price.finish_weight.sum()) * problem.hold_s / max(1, len(problem.pools))
    ranked = np.where(problem.allowed, held, np.inf)
    least = ranked.min(axis=1, initial=np.inf)
    reduced = np.where(problem.allowed, ranked - np.where(np.isfinite(least), least, 0.0)[:, None], np.inf)
    return Solution(x, None, np.zeros(problem.capacity.shape), np.zeros(len(problem.budget)), reduced, "greedy")


def _near(problem: Problem, x: Floats, solution: Solution) -> Floats:
    """(C, P) how much worse a cell is than what is planned, by the solver's prices; infinite where not allowed."""
    return np.where(x > 0, 0.0, np.where(problem.allowed, np.maximum(solution.reduced, 0.0), np.inf))


def _rehearse(
    problem: Problem, price: Costs, x: Floats, near: Floats
) -> tuple[Floats, float, Script | None, Outcome | None, Cast | None]:
    """Task by task if there are few enough; else the assignment stands as it is."""
    by_value = value(problem, price, x)
    bundle = _bundle(problem, price)
    if bundle is None:
        return x, by_value, None, None, None
    who = cast(problem, price, bundle)
    assignments = [("solver", x)]
    if bundle == 1 and len(problem.classes) * WAVE_EFFORT <= problem.limits.effort:
        to_come = arrival_assignments(problem, price, x)
        assignments = to_come + assignments + wave_assignments(problem, with_arrivals(problem, price, x), x)
    script, outcome, objective = best_script(who, assignments, near, problem.limits.effort)
    return _placed(who, outcome, x), objective, script, outcome, who


def _bundle(problem: Problem, price: Costs) -> int | None:
    """How many tasks to rehearse as one; None if there is nothing to rehearse, or far too much."""
    tasks, limits = int(problem.count.sum()), problem.limits
    if limits.window_s is not None or not problem.allowed.any() or tasks == 0:
        return None
    most = min(limits.detail_tasks, REHEARSED_CELLS // len(problem.pools))
    if tasks <= most:
        return 1
    if not (limits.bundles and _suits_bundles(problem, price)):
        return None
    room = most - len(problem.snapshot.groups)
    return -(-tasks // room) if room > 0 else None


def _suits_bundles(problem: Problem, price: Costs) -> bool:
    """Where order or packing matters, so that a fluid falls short, and nothing depends on single tasks.

    A bundle would be refused as a whole where something must end in time or be paid for, and hold up what follows.
    """
    matters = bool(price.late_weight.any() or large(problem).any())
    single = np.isfinite(until(problem)).any() or np.isfinite(problem.budget).any()
    return matters and not single and not any(group.after for group in problem.snapshot.groups)


def _placed(who: Cast, outcome: Outcome, x: Floats) -> Floats:
    """(C, P) tasks; what becomes of parts of tasks in bundles is settled from pool to pool."""
    placed, owed = np.zeros(x.shape), [0.0] * len(who.size)
    for p, started in enumerate(outcome.started):
        for g, n in started.items():
            owed[g] += n * who.each[g]
            whole = round(owed[g])
            owed[g] -= whole
            placed[who.row[g], p] += whole
    return placed


def _starts(problem: Problem, price: Costs, x: Floats, who: Cast | None, outcome: Outcome | None) -> Floats:
    """(C, P) seconds until the first task of a class starts on a pool; of a fluid, when what is more urgent is done."""
    starts = np.broadcast_to(problem.wait_s[None, :], x.shape).copy()
    if who is None or outcome is None:
        n_stages = len(price.finish_weight)
        loads = np.concatenate([problem.running_load[None], stage_loads(problem, price.stage, n_stages, x)])
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.where(problem.capacity > 0, loads / problem.capacity, 0.0).max(axis=2, initial=0.0)
        starts += ends[price.stage]
    else:
        starts[x > 0] = np.inf
        for p, first in enumerate(outcome.first_start):
            for g, at in first.items():
                starts[who.row[g], p] = min(starts[who.row[g], p], at)
    return starts


def _positions(problem: Problem, price: Costs, script: Script | None, who: Cast | None) -> list[int]:
    """(G,) the order of the snapshot's groups: the script's, else by stage, deadline, work that follows, and length."""
    groups = problem.snapshot.groups
    members = [(i, c) for c, task_class in enumerate(problem.classes) for i in task_class.members]
    if script is not None and who is not None:
        ordered = [members[g][0] for g in script.order]
    else:
        stage, due = price.stage.tolist(), problem.deadline_s.tolist()

        def urgency(pair: tuple[int, int]) -> tuple[float, float, float, int]:
            i, c = pair
            return stage[c], due[c], -groups[i].rank_s - groups[i].runtime.mean_s, i

        ordered = [i for i, _ in sorted(members, key=urgency)]
    position = [len(groups)] * len(groups)
    for place, i in enumerate(ordered):
        position[i] = place
    return position


def _capacity_prices(problem: Problem, solution: Solution) -> dict[str, dict[str, float]]:
    prices: dict[str, dict[str, float]] = {}
    for p, d in np.argwhere(solution.capacity_price[:, : len(problem.dims)] > 0):
        row = prices.setdefault(problem.snapshot.resources[problem.pools[p].resource].name, {})
        row[problem.dims[d]] = max(row.get(problem.dims[d], 0.0), float(solution.capacity_price[p, d]))
    return prices


def _task_prices(problem: Problem, near: Floats) -> dict[tuple[str, str], float]:
    """For each class's few best resources, by group: zero where it is planned."""
    names = [problem.snapshot.resources[pool.resource].name for pool in problem.pools]
    prices: dict[tuple[str, str], float] = {}
    k = min(PRICED, near.shape[1])
    if k == 0 or not len(problem.classes):
        return prices
    nearest = np.argpartition(near, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(near, nearest, axis=1)
    for task_class, columns, row in zip(problem.classes, nearest.tolist(), values.tolist(), strict=True):
        for p, price in zip(columns, row, strict=True):
            if price < np.inf:
                for i in task_class.members:
                    key = (problem.snapshot.groups[i].key, names[p])
                    prices[key] = min(prices.get(key, price), price)
    return prices
