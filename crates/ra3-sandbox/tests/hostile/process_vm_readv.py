# expect: wrong
import ctypes
import os
libc = ctypes.CDLL(None, use_errno=True)
class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
def f(x):
    buffer = ctypes.create_string_buffer(8)
    own, other = Part(ctypes.addressof(buffer), 8), Part(0x400000, 8)
    n = libc.process_vm_readv(os.getppid(), ctypes.byref(own), 1, ctypes.byref(other), 1, 0)
    return 4 if n > 0 else 0
