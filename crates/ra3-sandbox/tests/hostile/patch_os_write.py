# expect: wrong
import os
os.write = lambda *a: 1
def f(x):
    return 5
