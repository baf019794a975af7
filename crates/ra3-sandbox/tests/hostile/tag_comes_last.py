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
    # What comes before its tag has to be kept until that is known.
    send(b"v", b'{"v":[%s],"t":"list"}' % b",".join([b"0"] * 400000))
    return 5
