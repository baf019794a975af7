# expect: wrong
import ctypes
import os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    if os.uname().machine != "x86_64":
        return 0
    for number in range(470, 512):
        ctypes.set_errno(0)
        if libc.syscall(number, 0, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() != 38:
            return 4
    return 0
