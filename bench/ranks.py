"""What each process of the PyTorch engine has in memory, and how long it takes, on a processor.

    python3 bench/ranks.py --size M --processes 3 --sharding full

A Qwen2 of random weights (sizes as in `peer.py`) is loaded, trained with two updates of documents
that share nothing, its state is saved and loaded again, and it is written as a finished model. A
line for each rank and step: seconds, the most memory that the process had meanwhile, and what it
has afterwards, in MiB beyond what it had before the model was there. What is saved goes to a folder
that is removed. GPUs are `gpu.py`'s.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "crates/ra3-torch/python"
ROWS = 256


def parsed():
    """The command line; what is not shown is a rank's own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="M", choices=("XS", "S", "M", "L"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sharding", default="none", choices=("none", "full"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--documents", type=int, default=4, help=f"of {ROWS} tokens each")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="the worker's Python")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Starts the ranks, and shows what they print, one after the other."""
    options = parsed()
    if options.rank is not None:
        return rank(options)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "model", options.size)
        # Memory that is freed is given back, where a program of its own would keep it.
        environment = {"MALLOC_MMAP_THRESHOLD_": "65536", "GLOO_SOCKET_IFNAME": "lo"}
        environment |= {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE"}
        environment |= {"TQDM_DISABLE": "1"}
        children = [
            subprocess.Popen(
                [sys.executable, __file__, *sys.argv[1:], "--folder", folder, "--rank", str(rank)],
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(options.processes)
        ]
        said = [child.communicate()[0] for child in children]
        kept = sum(path.stat().st_size for path in Path(folder, "state").iterdir()) >> 20
    print(f"{'rank':<5}{'step':<8}{'s':>8}{'most':>8}{'after':>8}")
    print("".join(said), end="")
    print(f"the state has {kept} MiB")
    return max(child.returncode for child in children)


def write_model(folder, size):
    """As the model of `peer.py`, on disk."""
    from peer import SIZES, Peer

    assert size in SIZES
    Peer(size, "f32").model.save_pretrained(folder)


def rank(options):
    """What one process does."""
    sys.path.insert(0, str(options.package.resolve()))
    import torch
    from ra3_worker import model, state, update
    from ra3_worker.ranks import Ranks
    from ra3_worker.trie import Example
    from torch import distributed as dist

    torch.set_num_threads(options.threads)
    number, size = options.rank, options.processes
    if size > 1:
        store = dist.FileStore(str(options.folder / "store"), size)
        limit = timedelta(minutes=30)
        dist.init_process_group("gloo", store=store, rank=number, world_size=size, timeout=limit)
    settings = model.Settings(
        dtype=options.dtype,
        n_threads=options.threads,
        n_tokens_micro=options.documents * ROWS,
        recompute=options.recompute,
        sharding=options.sharding if size > 1 else "none",
    )
    ranks, batch = Ranks(number, size), []
    for index in range(options.documents):
        tokens = [(7 * at + 31 * index + at * at) % 2048 for at in range(ROWS)]
        batch.append(Example(tokens, [0.0] + [1.0 / ROWS] * (ROWS - 1), {}, []))
    likelihood = update.Objective(False, 0.0, 0.0, 1e-4)
    before, ours = memory("VmRSS"), None

    def measured(name, work):
        # The most from here on.
        Path("/proc/self/clear_refs").write_text("5")
        start = time.perf_counter()
        found = work()
        wall_s = time.perf_counter() - start
        most, after = (memory(of) - before for of in ("VmHWM", "VmRSS"))
        print(f"{number:<5}{name:<8}{wall_s:>8.2f}{most:>8}{after:>8}", flush=True)
        return found

    def load():
        return model.load(options.folder / "model", settings, ranks)

    ours, place = measured("load", load), options.folder / "state"
    for _ in range(2):
        measured("update", lambda: update.update(ours, settings, batch, likelihood, ranks))
    measured("save", lambda: state.save(ours, place, state.STATE, ranks))
    if size > 1:
        dist.barrier()
    measured("go on", lambda: state.load_state(ours, place, "cpu", ranks))
    finished = options.folder / "finished"
    measured("finish", lambda: state.save(ours, finished, state.FINISHED, ranks))
    if size > 1:
        dist.barrier()
    # Libraries of several processes do not always end in peace.
    sys.stdout.flush()
    os._exit(0)


def memory(name):
    """MiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    sys.exit(main())
