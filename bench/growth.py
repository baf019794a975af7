#!/usr/bin/env python3
"""How the cost of the engine grows, one quantity at a time: JSON lines, and a picture of them.

    cargo build --release -p ra3-cli
    python3 bench/growth.py --out bench/growth.jsonl              # measures, ten minutes
    python3 bench/growth.py --plot docs/growth.png --out bench/growth.jsonl

Measured are documents of 256 to 16k tokens, vocabularies of 2k to 150k, 1 to 64 rollouts of a
document, shares of lines with a think from 0 to 1, and threads. What is measured already is not
measured again. Nothing else should run on the machine meanwhile. The picture needs matplotlib.
"""

import argparse
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = [256, 1024, 4096, 16384]
VOCABULARIES = [2048, 8192, 32768, 151936]
GROUPS = [1, 4, 16, 64]
THINKS = ["0", "0.05", "0.2", "0.5", "1"]
# Of a panel: what is varied, what its axis counts, and what one of the units costs.
PANELS = {
    "document": ("tokens of a document", "µs a token", True),
    "vocabulary": ("tokens of the vocabulary", "µs a token", True),
    "group": ("rollouts of a document", "ms a rollout", True),
    "think": ("share of lines with a think", "ms a rollout", False),
    "threads": ("threads", "times as fast as one", False),
}
N_DOCUMENTS_OF_E_STEP = 4


def points():
    """Every measurement: the panel, the curve, x, the job, and options."""
    for n in DOCUMENTS:
        for job in ("train", "score"):
            yield "document", job, n, f"{job}-{n}", []
    for n in VOCABULARIES:
        for job in ("train", "generate-8"):
            yield "vocabulary", job, n, job, ["--vocabulary", str(n)]
    for n in GROUPS:
        for think in ("0.05", "0.2"):
            yield "group", f"think rate {think}", n, f"e-step-{think}-{n}", []
    for think in THINKS:
        yield "think", "8 rollouts", float(think), f"e-step-{think}-8", []
    for n in range(1, (os.cpu_count() or 1) + 1):
        for job in ("train", "score", "generate-8"):
            yield "threads", job, n, job, ["--threads", str(n)]


def measure(binary, job, size, compute, options):
    command = [binary, "bench", "--size", size, "--jobs", job, "--runs", "3", "--json"]
    command += ["--compute", compute, *options]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    machine, figure = map(json.loads, output.splitlines())
    return machine, figure


def cost(record, first):
    """What a unit of a panel costs; of threads, how much faster than one."""
    figure = record["figure"]
    if record["panel"] == "threads":
        return first["figure"]["seconds"] / figure["seconds"]
    if record["panel"] in ("document", "vocabulary"):
        return 1e6 / figure["per_second"]
    n_rollouts = N_DOCUMENTS_OF_E_STEP * int(figure["job"].rpartition("-")[2])
    return 1e3 * figure["seconds"] / n_rollouts


def curves(records, panel):
    found = {}
    for record in records:
        if record["panel"] == panel:
            curve = found.setdefault(record["curve"], [])
            curve.append((record["x"], cost(record, curve[0][2] if curve else record), record))
    by_x = lambda curve: sorted((x, y) for x, y, _ in curve)
    return {name: by_x(curve) for name, curve in found.items()}


def show(records):
    for panel, (of, unit, _) in PANELS.items():
        for name, curve in curves(records, panel).items():
            print(f"{of}, {name} ({unit}):", *(f"{x:g}: {y:.3g}" for x, y in curve))


def plot(records, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(18, 3.4))
    for axis, (panel, (of, unit, is_log)) in zip(axes, PANELS.items(), strict=True):
        for name, curve in curves(records, panel).items():
            axis.plot(*zip(*curve, strict=True), marker="o", label=name)
        if is_log:
            axis.set_xscale("log", base=2)
        axis.set(xlabel=of, ylabel=unit, ylim=(0, None))
        axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ra3", default=str(ROOT / "target" / "release" / "ra3"))
    parser.add_argument("--size", default="S")
    parser.add_argument("--compute", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the records")
    parser.add_argument("--plot", type=pathlib.Path, help="draw them there, and measure nothing")
    options = parser.parse_args()
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    records = [json.loads(line) for line in lines]
    if options.plot:
        plot(records, options.plot)
        return
    known = {(it["panel"], it["curve"], it["x"]) for it in records}
    for panel, curve, x, job, more in points():
        if (panel, curve, x) in known:
            continue
        machine, figure = measure(options.ra3, job, options.size, options.compute, more)
        record = {"panel": panel, "curve": curve, "x": x, "machine": machine, "figure": figure}
        records.append(record)
        with options.out.open("a") as out:
            out.write(json.dumps(record) + "\n")
    show(records)


if __name__ == "__main__":
    main()
