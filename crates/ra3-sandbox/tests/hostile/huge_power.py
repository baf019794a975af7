# expect: timed_out
def f(x):
    return len(str(7 ** 7 ** 9))
