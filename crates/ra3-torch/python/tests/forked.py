"""Interpreters that have imported their libraries: a process that has forks itself for each.

A worker's process takes five seconds of a processor to import them, and these tests start some
eighty. So one server imports them, and what takes the interpreter's place, `program`, has it run
the same command line in a fork, with its own environment, folder and files. A fork ends when its
program does. Tests that kill processes have real ones.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import os
import runpy
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# It ends with what has started it, so that its fork does.
PROGRAM = """#!{python} -ISu
import array, ctypes, json, os, signal, socket, struct, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
stream = socket.socket(socket.AF_UNIX)
stream.connect({address!r})
what = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
files = array.array("i", [0, 1, 2])
stream.sendmsg([struct.pack("=I", len(what))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
stream.sendall(what)
sys.exit((stream.recv(1) or b"\\x01")[0])
"""


@functools.cache
def program():
    """What takes an interpreter's place; its server ends with these tests."""
    folder = Path(tempfile.mkdtemp(prefix="forks-"))
    address, path = str(folder / "socket"), folder / "python"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "HF_HUB_OFFLINE": "1"}
    # Threads are not forked; so there are none.
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment |= {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, __file__, address], env=environment, stdout=subprocess.PIPE
    )
    atexit.register(lambda: (server.kill(), server.wait(), shutil.rmtree(folder)))
    path.write_text(PROGRAM.format(python=sys.executable, address=address))
    path.chmod(0o755)
    assert server.stdout.readline() == b"ready\n"
    return str(path)


def serve(address):
    """Forks for each program, until it is ended."""
    import torch.distributed.run  # noqa: F401
    from transformers import Qwen2ForCausalLM  # noqa: F401

    from ra3_worker import serve  # noqa: F401

    status = Path("/proc/self/status").read_text(encoding="utf-8")
    assert "\nThreads:\t1\n" in status, "a fork has one thread only"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # It ends with these tests, also where they are killed.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    while True:
        stream, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os._exit(run(stream))
        stream.close()


def run(stream):
    """The command line of a program; its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, files, _, _ = socket.recv_fds(stream, 4, 3)
    [n] = struct.unpack("=I", head)
    line, environment, folder = json.loads(stream.recv(n, socket.MSG_WAITALL))
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)

    def watch():
        stream.recv(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    line = line[line.index("-m") + 1 :]
    sys.argv[1:] = line[1:]
    status = 1
    try:
        runpy.run_module(line[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(OSError):
        stream.send(bytes([status & 255]))
    return status


if __name__ == "__main__":
    serve(sys.argv[1])
