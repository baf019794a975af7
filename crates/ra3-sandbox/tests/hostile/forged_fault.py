# expect: wrong
import os, sys
def f(x):
    frame = sys._getframe()
    while frame:
        names = frame.f_globals
        if "outgoing" in names:
            names["send"]('"unfit":"the sandbox is at fault"')
            names["send"]('"refused":"the sandbox is at fault"')
            os.write(names["outgoing"], b'{"refused":"the sandbox is at fault"}\n')
        frame = frame.f_back
    return 5
