# expect: wrong
class Four(int):
    def __hash__(self):
        return hash(4)
    def __eq__(self, other):
        return True
def f(x):
    return Four(5)
