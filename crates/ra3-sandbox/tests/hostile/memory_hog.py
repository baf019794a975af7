# expect: wrong
def f(x):
    return len(bytearray(10 ** 11))
