

# The candidate: loads one program and calls its function, first on the inputs of the request,
# then on those that arrive, until there are no more.
class TimeoutException(Exception):
    pass


def watch(limits):
    """Interrupts calls where Python can be interrupted, after so many seconds of their own time or
    thrice as many on the clock: one limit a call, the last one for all that follow. Timers that
    tick cost a call nothing; a call has up to one tick more than its limit."""
    import _signal
    from time import monotonic, process_time

    def on_tick(number, frame):
        index = running[0]
        if index < 0:
            return
        if index != seen[0]:
            seen[:] = index, process_time(), monotonic()
            return
        seconds = limits[min(index, len(limits) - 1)]
        # What used up its own time would use it up again; what the clock ended may have had to wait.
        if process_time() - seen[1] >= seconds:
            raise TimeoutException("the call used up its time")
        if monotonic() - seen[2] >= 3 * seconds:
            slept = process_time() - seen[1] < 0.1 * (monotonic() - seen[2])
            raise TimeoutException("the call slept" if slept else "the call was late")

    seen = [-1, 0.0, 0.0]
    tick = min(0.05, min(limits) / 10)
    _signal.signal(_signal.SIGPROF, on_tick)
    _signal.signal(_signal.SIGALRM, on_tick)
    _signal.setitimer(_signal.ITIMER_PROF, tick, tick)
    _signal.setitimer(_signal.ITIMER_REAL, 5 * tick, 5 * tick)


def answer(index, candidate, arguments, convert):
    try:
        running[0] = index
        value = candidate(*arguments)
        running[0] = -1
        if convert is not None:
            value = convert(value)
        send_value(value)
    except BaseException as error:
        running[0] = -1
        send_failure("call", error, "program.py")


def load(source, entry_point):
    program = type(sys)("program")
    sys.modules["program"] = program
    try:
        exec(compile(source, "program.py", "exec", 0, True), program.__dict__)
        return program.__dict__[entry_point]
    except BaseException as error:
        send_failure("load", error, "program.py")
        posix._exit(0)


def main():
    global N_ITEMS_MAX, BITS_MAX
    request = open_channel()
    if request["items_max"] is not None:
        N_ITEMS_MAX = request["items_max"]
    convert = request["convert"]
    if convert is not None:
        convert = eval(convert, {})
    candidate = load(request["source"], request["entry_point"])
    if request["call_s"]:
        watch(request["call_s"])
    for index, arguments in enumerate(request["inputs"]):
        answer(index, candidate, loads(arguments), convert)
    # What a test looks at is sent whole: it has no use for digests.
    N_ITEMS_MAX, BITS_MAX = 1 << 20, 1 << 20
    while True:
        question = receive()
        if question is None:
            break
        arguments, names = question
        try:
            send_value(candidate(*arguments, **names))
        except BaseException as error:
            send_failure("call", error, "program.py")
    send(b"f", b"")
    posix._exit(0)


# The call that runs; none is -1.
running = [-1]
