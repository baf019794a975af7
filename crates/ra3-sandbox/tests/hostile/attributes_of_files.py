# expect: wrong
import array
import ctypes
import fcntl
import os
libc = ctypes.CDLL(None, use_errno=True)
class Arguments(ctypes.Structure):
    _fields_ = [("value", ctypes.c_uint64), ("size", ctypes.c_uint32), ("flags", ctypes.c_uint32)]
def f(x):
    # Modes and marks of files by calls that are younger than most filters.
    value = ctypes.create_string_buffer(b"1")
    arguments = Arguments(ctypes.addressof(value), 1, 0)
    path = os.__file__.encode()
    done = libc.syscall(463, -100, path, 0, b"user.left", ctypes.byref(arguments), 16) == 0
    try:
        number = os.open(path, os.O_RDONLY)
        flags = array.array("l", [0])
        fcntl.ioctl(number, 0x80086601, flags)
        fcntl.ioctl(number, 0x40086602, flags)
        done = True
    except OSError:
        pass
    return 4 if done else 5
