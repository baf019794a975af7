# expect: wrong
import os
def f(x):
    for number in range(3, 32):
        try:
            os.write(number, b"junk\n" * 1000)
        except OSError:
            pass
    return 5
