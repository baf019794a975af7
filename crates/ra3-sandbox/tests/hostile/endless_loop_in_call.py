# expect: timed_out
def f(x):
    while True:
        pass
