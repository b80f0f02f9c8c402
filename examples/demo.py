"""What `make demo` runs: the road from order to chaos in a driven pendulum, from document to plot in a few minutes.

It starts a platform of its own, submits a sweep of 320 simulations and a step that gathers all of them, shows how they
get on, prints the results table, writes `demo-output/results.parquet` and `demo-output/pendulum.png`, and stops the
platform again, whatever happened. Everything is done as a user would: with the `airavata` command and the Python SDK.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from airavata_scheduler.client import Client, Experiment, Run

mpl.use("Agg")  # writes files, wherever it runs
import matplotlib.pyplot as plt

CHECKOUT = Path(__file__).resolve().parent.parent
OUTPUT = CHECKOUT / "demo-output"
AIRAVATA = [sys.executable, "-m", "airavata_scheduler.cli.main"]
POINTS = 320

# One point of the diagram: the pendulum is driven for 260 periods; after 120 of them its angular velocity is noted once
# a period, and the growth of a small deviation, which obeys the linearized equation, gives the Lyapunov exponent.
SIMULATE = """\
#!/bin/sh
exec "$PYTHON" - <<'END'
import json, math, os

drive, damping = float(os.environ["DRIVE"]), float(os.environ["DAMPING"])
frequency, steps, settle, periods = 2 / 3, 60, 120, 260
h = 2 * math.pi / frequency / steps

def slope(t, a, w, da, dw):
    return w, drive * math.cos(frequency * t) - damping * w - math.sin(a), dw, -math.cos(a) * da - damping * dw

def advance(t, y):
    k1 = slope(t, *y)
    k2 = slope(t + h / 2, *(u + h / 2 * k for u, k in zip(y, k1)))
    k3 = slope(t + h / 2, *(u + h / 2 * k for u, k in zip(y, k2)))
    k4 = slope(t + h, *(u + h * k for u, k in zip(y, k3)))
    return [u + h / 6 * (a + 2 * b + 2 * c + d) for u, a, b, c, d in zip(y, k1, k2, k3, k4)]

state, growth, seen = [0.2, 0.0, 1.0, 0.0], 0.0, []
for period in range(periods):
    for i in range(steps):
        state = advance((period * steps + i) * h, state)
    size = math.hypot(state[2], state[3])
    state = [math.remainder(state[0], 2 * math.pi), state[1], state[2] / size, state[3] / size]
    if period >= settle:
        growth += math.log(size)
        seen.append(round(state[1], 5))
exponent = growth / ((periods - settle) * steps * h)
distinct = len({round(w, 2) for w in seen})
with open(os.environ["POINT"], "w") as file:
    json.dump({"drive": drive, "lyapunov": exponent, "velocities": seen, "distinct": distinct}, file)
END
"""

# All points together: the manifest names one file a line, in the order of the tasks.
SUMMARIZE = """\
#!/bin/sh
exec "$PYTHON" - <<'END'
import json, os
import numpy as np

with open(os.environ["POINTS"]) as manifest:
    points = [json.load(open(line.strip())) for line in manifest if line.strip()]
drive = np.array([point["drive"] for point in points])
lyapunov = np.array([point["lyapunov"] for point in points])
chaotic = lyapunov > 0.005
edges = np.flatnonzero(np.diff(chaotic.astype(int)))
summary = {
    "points": len(points),
    "onset_of_chaos": float(drive[chaotic].min()) if chaotic.any() else None,
    "chaotic_share": float(chaotic.mean()),
    "windows": int((np.diff(chaotic.astype(int)) == -1).sum()),
    "strongest_at": float(drive[lyapunov.argmax()]),
    "largest_exponent": float(lyapunov.max()),
    "borders": [round(float(drive[i : i + 2].mean()), 4) for i in edges],
}
with open(os.environ["SUMMARY"], "w") as file:
    json.dump(summary, file)
velocities = np.array([point["velocities"] for point in points])
np.savez_compressed(os.environ["DIAGRAM"], drive=drive, lyapunov=lyapunov, velocities=velocities)
END
"""


def experiment() -> Experiment:
    """The document: 320 simulations, and one step after all of them."""
    made = Experiment.sweep(
        "driven-pendulum",
        step="simulate",
        script=SIMULATE,
        inputs={"DRIVE": {"linspace": [1.0, 1.5, POINTS]}, "DAMPING": 0.5},
        outputs={"POINT": "point.json"},
        results={"lyapunov": "POINT#/lyapunov", "distinct": "POINT#/distinct"},
        description="Bifurcation diagram and Lyapunov exponent of a damped, driven pendulum.",
        tags=["demo", "physics"],
        parameters={"PYTHON": {"type": "path", "default": sys.executable, "description": "a Python with NumPy"}},
    )
    return made.step(
        "summarize",
        script=SUMMARIZE,
        gather="simulate",
        inputs={"POINTS": "${simulate.POINT}"},
        outputs={"SUMMARY": "summary.json", "DIAGRAM": "diagram.npz"},
        results={"onset": "SUMMARY#/onset_of_chaos"},
    )


def main() -> int:
    """Run the demo; 0 if every task succeeded."""
    begun_s = time.monotonic()
    # Short, because the sockets of PostgreSQL and Ray live below it; ours alone, so that nothing else is touched.
    home = Path(tempfile.mkdtemp(prefix="airavata-demo-"))
    try:
        say(f"1. Starting a platform in {home}")
        airavata("up", "--http-port", str(free_port()), "--detach", "--home", str(home))
        with Client(home=home) as client:
            run = compute(client)
            report(run, home)
        good = run.state["status"] == "SUCCEEDED"
        logs_are_of_use = not good
    except BaseException:
        logs_are_of_use = True
        raise
    finally:
        say("5. Stopping the platform")
        subprocess.run([*AIRAVATA, "down", "--home", str(home)], check=False)
        if logs_are_of_use:
            print(f"What it wrote is in {home / 'log'}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    took_s = time.monotonic() - begun_s
    print(f"\nDone in {took_s:.0f} s. See results.parquet and pendulum.png in {OUTPUT.relative_to(CHECKOUT)}/")
    return 0 if good else 1


def compute(client: Client) -> Run:
    """Submit the experiment and wait for its end."""
    document = experiment()
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / "pendulum.yml").write_text(document.to_yaml(), encoding="utf-8")
    say(f"2. Submitting {POINTS} simulations, and a step that waits for all of them")
    run = client.submit(document)
    print(f"experiment {run.id}; the same document is in {OUTPUT.relative_to(CHECKOUT)}/pendulum.yml")
    return run.wait(progress=True)


def report(run: Run, home: Path) -> None:
    """Print what came out, and write the table and the plot."""
    if run.state["status"] != "SUCCEEDED":
        airavata("experiment", "explain", run.id, "--home", str(home))
        return
    say("3. The results table")
    table = run.results()
    run.save_results(OUTPUT / "results.parquet")
    airavata("experiment", "results", run.id, "--limit", "8", "--home", str(home))
    print(f"{table.num_rows} rows, {table.num_columns} columns")
    say("4. What the last step found, and a plot of it")
    summary = json.loads(run.output("summarize", 0, "SUMMARY"))
    for name, value in summary.items():
        print(f"  {name.replace('_', ' '):<17} {value}")
    diagram = OUTPUT / "diagram.npz"
    diagram.write_bytes(run.output("summarize", 0, "DIAGRAM"))
    plot(diagram, summary, OUTPUT / "pendulum.png")


def plot(diagram: Path, summary: dict[str, Any], target: Path) -> None:
    """The bifurcation diagram above the Lyapunov exponent, chaos in red."""
    with np.load(diagram) as data:
        drive, lyapunov, velocities = data["drive"], data["lyapunov"], data["velocities"]
    chaotic = lyapunov > 0.005
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(10, 7.5), sharex=True, height_ratios=(2.2, 1), constrained_layout=True
    )
    for kind, color in ((chaotic, "#b5332e"), (~chaotic, "#1f4e79")):
        upper.plot(
            np.repeat(drive[kind], velocities.shape[1]),
            velocities[kind].ravel(),
            ".",
            color=color,
            markersize=0.9,
            alpha=0.6,
        )
    upper.set_ylabel("angular velocity once a period [rad/s]")
    upper.set_title("A damped, driven pendulum on its way into chaos", loc="left", fontsize=13, fontweight="bold")
    lower.axhline(0, color="0.4", linewidth=0.8)
    lower.fill_between(
        drive, 0, lyapunov, where=lyapunov > 0, interpolate=True, color="#b5332e", alpha=0.25, label="chaotic"
    )
    lower.fill_between(
        drive, 0, lyapunov, where=lyapunov <= 0, interpolate=True, color="#1f4e79", alpha=0.2, label="periodic"
    )
    lower.plot(drive, lyapunov, color="0.15", linewidth=0.9)
    lower.set_xlabel("amplitude of the driving torque [$m g l$]")
    lower.set_ylabel("Lyapunov exponent [1/s]")
    if summary["onset_of_chaos"] is not None:
        upper.axvline(summary["onset_of_chaos"], color="0.4", linewidth=0.8, linestyle="--")
        lower.axvline(summary["onset_of_chaos"], color="0.4", linewidth=0.8, linestyle="--", label="onset of chaos")
    upper.legend(*lower.get_legend_handles_labels(), loc="lower right", frameon=False, ncols=3)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    figure.savefig(target, dpi=160)
    plt.close(figure)


def airavata(*arguments: str) -> None:
    """The command, as in a shell; its output goes where ours goes."""
    sys.stdout.flush()
    subprocess.run([*AIRAVATA, *arguments], check=True)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(text: str) -> None:
    """A heading."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
