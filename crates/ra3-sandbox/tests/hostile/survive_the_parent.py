# expect: timed_out
import ctypes
import time
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    # Not to be killed with its parent, and not to answer.
    libc.prctl(1, 0, 0, 0, 0)
    time.sleep(60)
    return 4
