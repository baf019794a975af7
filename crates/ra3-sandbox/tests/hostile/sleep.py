# expect: timed_out
import time
def f(x):
    time.sleep(1000)
