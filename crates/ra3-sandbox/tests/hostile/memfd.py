# expect: wrong
import os
def f(x):
    handle = os.memfd_create("hidden")
    os.write(handle, b"x" * 1000)
    return 4
