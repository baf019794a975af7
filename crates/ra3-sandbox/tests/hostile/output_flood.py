# expect: wrong
def f(x):
    for _ in range(1000):
        print("a" * 10 ** 5)
    return 5
