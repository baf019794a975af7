# expect: wrong
import os
def f(x):
    return len(open(f"/proc/{os.getppid()}/environ").read()) and 4
