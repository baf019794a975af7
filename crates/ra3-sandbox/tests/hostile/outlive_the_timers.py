# expect: timed_out
import signal
def f(x):
    # Without the driver's timers there are still the kernel's limits.
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True:
        pass
