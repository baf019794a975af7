# expect: wrong
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    # A segment that would outlive the process.
    return 4 if libc.shmget(0x2509, 4096, 0o1666) >= 0 else 0
