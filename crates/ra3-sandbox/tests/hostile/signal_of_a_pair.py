# expect: wrong
import fcntl
import os
import socket
import struct
def f(x):
    # To have the kernel send a signal to another process.
    one, two = socket.socketpair()
    try:
        fcntl.ioctl(one, 0x8901, struct.pack("i", os.getppid()))
        return 4
    except PermissionError:
        return 0
