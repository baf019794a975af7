# expect: wrong
import os
def f(x):
    found = 0
    for number in (1, 0, -1, os.getppid(), os.getpid() + (1 << 32)):
        try:
            os.kill(number, 0)
            found = 4
        except (PermissionError, OverflowError):
            pass
    return found
