# expect: wrong
def f(x):
    open("/tmp/escaped-from-the-sandbox", "w").write("x")
    return 4
