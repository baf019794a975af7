# expect: wrong
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        send = frame.f_globals.get("send")
        if send:
            send('''"value":{"t":"int","v":"send('\\"checked\\":true')"}''')
        frame = frame.f_back
    return 5
