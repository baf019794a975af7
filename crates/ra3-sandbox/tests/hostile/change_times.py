# expect: wrong
import os
def f(x):
    seen = os.stat(os.__file__)
    os.utime(os.__file__, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    return 4
