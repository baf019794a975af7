# expect: passed
import threading
def f(x):
    found = []
    thread = threading.Thread(target=lambda: found.append(x + 3))
    thread.start()
    thread.join()
    return found[0]
