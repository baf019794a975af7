# expect: wrong
class Cheat:
    def __eq__(self, other):
        return True
def f(x):
    return Cheat()
