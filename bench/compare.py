#!/usr/bin/env python3
"""`ra3` beside PyTorch at the same jobs, alternating: a table, and JSON.

    python3 bench/compare.py                      # sizes S and M, every job
    python3 bench/compare.py --sizes S --jobs train,score --rounds 5

It builds the engine's benchmark, and makes an environment of its own for PyTorch in a folder that
is removed at the end; RA3_PEER_PYTHON names a Python that has torch and transformers instead.
Nothing else should run on the machine meanwhile.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
JOBS = [
    "train",
    "score",
    "generate-1",
    "generate-8",
    "generate-32",
    "e-step-1-8",
    "e-step-0.2-8",
    "e-step-0.05-8",
    "e-step-0.05-1",
]
PACKAGES = ["torch==2.15.0", "transformers==5.24.0"]
PRECISIONS = {"f32": "float32", "bf16": "bfloat16"}
# Ours first.
SIDES = ["ra3 f32", "ra3 bf16", "peer f32", "peer bf16"]
BUILD = ["cargo", "bench", "--package", "ra3-bench", "--bench", "engine", "--no-run"]


def lines_of(command):
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    lines = output.stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def engine():
    """Builds the engine's benchmark, and says where it lies."""
    found = [line.get("executable") for line in lines_of([*BUILD, "--message-format=json"])]
    return next(path for path in reversed(found) if path)


def precisions():
    """Of both sides: without instructions for bf16 either is slower in it than in f32."""
    processor = pathlib.Path("/proc/cpuinfo").read_text()
    has_half = "avx512_bf16" in processor or "amx_bf16" in processor
    return ["f32", "bf16"] if has_half else ["f32"]


def python_in(folder):
    """A Python with the peer's packages."""
    given = os.environ.get("RA3_PEER_PYTHON")
    if given:
        return given
    venv.create(folder, with_pip=True)
    python = str(pathlib.Path(folder) / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def compare(size, job, binary, python, options):
    """One job, both sides and precisions in turn; the medians of the rounds' medians."""
    found = {side: [] for side in SIDES}
    runs = str(options.runs)
    for _ in range(options.rounds):
        for dtype in options.dtypes.split(","):
            machine, figure = lines_of([binary, size, runs, job, PRECISIONS[dtype]])
            found[f"ra3 {dtype}"].append(figure)
            peer = [python, str(HERE / "peer.py"), "--size", size, "--job", job]
            peer += ["--dtype", dtype, "--runs", runs, "--threads", str(machine["n_threads"])]
            found[f"peer {dtype}"] += lines_of(peer)
    median = lambda side, key: statistics.median(line[key] for line in found[side])
    record = {"size": size, "job": job}
    for side in filter(found.get, found):
        keys = ("seconds", "peak_rss_mib", "share_of_bound")
        record[side] = {key: median(side, key) for key in keys if key in found[side][0]}
    best = lambda of: min(filter(record.get, SIDES[of]), key=lambda side: record[side]["seconds"])
    ours, peer = best(slice(0, 2)), best(slice(2, 4))
    record["best"] = [ours, peer]
    record["ratio"] = record[peer]["seconds"] / record[ours]["seconds"]
    record["memory"] = record[ours]["peak_rss_mib"] / record[peer]["peak_rss_mib"]
    return record, machine, found[peer][0]["versions"]


def row(record):
    seconds = lambda side: f"{record[side]['seconds']:.3f}" if side in record else "–"
    cells = [record["size"], record["job"], *map(seconds, SIDES)]
    share = record[record["best"][0]]["share_of_bound"]
    cells += [f"{record['ratio']:.2f}", f"{record['memory']:.2f}", f"{share:.0%}"]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="S,M")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--dtypes", default=",".join(precisions()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, help="write the records there, as JSON lines")
    options = parser.parse_args()
    binary, records = engine(), []
    with tempfile.TemporaryDirectory() as folder:
        python = python_in(folder)
        for size in options.sizes.split(","):
            for job in options.jobs.split(","):
                record, machine, versions = compare(size, job, binary, python, options)
                if not records:
                    commit = ["git", "describe", "--always", "--dirty"]
                    commit = subprocess.run(commit, cwd=ROOT, stdout=subprocess.PIPE, text=True)
                    print(f"{machine['processor']}, {machine['n_threads']} threads, {platform.system()};")
                    print(f"ra3 at {commit.stdout.strip()}; {versions};")
                    print(f"medians of {options.rounds} rounds of {options.runs} runs\n")
                    print(f"| size | job | {' s | '.join(SIDES)} s | ratio | memory | bound |")
                    print("|" + 9 * "---|")
                print(row(record), flush=True)
                records.append(record)
    if options.out:
        options.out.write_text("".join(json.dumps(record) + "\n" for record in records))


if __name__ == "__main__":
    main()
