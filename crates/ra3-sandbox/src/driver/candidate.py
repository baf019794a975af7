

# The candidate: loads one program and calls its function, first on the inputs of the request,
# then on those that arrive, until there are no more.
def answer(arguments):
    try:
        send('"value":' + encode(candidate(*eval(arguments, {}))))
    except BaseException as error:
        send('"stage":"call",' + failure(error, "program.py"))


program = type(sys)("program")
sys.modules["program"] = program
try:
    exec(compile(request["source"], "program.py", "exec", 0, True), program.__dict__)
    candidate = program.__dict__[request["entry_point"]]
except BaseException as error:
    send('"stage":"load",' + failure(error, "program.py"))
    os._exit(0)
for arguments in request["inputs"]:
    answer(arguments)
for arguments in incoming:
    answer(arguments)
send('"finished":true')
os._exit(0)
