# expect: wrong
class Cheat(list):
    def __len__(self):
        return 10 ** 18
    def __iter__(self):
        return iter(int, 1)
def f(x):
    return [Cheat(), Cheat()]
