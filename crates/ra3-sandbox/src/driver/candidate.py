

# The candidate: loads one program and calls its function, first on the inputs of the request,
# then on those that arrive, until there are no more.
class TimeoutException(Exception):
    pass


# What used up its own time would use it up again; what the clock ended may have had to wait.
def on_used_up(number, frame):
    raise TimeoutException("the call used up its time")


def on_late(number, frame):
    raise TimeoutException("the call was late")


def calls_within(limits):
    """A function that calls the candidate and interrupts it where Python can be interrupted:
    after so many seconds of its own time, or thrice as many on the clock. One limit a call, the
    last one for all that follow."""
    import _signal

    _signal.signal(_signal.SIGPROF, on_used_up)
    _signal.signal(_signal.SIGALRM, on_late)
    set_timer, cpu, clock = _signal.setitimer, _signal.ITIMER_PROF, _signal.ITIMER_REAL

    limits.reverse()

    def call(arguments):
        seconds = limits.pop() if len(limits) > 1 else limits[0]
        try:
            set_timer(cpu, seconds)
            set_timer(clock, 3 * seconds)
            return candidate(*arguments)
        finally:
            set_timer(cpu, 0)
            set_timer(clock, 0)

    return call


def answer(arguments, call):
    try:
        send(encode_result(convert(call(arguments))))
    except BaseException as error:
        send('"stage":"call",' + failure(error, "program.py"))


def call(arguments):
    return candidate(*arguments)


def ask(question):
    arguments, names = question
    return candidate(*arguments, **names)


def convert(value):
    return value


if request["call_s"]:
    call = calls_within(request["call_s"])
if request["items_max"] is not None:
    N_ITEMS_MAX = request["items_max"]
if request["convert"] is not None:
    convert = eval(request["convert"], {})
program = type(sys)("program")
sys.modules["program"] = program
try:
    exec(compile(request["source"], "program.py", "exec", 0, True), program.__dict__)
    candidate = program.__dict__[request["entry_point"]]
except BaseException as error:
    send('"stage":"load",' + failure(error, "program.py"))
    posix._exit(0)
for arguments in request["inputs"]:
    answer(loads(bytes.fromhex(arguments)), call)
# What a test looks at is sent whole: it has no use for digests.
N_ITEMS_MAX, BITS_MAX = 1 << 20, 1 << 20
for arguments in incoming:
    answer(eval(arguments, {}), ask)
send('"finished":true')
posix._exit(0)
