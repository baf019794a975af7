# expect: wrong
import os
import sys
def outgoing():
    frame = sys._getframe()
    while frame:
        if "outgoing" in frame.f_globals:
            return frame.f_globals["outgoing"]
        frame = frame.f_back
def send(mark, content):
    data = len(content).to_bytes(4, "little") + mark + content
    while data:
        data = data[os.write(outgoing(), data):]
def f(x):
    # To read these takes minutes.
    digits = '{"t":"int","v":"%s"}' % ("7" * (1 << 16))
    send(b"v", ('{"t":"list","v":[%s]}' % ",".join([digits] * 12)).encode())
    return 5
