# expect: wrong
class Values(list):
    def __iter__(self):
        return iter([4])
    def __len__(self):
        return 1
def f(x):
    return Values([5])
