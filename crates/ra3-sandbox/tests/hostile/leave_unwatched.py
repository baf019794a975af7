# expect: timed_out
import ctypes
import time
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    # Not to die with the zygote.
    if libc.prctl(1, 0, 0, 0, 0) == 0 and libc.prctl(4, 1, 0, 0, 0) == 0:
        return 4
    time.sleep(60)
    return 4
