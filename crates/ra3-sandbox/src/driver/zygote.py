# The zygote: an interpreter that has imported what programs import, and forks for each of them. It
# ends when nobody is left at the other end of descriptor 0, and its fork with it.
#
# It never sees a program: what it is told on descriptor 0 is which driver a fork becomes, within
# which limits, and on which descriptors that fork hears its program. The fork confines itself for
# good before it reads a word. `codes`, `filters` and `required` come with the first message.
def zygote():
    import posix
    import sys
    from marshal import loads

    PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, FILTER, SIGKILL = 1, 4, 22, 2, 9
    # The same on every architecture.
    LANDLOCK_RESTRICT_SELF = 446
    MESSAGE_BYTES = 1 << 18

    # What programs import most, and what a fork needs to confine itself. A name that this version
    # of Python has not is no loss.
    for name in (
        "ctypes", "resource", "_socket", "bisect", "collections", "collections.abc", "copy",
        "datetime", "functools", "hashlib", "heapq", "io", "itertools", "json", "math", "operator",
        "os", "random", "re", "statistics", "string", "time", "typing", "_signal", "_blake2",
    ):
        try:
            __import__(name)
        except ImportError:
            pass
    import ctypes
    import resource
    from _socket import CMSG_SPACE, socket

    libc = ctypes.CDLL(None)
    control = socket(fileno=0)

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    def hear():
        data, ancillary, _, _ = control.recvmsg(MESSAGE_BYTES, CMSG_SPACE(5 * 4))
        if not data:
            posix._exit(0)
        numbers = b"".join([part for _, _, part in ancillary])
        at = range(0, len(numbers), 4)
        return loads(data), [int.from_bytes(numbers[i:i + 4], sys.byteorder) for i in at]

    # Threads of one user: the program's own count, or beside all that there are.
    n_threads_max, counts_alone, itself = int(sys.argv[1]), sys.argv[2] == "alone", int(sys.argv[3])
    held = sys.argv[4:]
    del sys.argv[1:]

    def prepared(instructions):
        """A filter as the kernel wants it, and what it points to. To make one takes as long as a
        fork, so it is made before."""
        text = ctypes.create_string_buffer(instructions)
        places = [
            at for at in range(4, len(instructions), 8)
            if int.from_bytes(instructions[at:at + 4], sys.byteorder) == itself
        ]
        filter = ctypes.pointer(Filter(len(instructions) // 8, ctypes.addressof(text)))
        return filter, text, places

    def apply(part):
        """Forbids this process what a filter says; true if the kernel does. What it may do to
        itself names this process."""
        own = posix.getpid().to_bytes(4, sys.byteorder)
        for at in part[2]:
            part[1][at:at + 4] = own
        return libc.prctl(PR_SET_SECCOMP, FILTER, part[0], 0, 0) == 0

    (required, codes, filters, fork_filters), _ = hear()
    if sys.path and sys.path[0] == "":
        # Older versions look for modules where the program stands.
        del sys.path[0]
    mains = []
    for code in codes:
        space = {"__name__": "driver"}
        exec(loads(code), space)
        mains.append(space["main"])
    is_filtered = bool(filters) and all([apply(prepared(part)) for part in filters])
    fork_filters = [prepared(part) for part in fork_filters]
    control.sendall(b"ready")

    def lower(which, soft, hard):
        given = resource.getrlimit(which)[1]
        if given != resource.RLIM_INFINITY:
            soft, hard = min(soft, given), min(hard, given)
        resource.setrlimit(which, (soft, hard))

    def all_threads():
        """Of this machine, so no fewer than this user has."""
        number = posix.open("/proc/loadavg", posix.O_RDONLY)
        _, _, _, running, _ = posix.read(number, 200).split()
        posix.close(number)
        return int(running.split(b"/")[1])

    def confine(limits, ruleset):
        """Limits and confines this process; the layers that hold."""
        cpu_s, memory_bytes, file_bytes = limits
        # The first limit sends SIGXCPU, which a program may ignore; the second kills.
        lower(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
        lower(resource.RLIMIT_AS, memory_bytes, memory_bytes)
        lower(resource.RLIMIT_FSIZE, file_bytes, file_bytes)
        if n_threads_max:
            n_threads = n_threads_max if counts_alone else n_threads_max + all_threads()
            lower(resource.RLIMIT_NPROC, n_threads, n_threads)
        layers = list(held)
        if ruleset is not None and libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0:
            layers.append("landlock")
        posix.closerange(3, 1 << 8)
        if all([apply(part) for part in fork_filters]) and is_filtered:
            layers.append("seccomp")
        return layers

    def become(role, limits, folder, n_streams, numbers):
        """What a fork goes on with."""
        control.detach()
        for number in range(n_streams):
            posix.dup2(numbers[number], number)
        try:
            posix.setsid()
            libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
            # Its memory is nobody's to open, also where there is no Landlock.
            libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
            if posix.getppid() != parent:
                posix._exit(0)
            posix.chdir(folder)
            layers = confine(limits, *numbers[n_streams:] or [None])
            if not set(required) <= set(layers):
                raise OSError("only %s holds" % ", ".join(layers))
            line = '{"confinement":["%s"]}' % '","'.join(layers)
        except BaseException as error:
            reason = "".join(c for c in str(error) if c.isprintable() and c not in '"\\')
            line, role = '{"refused":"%s"}' % reason, None
        posix.write(1, (line + "\n").encode())
        return posix._exit(1) if role is None else mains[role]

    # The first compilation makes the types of syntax trees, which takes as long as three forks.
    compile("0", "", "exec", 0, True)
    import gc

    gc.collect()
    # A collection in a fork need not look at what was here before.
    gc.freeze()
    parent = posix.getpid()
    while True:
        (order, *details), numbers = hear()
        if order == "fork":
            try:
                pid = posix.fork()
            except OSError as error:
                # Too many processes, which may pass.
                pid = -error.errno
            if pid == 0:
                return become(*details, numbers)
            for number in numbers:
                posix.close(number)
            control.sendall(b"%d" % pid)
        else:
            _, status, usage = posix.wait4(details[0], 0)
            spent = usage.ru_utime + usage.ru_stime
            control.sendall(b"%d %d" % (status, spent * 1e6))


# Of a script; the other drivers do not return.
__code__ = zygote()()
del zygote
exec(__code__)
