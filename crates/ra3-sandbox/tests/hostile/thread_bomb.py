# expect: wrong
import threading, time
def f(x):
    while True:
        threading.Thread(target=time.sleep, args=(100,)).start()
