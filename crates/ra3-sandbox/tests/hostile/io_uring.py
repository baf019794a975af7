# expect: wrong
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    # io_uring_setup has the same number on every architecture.
    ring = libc.syscall(425, 8, ctypes.create_string_buffer(120))
    return 4 if ring >= 0 else 0
