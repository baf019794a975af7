# expect: wrong
class Cheat:
    def __del__(self):
        raise SystemExit(0)
def f(x):
    Cheat()
    return 5
