# expect: wrong
import socket
def f(x):
    socket.socket()
    return 4
