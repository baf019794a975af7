# expect: wrong
import ctypes
import os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    # PTRACE_ATTACH to the parent.
    return 4 if libc.ptrace(16, os.getppid(), 0, 0) == 0 else 0
