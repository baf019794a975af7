# expect: wrong
import ctypes
def f(x):
    return ctypes.CDLL(None).fork() and 5
