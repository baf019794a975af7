# expect: wrong
class Cheat:
    def __reduce__(self):
        return int, (4,)
def f(x):
    return Cheat()
