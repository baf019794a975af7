# expect: wrong
import os
def f(x):
    os.setgroups([0])
    return 4
