# Runs one program. The request comes on descriptor 0, results go to a private copy of
# descriptor 1, one JSON object a line, each with the nonce of the request. Nothing here knows
# what is expected.
import json, os, sys

request = json.loads(sys.stdin.buffer.read())
channel = os.dup(1)
null = os.open("/dev/null", os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(null, number)
nonce = request["nonce"]


def send(message, dumps=json.dumps, write=os.write, channel=channel, nonce=nonce):
    message["nonce"] = nonce
    data = dumps(message).encode("utf-8", "backslashreplace") + b"\n"
    while data:
        data = data[write(channel, data):]


def encode(value, depth=0, budget=None):
    budget = [200_000] if budget is None else budget
    budget[0] -= 1
    kind = type(value)
    if budget[0] < 0 or depth > 64:
        return {"t": "opaque", "v": "too large"}
    if value is None:
        return {"t": "none"}
    if kind is bool:
        return {"t": "bool", "v": value}
    if kind is int:
        if value.bit_length() > 100_000:
            return {"t": "opaque", "v": "too large"}
        return {"t": "int", "v": str(value)}
    if kind is float:
        return {"t": "float", "v": value.hex()}
    if kind is str:
        budget[0] -= len(value) // 16
        return {"t": "str", "v": value.encode("utf-8", "backslashreplace").decode()}
    if kind is bytes:
        budget[0] -= len(value) // 8
        return {"t": "bytes", "v": value.hex()}
    if kind is list or kind is tuple:
        name = "list" if kind is list else "tuple"
        return {"t": name, "v": [encode(item, depth + 1, budget) for item in value]}
    if kind is set or kind is frozenset:
        items = [encode(item, depth + 1, budget) for item in value]
        return {"t": "set", "v": sorted(items, key=json.dumps)}
    if kind is dict:
        pairs = value.items()
        return {"t": "dict", "v": [[encode(k, depth + 1, budget), encode(v, depth + 1, budget)] for k, v in pairs]}
    return {"t": "opaque", "v": kind.__name__}


def failure(error):
    name = type(error).__name__
    try:
        text = str(error)[:300]
    except BaseException:
        text = ""
    return {"error": str(name), "message": text}


if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)
send({"confinement": request["confinement"]})
space = {"__name__": "program"}
try:
    exec(compile(request["source"], "program.py", "exec"), space)
    candidate = space[request["entry_point"]] if request["entry_point"] else None
except BaseException as error:
    send({"stage": "load", **failure(error)})
    os._exit(0)
for index, arguments in enumerate(request["inputs"]):
    try:
        send({"call": index, "value": encode(candidate(*eval(arguments, {})))})
    except BaseException as error:
        send({"call": index, **failure(error)})
if request["check"] is not None:
    try:
        exec(compile(request["check"], "check.py", "exec"), space)
        send({"checked": True})
    except BaseException as error:
        send({"stage": "check", **failure(error)})
send({"finished": True})
os._exit(0)
