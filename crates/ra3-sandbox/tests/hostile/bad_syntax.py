# expect: load_error
def f(x:
