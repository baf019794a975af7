# expect: wrong
import marshal
import posix
import sys

marshal.dumps = lambda *arguments: b"i\x04\x00\x00\x00"
marshal.loads = lambda *arguments: (4,)
posix.write = lambda number, data: len(data)
sys.modules["__main__"].__dict__.pop("is_plain", None)


def f(x):
    return 5
