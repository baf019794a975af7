"""Times `ra3 grade` beside EvalPlus, both with two workers, and what is a bound for both.

    cargo build --release
    pip install evalplus==0.3.1                        # into an environment of its own
    python3 crates/ra3-evals/benches/grading.py HumanEvalPlus.jsonl.gz HumanEval.jsonl.gz \\
        [--evalplus ENVIRONMENT/bin/evalplus.evaluate] [--recorded eval_results.json] [--rounds 3]

Both sides take turns, after one run each that is not counted, in which they compute the expected
outputs that they keep. Printed are the median and the range of each, in seconds on the clock. The
bound is the CPU time of the canonical solutions' own calls in bare Python: half of it on two cores.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import tempfile
import time

N_SHORT = 2000
RA3 = os.path.join(os.path.dirname(__file__), "../../../target/release/ra3")


def records(path):
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def write_samples(path, samples):
    with open(path, "w") as file:
        for task_id, solution in samples:
            file.write(json.dumps({"task_id": task_id, "solution": solution}) + "\n")


def seconds(command, environment=None):
    began = time.monotonic()
    subprocess.run(
        command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.monotonic() - began


def cpu_of_calls(tasks):
    total = 0.0
    for task in tasks:
        space = {}
        exec(task["prompt"] + task["canonical_solution"], space)
        function = space[task["entry_point"]]
        began = time.process_time()
        for arguments in task["base_input"] + task["plus_input"]:
            function(*arguments)
        total += time.process_time() - began
    return total


def compare(name, sides, n_rounds):
    found = {side: [] for side in sides}
    for counted in range(-1, n_rounds):
        for side, run in sides.items():
            taken = run()
            if counted >= 0:
                found[side].append(taken)
    for side, times in found.items():
        median = statistics.median(times)
        print(f"{name}: {side} {median:.1f} s ({min(times):.1f} to {max(times):.1f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("plus", help="HumanEvalPlus.jsonl.gz")
    parser.add_argument("original", help="HumanEval.jsonl.gz")
    parser.add_argument("--evalplus", help="the command evalplus.evaluate")
    parser.add_argument("--recorded", help="a result file of EvalPlus's, with other solutions")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    tasks = records(given.plus)
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data.jsonl")
        with open(data, "w") as file:
            file.writelines(json.dumps(task) + "\n" for task in tasks)
        environment = {**os.environ, "HUMANEVAL_OVERRIDE_PATH": data}
        right = [(task["task_id"], task["prompt"] + task["canonical_solution"]) for task in tasks]
        sets = {"canonical": right}
        if given.recorded:
            with open(given.recorded) as file:
                entries = json.load(file)["eval"]
            sets["recorded"] = [(task, one["solution"]) for task in entries for one in entries[task]]
        for name, samples in sets.items():
            path = os.path.join(folder, f"{name}.jsonl")
            write_samples(path, samples)
            grade = [RA3, "grade", path, "--workers", "2", "--bench", "humaneval+"]
            sides = {"ra3": lambda: seconds([*grade, "--data", given.plus])}
            if given.evalplus:
                def official():
                    for end in ("_eval_results.json", ".eval_results.json"):
                        if os.path.exists(path[:-6] + end):
                            os.remove(path[:-6] + end)
                    arguments = ["--dataset", "humaneval", "--samples", path, "--parallel", "2"]
                    return seconds([given.evalplus, *arguments], environment)

                sides["EvalPlus"] = official
            compare(name, sides, given.rounds)
        short = next(task for task in records(given.original) if task["task_id"] == "HumanEval/23")
        program = short["prompt"] + short["canonical_solution"]
        path = os.path.join(folder, "short.jsonl")
        # Equal programs would run once.
        write_samples(path, [(short["task_id"], f"{program}\n# {n}\n") for n in range(N_SHORT)])
        grade = [RA3, "grade", path, "--workers", "2", "--bench", "humaneval"]
        sides = {"ra3": lambda: seconds([*grade, "--data", given.original])}
        compare(f"{N_SHORT} short programs", sides, given.rounds)
    print(f"calls of the canonical solutions: {cpu_of_calls(tasks):.1f} s of CPU time")


main()
