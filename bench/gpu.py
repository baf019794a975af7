#!/usr/bin/env python3
"""The PyTorch engine's own package on one GPU: checks of its numbers, and its speed.

    bench/gpu.sh --json gpu.json

It drives `ra3_worker` in this process, without the program that starts it otherwise. Parts follow
each other, each within its own time; a case that fails or runs out of memory says so, and the
others go on. What is known so far is printed and written after every case. The exit status is 1
if a check has failed.
"""

import argparse
import json
import pathlib
import signal
import sys
import time
from contextlib import contextmanager

from ra3_worker import main as worker

HERE = pathlib.Path(__file__).resolve().parent
BASE = HERE.parent / "assets" / "base"
EXPECTED = HERE / "gpu_expected.json"
# Dense bf16, in FLOP/s, by a card's name; its relatives have other peaks.
PEAKS = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12}
# Seconds of each part; together they are less than gpu.sh allows.
LIMITS = {
    "correctness": 50,
    "attention": 25,
    "bits": 60,
    "graphs": 50,
    "train": 100,
    "decode": 130,
    "e-step": 90,
    "grpo": 90,
}


class OutOfTime(Exception):
    """The part's time is over."""


@contextmanager
def limited(seconds):
    """Raises `OutOfTime` inside of it when these are over."""

    def stop(*_):
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_case(case, seconds):
    """Its figures, or why there are none."""
    import torch

    began = time.perf_counter()
    try:
        with limited(seconds):
            found = case()
    except OutOfTime:
        found = {"failure": "out of time"}
    except torch.OutOfMemoryError:
        found = {"failure": "out of memory"}
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        found = {"failure": f"{type(error).__name__}: {text[0]}"}
    found["wall_s"] = round(time.perf_counter() - began, 3)
    return found


def run_parts(parts, machine, limits, report):
    """Every case of every part; `report` is told of each."""
    for name, cases in parts.items():
        end = time.perf_counter() + limits[name]
        for title, case in cases:
            left = end - time.perf_counter()
            late = {"failure": "out of time", "wall_s": 0.0}
            found = run_case(case, left) if left > 0 else late
            machine.tidy()
            report(name, title, found)


def text_of(value):
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {text_of(some)}" for key, some in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def line_of(part, title, found):
    """A row of the table."""
    figures = ", ".join(
        f"{key} {text_of(value)}" for key, value in found.items() if key != "wall_s"
    )
    return f"| {part} | {title} | {figures} | {found['wall_s']:.1f} |"


def is_wrong(part, found):
    """True for a check that did not pass; a shape that does not fit is no fault."""
    checks = ("correctness", "attention", "bits", "graphs")
    return found.get("passes") is False or (part in checks and "failure" in found)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["1.5B", "tiny"], default="1.5B")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--parts", default=",".join(LIMITS), help="some of them, by commas")
    parser.add_argument("--threads", type=int, default=4, help="of the processor")
    parser.add_argument("--json", type=pathlib.Path, help="write card, versions, figures there")
    parser.add_argument(
        "--write-expected",
        action="store_true",
        help=f"write {EXPECTED.name} anew, on the processor in f32, and end",
    )
    return parser.parse_args()


def main():
    options = arguments()
    faulty = worker.fault(worker.versions())
    if faulty:
        sys.exit(faulty)
    settings = {"device": options.device, "n_threads": options.threads}
    if options.write_expected:
        settings["device"] = "cpu"
    prepared = worker._prepare(settings)
    if prepared["fault"]:
        sys.exit(prepared["fault"])
    # Only now: torch reads its environment once.
    import gpu_checks
    import gpu_jobs

    if options.write_expected:
        EXPECTED.write_text(json.dumps(gpu_checks.expected(BASE)) + "\n")
        return
    card = prepared["gpus"][0]["name"] if settings["device"] != "cpu" else "processor"
    machine = gpu_jobs.Machine(settings["device"], options.threads, options.size, PEAKS.get(card))
    makers = {
        "correctness": lambda: gpu_checks.correctness(machine, BASE, EXPECTED),
        "attention": lambda: gpu_checks.attention(machine),
        "bits": lambda: gpu_checks.bits(machine, BASE),
        "graphs": lambda: gpu_checks.graphs(machine, BASE),
        "train": lambda: gpu_jobs.train(machine),
        "decode": lambda: gpu_jobs.decode(machine),
        "e-step": lambda: gpu_jobs.e_step(machine),
        "grpo": lambda: gpu_jobs.grpo(machine),
    }
    record = {
        "card": card,
        "gpus": prepared["gpus"],
        "peak_flops": machine.peak,
        "size": options.size,
        "versions": worker.versions(),
        "cuda": machine.cuda,
        "package": worker.package_hash(),
        "cases": [],
    }
    wrong = []

    def report(part, title, found):
        record["cases"].append({"part": part, "case": title, **found})
        if is_wrong(part, found):
            wrong.append(f"{part}: {title}")
        print(line_of(part, title, found), flush=True)
        if options.json:
            options.json.write_text(json.dumps(record, indent=1) + "\n")

    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    print(f"{card}; size {options.size}; CUDA {machine.cuda}; {versions}\n")
    print("| part | case | figures | wall s |\n|---|---|---|---|", flush=True)
    parts = {name: makers[name]() for name in options.parts.split(",")}
    run_parts(parts, machine, LIMITS, report)
    if wrong:
        sys.exit("did not pass: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
