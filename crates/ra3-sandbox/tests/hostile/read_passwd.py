# expect: wrong
def f(x):
    return len(open("/etc/passwd").read()) and 4
