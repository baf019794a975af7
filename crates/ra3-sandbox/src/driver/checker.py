

# The checker: runs assert-style tests in a process of their own. The candidate is elsewhere; here
# stands a function that asks the parent for its value, so objects of the candidate's own making
# never meet an assert.
import builtins


def unfit(reason):
    send(b"u", text(reason).encode())
    posix._exit(0)


def candidate(*arguments, **names):
    send(b"a", encode((arguments, names)).encode())
    reply = receive()
    if reply is None:
        posix._exit(0)
    what, *details = reply
    if what == "value":
        return details[0]
    if what == "opaque":
        raise AssertionError("it returned a value of type %s" % details[0])
    kind, message = getattr(builtins, details[0], None), details[1]
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    if issubclass(kind, (StopIteration, StopAsyncIteration)):
        # In a loop over `map(candidate, ...)` it would end the loop, and with it the test.
        kind = RuntimeError
    try:
        raised = kind(message)
    except TypeError:
        raised = RuntimeError(message)
    raise raised


def main():
    request = open_channel()
    space = {"__name__": "test"}
    try:
        exec(compile(request["prelude"], "prelude.py", "exec", 0, True), space)
        space[request["entry_point"]] = candidate
        exec(compile(request["test"], "test.py", "exec", 0, True), space)
        check = space["check"]
    except BaseException as error:
        unfit("the test cannot be loaded: %s: %s" % (type(error).__name__, error))
    try:
        check(candidate)
        send(b"c", b"")
    except BaseException as error:
        line = line_of(error, "test.py")
        lines = request["test"].splitlines()
        source = lines[line - 1].strip() if line is not None and line <= len(lines) else ""
        fields = failure(error, "test.py"), text(source[:300])
        send(b"r", ('{"stage":"check",%s,"source":%s}' % fields).encode())
    posix._exit(0)
