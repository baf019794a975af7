# expect: timed_out
import signal, time
def f(x):
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass
