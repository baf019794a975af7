# expect: wrong
def f(x):
    held = []
    while True:
        held.append(bytearray(10 ** 8))
