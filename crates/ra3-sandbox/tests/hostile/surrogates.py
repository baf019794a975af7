# expect: wrong
def f(x):
    return "\udc80\ud800"
