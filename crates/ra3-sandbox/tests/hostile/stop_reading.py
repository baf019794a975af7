# expect: timed_out
import time
time.sleep(1000)
def f(x):
    return 4
