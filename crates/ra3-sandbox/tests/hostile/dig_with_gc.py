# expect: wrong
import gc
def f(x):
    # Whatever is expected is not in this process.
    for found in gc.get_objects():
        if isinstance(found, dict) and "expected" in found:
            return found["expected"]
        if isinstance(found, tuple) and len(found) == 2 and found[0] == (1,):
            return found[1]
