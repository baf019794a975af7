# expect: wrong
import os
import sys
def f(x):
    # Many small values, each in a frame that nobody asked for.
    frame = sys._getframe()
    while "outgoing" not in frame.f_globals:
        frame = frame.f_back
    content = b'{"t":"int","v":"5"}'
    one = len(content).to_bytes(4, "little") + b"v" + content
    while True:
        os.write(frame.f_globals["outgoing"], one * 1000)
