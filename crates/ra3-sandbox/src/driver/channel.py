# What both sides of a run share: the private channel, and values as JSON that says their types.
# The channel is a copy of descriptors 0 and 1, which then lead nowhere. Either way it carries
# frames: four bytes of length, one that says what it is where it goes out, and the content. What
# comes in is in marshal's format. Nothing here knows what is expected.
#
# All of this is defined before the zygote forks, and `main` of the role runs in the fork.
import posix
import sys
from marshal import dumps, loads

try:
    # The json package takes as long to import as the interpreter to start.
    from _json import encode_basestring_ascii as quote
except ImportError:
    from json.encoder import encode_basestring_ascii as quote

DEPTH_MAX = 40
N_ITEMS_MAX = 20_000
# No integer that marshal writes in PLAIN_BYTES has so many.
BITS_MAX = 160_000
PLAIN_BYTES = 20_000
# A frame's content: what is longer is not read.
VALUE_BYTES_MAX = 8 << 20
CHUNK = 4096
BASES = (int, float, complex, str, bytes, list, tuple, set, frozenset, dict)
# How the base's own conversion is called, whatever a class made of it.
CONVERSIONS = {int: "__int__", float: "__float__", str: "__str__", bytes: "__bytes__"}
# What marshal writes for nothing else.
SCALARS = {type(None), bool, int, float, str}
# Digested as they are: no two equal ones differ in type.
PLAIN = {int, str, bytes, type(None)}

write = posix.write


def open_channel():
    """Takes the descriptors; the first request."""
    global incoming, outgoing
    incoming = open(posix.dup(0), "rb")
    outgoing = posix.dup(1)
    null = posix.open("/dev/null", posix.O_RDWR)
    for number in (0, 1, 2):
        posix.dup2(null, number)
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    return receive()


def receive():
    """The next frame's value; None where there are no more."""
    length = incoming.read(4)
    if len(length) < 4:
        return None
    return loads(incoming.read(int.from_bytes(length, "little")))


def send(mark, content):
    data = len(content).to_bytes(4, "little") + mark + content
    n_bytes = write(outgoing, data)
    while n_bytes < len(data):
        data = data[n_bytes:]
        n_bytes = write(outgoing, data)


def text(value):
    return quote(value.encode("utf-8", "backslashreplace").decode())


class Budget:
    def __init__(self):
        self.n_items = N_ITEMS_MAX

    def spend(self, n_items):
        self.n_items -= n_items
        return self.n_items >= 0


def tagged(tag, value):
    return '{"t":"%s","v":%s}' % (tag, value)


def opaque(reason):
    return tagged("opaque", text(reason[:300]))


class TooLarge(Exception):
    pass


def is_plain(value):
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind is dict:
        return is_plain([*value.keys(), *value.values()])
    if kind is list or kind is tuple:
        return SCALARS.issuperset(map(type, value)) or all(map(is_plain, value))
    return False


def send_value(value):
    """What is small and plain goes as the interpreter itself writes it: a tenth of the time."""
    try:
        data = dumps(value, 2)
        if len(data) <= PLAIN_BYTES and len(data) <= N_ITEMS_MAX and is_plain(value):
            return send(b"p", data)
    except (ValueError, RecursionError):
        pass
    send(b"v", encode(value).encode())


def encode(value):
    try:
        encoded = encode_part(value, 0, Budget())
        if len(encoded) <= VALUE_BYTES_MAX:
            return encoded
    except TooLarge:
        pass
    try:
        return tagged("digest", text(digest(value)))
    except Exception:
        return opaque("too large")


def encode_part(value, depth, budget):
    kind = type(value)
    if depth > DEPTH_MAX:
        return opaque("too deep")
    if not budget.spend(1):
        raise TooLarge
    if value is None:
        return '{"t":"none"}'
    if kind is bool:
        return tagged("bool", "true" if value else "false")
    if kind is int:
        if value.bit_length() > BITS_MAX:
            raise TooLarge
        return tagged("int", '"%d"' % value)
    if kind is float:
        return tagged("float", '"%s"' % value.hex())
    if kind is complex:
        return tagged("complex", '["%s","%s"]' % (value.real.hex(), value.imag.hex()))
    if kind is str or kind is bytes:
        return encode_text(value, kind, budget)
    if kind is list or kind is tuple or kind is set or kind is frozenset or kind is dict:
        return encode_items(value, kind, depth + 1, budget)
    return encode_derived(value, kind, depth, budget)


def encode_derived(value, kind, depth, budget):
    """A value of a class that inherits its equality from a built-in type, as that type."""
    base = next((base for base in BASES if base in kind.__mro__), None)
    equality = getattr(sys.modules.get("collections"), kind.__name__, None)
    if base is None or (kind.__eq__ is not base.__eq__ and kind is not equality):
        return opaque(kind.__name__)
    if base is dict:
        value = dict(dict.items(value))
    elif base in (list, tuple, set, frozenset):
        value = base(base.__iter__(value))
    else:
        value = base(value) if base is complex else getattr(base, CONVERSIONS[base])(value)
    if type(value) is not base:
        return opaque(kind.__name__)
    if len(kind.__name__) > 300:
        return opaque(kind.__name__)
    return tagged("derived", "[%s,%s]" % (text(kind.__name__), encode_part(value, depth, budget)))


def encode_text(value, kind, budget):
    if not budget.spend(len(value) // 8):
        raise TooLarge
    if kind is bytes:
        return tagged("bytes", '"%s"' % value.hex())
    try:
        value.encode()
        return tagged("str", quote(value))
    except UnicodeEncodeError:
        return tagged("surrogates", '"%s"' % value.encode("utf-8", "surrogatepass").hex())


def encode_items(value, kind, depth, budget):
    if len(value) > budget.n_items:
        raise TooLarge
    if kind is dict:
        pairs = [
            (encode_part(k, depth, budget), encode_part(v, depth, budget))
            for k, v in value.items()
        ]
        return tagged("dict", "[%s]" % ",".join(["[%s,%s]" % pair for pair in pairs]))
    items = [encode_part(item, depth, budget) for item in value]
    if kind is set or kind is frozenset:
        return tagged("set", "[%s]" % ",".join(sorted(items)))
    return tagged("list" if kind is list else "tuple", "[%s]" % ",".join(items))


def digest(value):
    """Text that is the same for equal values and for no others: what is too large to be sent."""
    from _blake2 import blake2b
    from itertools import chain

    kind, state = type(value), blake2b(digest_size=20)
    if kind is not list and kind is not tuple:
        state.update(dumps(uniform(value), 2))
        length = value.bit_length() if kind is int else len(value)
        name = "set" if kind is frozenset else kind.__name__
        return "%s:%d:%s" % (name, length, state.hexdigest())
    for start in range(0, len(value), CHUNK):
        part = value[start:start + CHUNK]
        kinds = set(map(type, part))
        if len(kinds) == 1 and kinds <= {list, tuple}:
            kinds = set(map(type, chain.from_iterable(part)))
            if kinds == {str}:
                # Millions of lists of text: one long text takes a tenth of the time.
                joined = "\0".join(chain.from_iterable(part))
                lengths = list(map(len, part))
                if joined.count("\0") == sum(lengths) - 1:
                    part = [type(part[0]).__name__, lengths, joined]
                    kinds = PLAIN
        if not kinds <= PLAIN:
            part = integers(part) if kinds <= {int, float, bool} else uniform(part)
        state.update(dumps(part, 2))
    return "%s:%d:%s" % (kind.__name__, len(value), state.hexdigest())


def integers(part):
    """`uniform` of numbers, most of which have no fraction."""
    try:
        found = list(map(int, part))
    except (OverflowError, ValueError):
        return uniform(part)
    return type(part)(found) if found == list(part) else uniform(part)


def uniform(value):
    """An equal value, and the same one for all that are equal: integers where there is a choice."""
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is bool:
        return int(value)
    if kind is float:
        if value != value:
            raise ValueError("equal to nothing")
        return int(value) if value.is_integer() else value
    if kind is list or kind is tuple:
        return kind([uniform(item) for item in value])
    if kind is set or kind is frozenset:
        return ("set", sorted([dumps(uniform(item), 2) for item in value]))
    if kind is dict:
        pairs = [(dumps(uniform(k), 2), dumps(uniform(v), 2)) for k, v in value.items()]
        return ("dict", sorted(pairs))
    raise ValueError("not of a built-in type")


def line_of(error, file):
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def failure(error, file):
    """The fields of an exception."""
    name, message, line = "exception", "", None
    try:
        name = str(type(error).__name__)
        line = line_of(error, file)
        message = str(error)[:300]
    except BaseException:
        pass
    line = line if type(line) is int and 0 < line < 2**31 else "null"
    return '"error":%s,"message":%s,"line":%s' % (text(name), text(message), line)


def send_failure(stage, error, file):
    send(b"r", ('{"stage":"%s",%s}' % (stage, failure(error, file))).encode())
