# expect: wrong
import os
def f(x):
    os.setpgid(0, 0)
    os.setsid()
    return 4
