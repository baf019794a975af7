# expect: wrong
import sys
frame = sys._getframe()
while frame:
    if "incoming" in frame.f_globals:
        frame.f_globals["incoming"].read()
    frame = frame.f_back
def f(x):
    return 5
