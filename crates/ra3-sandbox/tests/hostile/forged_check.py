# expect: wrong
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        send = frame.f_globals.get("send")
        if send:
            send('"checked":true')
            send('"ask":{"t":"tuple","v":[]}')
        frame = frame.f_back
    return 5
