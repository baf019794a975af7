# Runs a program that reads standard input as LiveCodeBench's grader does: the program becomes a
# function, which is called once for each test in this one interpreter, with a stand-in for standard
# input that knows less than the real one.
import ast
import builtins
import io
import sys
from _sitebuiltins import Quitter
from unittest.mock import mock_open, patch


class Bytes:
    def __init__(self, text):
        self.bytes = text.encode()

    def read(self, *_):
        return self.bytes

    def readline(self, *_):
        # Always the first.
        return self.bytes.split(b"\n")[0] + b"\n"


class Input:
    def __init__(self, text):
        self.text, self.lines, self.buffer = text, io.StringIO(text), Bytes(text)

    def read(self, *_):
        return self.text

    def readline(self, *arguments):
        return self.lines.readline(*arguments)

    def readlines(self, *_):
        return self.text.split("\n")

    def __getattr__(self, name):
        # Not asked for `__iter__`: `for line in sys.stdin` fails there too.
        return getattr(self.lines, name)


def without_guard(program):
    """The body of a last `if __name__ == '__main__'` in its place."""
    try:
        *body, last = ast.parse(program).body
        if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
            return ast.unparse(body) + "\n" + ast.unparse(last.body)
    except Exception:
        pass
    return program


def as_function(program):
    try:
        body = ast.parse(program).body
        imports = [line for line in body if isinstance(line, (ast.Import, ast.ImportFrom))]
        others = [line for line in body if not isinstance(line, (ast.Import, ast.ImportFrom))]
        function = ast.parse("def wrapped_function(): pass").body[0]
        function.body = others
        return "%s\n%s\n%s" % (PREAMBLE, ast.unparse(imports), ast.unparse(function))
    except Exception:
        return program


def case(text):
    printed, sys.stdout = sys.stdout, io.StringIO()
    sys.stdout.close = lambda _: 1
    try:
        with patch("builtins.open", mock_open(read_data=text)), patch("sys.stdin", Input(text)):
            program.wrapped_function()
    except SystemExit:
        pass
    finally:
        printed, sys.stdout = sys.stdout, printed
    return printed.getvalue()


builtins.exit = Quitter("exit", "Ctrl-D")
if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(50000)
exec(GUARD, {})
program = type(sys)("tmp_sol")
exec(as_function(without_guard(PROGRAM)), program.__dict__)
if "class Solution" in PROGRAM:
    # Taken for a class with a method, which is inside the function now.
    program = program.Solution()
program.wrapped_function
