# A whole program, as `python program.py arguments` runs it. What it is comes first on descriptor 0,
# after 16 digits that say how long that is; what follows is its input. What it writes is its own.
import builtins
import posix
import sys
from _sitebuiltins import Quitter
from marshal import loads


def read(n_bytes):
    parts = []
    while n_bytes:
        part = posix.read(0, n_bytes)
        if not part:
            posix._exit(1)
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def main():
    """The program's code."""
    *arguments, source = loads(read(int(read(16))))
    # What `site` would have brought.
    builtins.exit, builtins.quit = Quitter("exit", "Ctrl-D"), Quitter("quit", "Ctrl-D")
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    sys.argv[:] = ["program.py", *arguments]
    return compile(source, "program.py", "exec", 0, True)
