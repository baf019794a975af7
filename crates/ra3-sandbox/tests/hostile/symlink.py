# expect: wrong
import os
def f(x):
    os.symlink("/etc/passwd", "/tmp/escaped-from-the-sandbox")
    return 4
