# expect: wrong
import ctypes
import os
libc = ctypes.CDLL(None, use_errno=True)
# By their numbers, on this architecture: shmctl, shmdt, semop, semctl, msgsnd, msgrcv, msgctl,
# semtimedop, mq_unlink, mq_timedsend, mq_timedreceive, mq_notify, mq_getsetattr.
CALLS = (31, 67, 65, 66, 69, 70, 71, 220, 241, 242, 243, 244, 245)
def f(x):
    if os.uname().machine != "x86_64":
        return 0
    # Objects have numbers that can be guessed, and no call of `get` is needed.
    buffer = ctypes.create_string_buffer(512)
    for number in CALLS:
        for at in range(4):
            ctypes.set_errno(0)
            if libc.syscall(number, at, buffer, 64, 0, 0o4000) >= 0 or ctypes.get_errno() != 1:
                return 4
    return 0
