# expect: wrong
import fcntl
import os
def f(x):
    # A lease on a library holds up whoever opens it next.
    held = []
    for name in ("/etc/ld.so.cache", os.__file__):
        number = os.open(name, os.O_RDONLY)
        for command, argument in ((fcntl.F_SETLEASE, fcntl.F_RDLCK), (fcntl.F_SETOWN, os.getppid()), (10, 9)):
            try:
                fcntl.fcntl(number, command, argument)
                held.append(command)
            except OSError:
                pass
    return 4 if held else 5
