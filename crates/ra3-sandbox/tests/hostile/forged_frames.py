# expect: wrong
import os
def f(x):
    # Lengths that no frame has, marks that mean nothing, values that are none.
    for number in range(3, 32):
        for frame in (b"\xff\xff\xff\xff", b"\x01\0\0\0z!", b"\x02\0\0\0p[[", b"\x01\0\0\0v{", b"\0\0\0\0f"):
            try:
                os.write(number, frame)
            except OSError:
                break
    return 5
