# expect: wrong
import os
import resource
def f(x):
    try:
        resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))
        return 4
    except PermissionError:
        return 0
