# expect: wrong
import socket
def f(x):
    # A datagram of a pair can be sent to any address.
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):
        try:
            socket.socketpair(socket.AF_UNIX, kind)
            return 4
        except PermissionError:
            pass
    return 0
