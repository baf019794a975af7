# expect: wrong
import os
def f(x):
    for name in ("/proc/self/mem", "/proc/%d/mem" % os.getppid(), "/proc/self/maps"):
        try:
            open(name, "rb").close()
            return 4
        except OSError:
            pass
