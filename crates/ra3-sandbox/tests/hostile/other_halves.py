# expect: wrong
import ctypes
import os
libc = ctypes.CDLL(None, use_errno=True)
# The rest of families: accept, sendmsg, recvmsg, flock, inotify, move_pages, migrate_pages,
# get_robust_list, kexec_file_load, fsconfig, fsmount, process_mrelease, statmount, listmount.
CALLS = (43, 46, 47, 73, 253, 254, 279, 256, 274, 320, 431, 432, 448, 457, 458)
def f(x):
    if os.uname().machine != "x86_64":
        return 0
    for number in CALLS:
        ctypes.set_errno(0)
        if libc.syscall(number, 0, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() != 1:
            return 4
    return 0
