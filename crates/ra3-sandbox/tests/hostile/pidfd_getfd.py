# expect: wrong
import ctypes
import os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    handle = libc.syscall(434, os.getppid(), 0)
    stolen = libc.syscall(438, handle, 1, 0) if handle >= 0 else -1
    return 4 if handle >= 0 or stolen >= 0 else 0
