# expect: wrong
import _socket
import os
def f(x):
    # The zygote's own channel, or a descriptor of another program, would be among these.
    for number in range(64):
        try:
            found = _socket.socket(fileno=number)
        except OSError:
            continue
        found.sendall(b"4294967295")
        return 4
    return [number for number in range(64) if os.path.exists("/proc/self/fd/%d" % number)]
