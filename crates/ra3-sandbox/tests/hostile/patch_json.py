# expect: wrong
import json
json.dumps = lambda *a, **k: "{}"
def f(x):
    return 5
