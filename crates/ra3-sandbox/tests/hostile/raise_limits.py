# expect: wrong
import resource
def f(x):
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))
    return 4
