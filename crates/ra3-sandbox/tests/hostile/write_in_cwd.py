# expect: wrong
def f(x):
    open("escaped", "w").write("x")
    return 4
