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
    # Deeper than whoever reads it can go.
    send(b"p", b"{" * 19999)
    send(b"p", b"[\1\0\0\0" * 3999)
    return 5
