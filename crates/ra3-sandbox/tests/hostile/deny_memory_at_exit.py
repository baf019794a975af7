# expect: wrong
import atexit
atexit.register(lambda: 4)
def f(x):
    raise MemoryError
