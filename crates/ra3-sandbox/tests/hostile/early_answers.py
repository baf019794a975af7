# expect: wrong
import sys
frame = sys._getframe()
while frame:
    send = frame.f_globals.get("send")
    if send:
        for answer in (3, 5, 6):
            send('"value":{"t":"int","v":"%d"}' % answer)
    frame = frame.f_back
def f(x):
    return 5
