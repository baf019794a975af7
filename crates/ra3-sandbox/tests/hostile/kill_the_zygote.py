# expect: wrong
import ctypes
import os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    # Whoever forked this process would be missed by the next program.
    zygote = os.getppid()
    if libc.kill(zygote, 9) == 0 or libc.syscall(62, zygote, 19) == 0:
        return 4
    return libc.kill(zygote, 0)
