# expect: wrong
import os
import sys
def f(x):
    # The head of a value of 4 GiB, and nothing of it.
    frame = sys._getframe()
    while "outgoing" not in frame.f_globals:
        frame = frame.f_back
    os.write(frame.f_globals["outgoing"], b"\xff\xff\xff\xffv")
    while True:
        pass
