# expect: wrong
import ctypes
def f(x):
    return 4 if ctypes.CDLL(None).syscall(0x40000000 + 41, 2, 1, 0) >= 0 else 5
