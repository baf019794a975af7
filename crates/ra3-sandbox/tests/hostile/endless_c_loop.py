# expect: timed_out
import itertools
def f(x):
    return sum(1 for _ in itertools.product(range(100), repeat=9))
