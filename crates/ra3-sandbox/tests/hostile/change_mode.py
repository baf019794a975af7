# expect: wrong
import os, sys
def f(x):
    os.chmod(sys.executable, os.stat(sys.executable).st_mode & 0o7777)
    return 4
