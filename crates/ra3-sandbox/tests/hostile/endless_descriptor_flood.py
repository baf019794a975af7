# expect: output_limit
import os
def f(x):
    while True:
        for number in range(3, 32):
            try:
                os.write(number, b"x" * 60000)
            except OSError:
                pass
