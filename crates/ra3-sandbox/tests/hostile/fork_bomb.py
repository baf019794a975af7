# expect: wrong
import os
def f(x):
    while True:
        os.fork()
