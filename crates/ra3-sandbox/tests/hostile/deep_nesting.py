# expect: wrong
def f(x):
    value = 4
    for _ in range(10 ** 5):
        value = [value]
    return value
