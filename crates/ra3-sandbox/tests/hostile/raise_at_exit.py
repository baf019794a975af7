# expect: died
import atexit
import os
def leave():
    raise SystemExit(0)
atexit.register(leave)
class Late:
    def __del__(self):
        os._exit(0)
def f(x):
    del [Late()][0]
    return 4
