# expect: wrong
import builtins
import os
import sys
def f(x):
    # What a fork of this process would find; there is none, and the next program has another parent.
    os.register_at_fork(after_in_child=lambda: os._exit(0))
    builtins.compile = lambda *arguments: None
    sys.setswitchinterval(100)
    sys.modules["marshal"] = None
    return 5
