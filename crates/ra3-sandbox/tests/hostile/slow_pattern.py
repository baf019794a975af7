# expect: timed_out
import re
def f(x):
    return 4 if re.match("(a+)+b", "a" * 60) is None else 0
