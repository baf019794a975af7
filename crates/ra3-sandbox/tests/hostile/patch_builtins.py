# expect: wrong
import builtins
builtins.type = lambda *a: int
builtins.str = lambda *a: "4"
def f(x):
    return 5
