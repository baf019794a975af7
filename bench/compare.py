#!/usr/bin/env python3
"""`ra3` beside PyTorch or llama.cpp at the same jobs, alternating: a table, and JSON.

    python3 bench/compare.py                      # sizes S and M, every job
    python3 bench/compare.py --sizes S --jobs train,score --rounds 5
    python3 bench/compare.py --peer llama.cpp     # its jobs: generation

It builds the engine's benchmark, and makes an environment of its own for the peer in a folder that
is removed at the end (llama.cpp is built from its sources, for this processor); RA3_PEER_PYTHON
names a Python that has the packages instead.
Nothing else should run on the machine meanwhile: `others` says what did.
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
GENERATION = ["generate-1", "generate-8", "generate-32"]
JOBS = {
    "PyTorch": [
        "train",
        "score",
        *GENERATION,
        "e-step-1-8",
        "e-step-0.2-8",
        "e-step-0.05-8",
        "e-step-0.05-1",
    ],
    "llama.cpp": GENERATION,
}
PYTORCH = ["torch==2.15.0", "transformers==5.24.0"]
PACKAGES = {
    "PyTorch": PYTORCH,
    "llama.cpp": [*PYTORCH, "llama-cpp-python==0.3.36", "gguf==0.19.0"],
}
PRECISIONS = {"f32": "float32", "bf16": "bfloat16"}
BUILD = ["cargo", "bench", "--package", "ra3-bench", "--bench", "engine", "--no-run"]


def lines_of(command: list[str]) -> list[dict]:
    """The JSON lines that a program prints."""
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    lines = output.stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def engine() -> str:
    """Builds the engine's benchmark, and says where it lies."""
    found = [line.get("executable") for line in lines_of([*BUILD, "--message-format=json"])]
    return next(path for path in reversed(found) if path)


def precisions(peer: str) -> list[str]:
    """Without instructions for bf16 either side is slower in it than in f32."""
    processor = pathlib.Path("/proc/cpuinfo").read_text()
    has_half = "avx512_bf16" in processor or "amx_bf16" in processor
    of_peer = ["f16"] if peer == "llama.cpp" else []
    return ["f32", *(["bf16"] if has_half else []), *of_peer]


def python_in(folder: str, peer: str) -> str:
    """A Python with the peer's packages."""
    given = os.environ.get("RA3_PEER_PYTHON")
    if given:
        return given
    venv.create(folder, with_pip=True)
    python = str(pathlib.Path(folder) / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[peer]], check=True)
    return python


def processor_seconds() -> tuple[float, float]:
    """Of everything that runs on the machine, and of this process and those it waited for."""
    first = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system, _, _, *interrupts = map(int, first[1:9])
    machine = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    return machine, sum(os.times()[:4])


class Others:
    """The processors that others had on average since it was made."""

    def __init__(self) -> None:
        """From now on."""
        self.seconds, self.began = processor_seconds(), os.times().elapsed

    def processors(self) -> float:
        """Until now."""
        machine, own = (
            now - was for now, was in zip(processor_seconds(), self.seconds, strict=True)
        )
        return max(machine - own, 0.0) / (os.times().elapsed - self.began)


def peer_command(
    size: str, job: str, dtype: str, python: str, folder: str, options: argparse.Namespace
) -> list[str]:
    """What runs a job of the peer, but for the number of threads."""
    if options.peer == "PyTorch":
        command = [python, str(HERE / "peer.py"), "--size", size, "--dtype", dtype]
    else:
        path = f"{folder}/{size}-{dtype}.gguf"
        command = [python, str(HERE / "peer_llama.py"), "--model", path]
    return [*command, "--job", job, "--runs", str(options.runs)]


def compare(
    size: str, job: str, binary: str, python: str, folder: str, options: argparse.Namespace
) -> dict:
    """One job, both sides and all precisions in turn; the medians of the rounds' medians."""
    found, others = {}, Others()
    for _ in range(options.rounds):
        for dtype in options.dtypes:
            if dtype in PRECISIONS:
                ours = [binary, size, str(options.runs), job, PRECISIONS[dtype]]
                machine, figure = lines_of(ours)
                found.setdefault(f"ra3 {dtype}", []).append(figure)
            peer = peer_command(size, job, dtype, python, folder, options)
            peer += ["--threads", str(machine["n_threads"])]
            found.setdefault(f"peer {dtype}", []).extend(lines_of(peer))
    record = {"size": size, "job": job, "peer": options.peer}
    for side, lines in found.items():
        keys = [key for key in ("seconds", "peak_rss_mib", "share_of_bound") if key in lines[0]]
        record[side] = {key: statistics.median(line[key] for line in lines) for key in keys}
        record[side]["rounds"] = [line["seconds"] for line in lines]
    by_time = sorted(found, key=lambda side: record[side]["seconds"])
    ours, peer = (next(side for side in by_time if side.startswith(of)) for of in ("ra3", "peer"))
    record["best"] = [ours, peer]
    record["ratio"] = record[peer]["seconds"] / record[ours]["seconds"]
    record["memory"] = record[ours]["peak_rss_mib"] / record[peer]["peak_rss_mib"]
    record["others"] = others.processors()
    record["machine"] = f"{machine['processor']}, {machine['n_threads']} threads"
    record["versions"] = f"ra3 at {commit()}; {found[peer][0]['versions']}"
    return record


def commit() -> str:
    """Of the engine."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(
        command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def row(record: dict, sides: list[str]) -> str:
    """Of the table."""
    cells = [record["size"], record["job"]]
    cells += [f"{record[side]['seconds']:.3f}" for side in sides]
    share = record[record["best"][0]]["share_of_bound"]
    cells += [f"{record['ratio']:.2f}", f"{record['memory']:.2f}", f"{share:.0%}"]
    cells.append(f"{record['others']:.2f}")
    return "| " + " | ".join(cells) + " |"


def head(record: dict, sides: list[str], options: argparse.Namespace) -> str:
    """What stands above the rows."""
    lines = [f"{record['machine']}, {platform.system()};", f"{record['versions']};"]
    lines.append(f"medians of {options.rounds} rounds of {options.runs} runs\n")
    lines.append(f"| size | job | {' s | '.join(sides)} s | ratio | memory | bound | others |")
    lines.append("|" + (6 + len(sides)) * "---|")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=JOBS, default="PyTorch")
    parser.add_argument("--sizes", default="S,M")
    parser.add_argument("--jobs", help="all that the peer does, if left out")
    parser.add_argument("--dtypes", help="such as f32,bf16; llama.cpp has f16 too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, help="append the records there, as JSON lines")
    options = parser.parse_args()
    options.sizes = options.sizes.split(",")
    options.jobs = options.jobs.split(",") if options.jobs else JOBS[options.peer]
    of_peer = precisions(options.peer)
    options.dtypes = options.dtypes.split(",") if options.dtypes else of_peer
    if options.dtypes[0] not in PRECISIONS:
        parser.error("the first of --dtypes has to be one of ours: f32 or bf16")
    return options


def main() -> None:
    """All jobs of all sizes."""
    options = arguments()
    binary, is_first = engine(), True
    sides = [f"ra3 {dtype}" for dtype in options.dtypes if dtype in PRECISIONS]
    sides += [f"peer {dtype}" for dtype in options.dtypes]
    with tempfile.TemporaryDirectory() as folder:
        python = python_in(folder, options.peer)
        for size in options.sizes:
            if options.peer == "llama.cpp":
                models = [python, str(HERE / "gguf_model.py"), "--size", size]
                models += ["--folder", folder, "--dtypes", ",".join(options.dtypes)]
                for line in lines_of(models):
                    print(json.dumps(line), flush=True)
            for job in options.jobs:
                record = compare(size, job, binary, python, folder, options)
                if is_first:
                    print(head(record, sides, options))
                    is_first = False
                print(row(record, sides), flush=True)
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
