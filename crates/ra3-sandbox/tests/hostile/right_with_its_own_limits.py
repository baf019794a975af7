# expect: passed
import asyncio
import os
import resource
import signal
import socket
import sys
resource.setrlimit(resource.RLIMIT_STACK, (resource.getrlimit(resource.RLIMIT_STACK)[1],) * 2)
sys.setrecursionlimit(10**6)
os.kill(os.getpid(), 0)
def f(x):
    heard = []
    signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    signal.raise_signal(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    async def later():
        await asyncio.sleep(0)
        return x + len(heard)
    return asyncio.run(later()) + 1
