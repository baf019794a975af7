# expect: wrong
def f(x):
    return float("nan")
