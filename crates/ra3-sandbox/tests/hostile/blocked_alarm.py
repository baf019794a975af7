# expect: timed_out
import signal, threading
def f(x):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Event().wait()
