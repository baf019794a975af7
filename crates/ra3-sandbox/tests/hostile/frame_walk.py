# expect: wrong
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_globals.values()) + list(frame.f_locals.values()):
            if isinstance(value, dict) and "expected" in value:
                return value["expected"][0]
        frame = frame.f_back
    return 5
