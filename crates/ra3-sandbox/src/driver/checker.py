

# The checker: runs assert-style tests in a process of their own. The candidate is elsewhere; here
# stands a function that asks the parent for its value, so objects of the candidate's own making
# never meet an assert.
import builtins


def unfit(reason):
    send('"unfit":' + text(reason))
    posix._exit(0)


def candidate(*arguments, **names):
    send('"ask":' + encode((arguments, names)))
    reply = receive()
    if "value" in reply:
        return eval(reply["value"], {})
    if "opaque" in reply:
        raise AssertionError("it returned a value of type %s" % reply["opaque"])
    kind = getattr(builtins, reply["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    try:
        raised = kind(reply["message"])
    except TypeError:
        raised = RuntimeError(reply["message"])
    raise raised


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
    send('"checked":true')
except BaseException as error:
    line = line_of(error, "test.py")
    lines = request["test"].splitlines()
    source = lines[line - 1].strip() if line is not None and line <= len(lines) else ""
    send('"stage":"check",%s,"source":%s' % (failure(error, "test.py"), text(source[:300])))
posix._exit(0)
