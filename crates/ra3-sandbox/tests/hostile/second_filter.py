# expect: wrong
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    # A filter of its own can only forbid more: this one would have to allow.
    before = libc.prctl(38, 0, 0, 0, 0)
    return 4 if before == 0 and libc.prctl(39, 0, 0, 0, 0) == 0 else 0
