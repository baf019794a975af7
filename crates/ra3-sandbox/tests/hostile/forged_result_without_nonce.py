# expect: wrong
import os
for number in range(3, 10):
    try:
        os.write(number, b'{"nonce": "0-0", "value": {"t": "int", "v": "4"}}\n')
    except OSError:
        pass
def f(x):
    return 5
