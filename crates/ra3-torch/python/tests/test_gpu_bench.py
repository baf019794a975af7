"""`bench/gpu.sh` in small, on a processor: all of it runs, and what fails fails alone."""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

BENCH = Path(__file__).parents[4] / "bench"
sys.path.insert(0, str(BENCH))

import gpu  # noqa: E402


def test_all_parts_run_on_a_processor(tmp_path):
    path = tmp_path / "figures.json"
    line = [str(BENCH / "gpu.sh"), "--size", "tiny", "--device", "cpu", "--threads", "1"]
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([*line, "--json", str(path)], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    record = json.loads(path.read_text())
    assert record["card"] == "processor"
    assert torch.__version__.startswith(record["versions"]["torch"])
    assert {case["part"] for case in record["cases"]} == set(gpu.LIMITS)
    for case in record["cases"]:
        assert "failure" not in case and case.get("passes", True), case


def test_a_case_fails_alone():
    def fails():
        raise ValueError("as it should\nand no more")

    def has_no_memory():
        raise torch.OutOfMemoryError

    cases = [
        ("fails", fails),
        ("full", has_no_memory),
        ("slow", lambda: time.sleep(5)),
        ("late", dict),
    ]
    found = {}

    class Machine:
        def tidy(self):
            pass

    def report(part, title, figures):
        assert gpu.line_of(part, title, figures).startswith(f"| {part} | {title} | ")
        found[title] = figures.get("failure")

    parts = {"one": cases, "two": [("well", dict)]}
    gpu.run_parts(parts, Machine(), {"one": 0.3, "two": 5.0}, report)
    assert found == {
        "fails": "ValueError: as it should",
        "full": "out of memory",
        "slow": "out of time",
        "late": "out of time",
        "well": None,
    }
    assert gpu.is_wrong("bits", {"failure": "out of memory"})
    assert gpu.is_wrong("attention", {"passes": False})
    assert not gpu.is_wrong("train", {"failure": "out of memory"})
