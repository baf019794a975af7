# Takes the asserts of an MBPP task apart: what the program computes, and what this process alone
# knows. Runs in the sandbox, on the benchmark's records: no model wrote this input.
import ast
import math
import sys


def comparison(statement, space):
    """The expression to compute, how to compare, what with, and a tolerance."""
    test = statement.test
    if isinstance(test, ast.Compare):
        (operator,), (expected,) = test.ops, test.comparators
        if isinstance(operator, ast.Eq):
            return ast.unparse(test.left), "equal", value_of(expected, space), 0.0
    if isinstance(test, ast.Call) and ast.unparse(test.func) == "math.isclose":
        computed, expected = test.args
        (tolerance,) = [keyword.value for keyword in test.keywords if keyword.arg == "rel_tol"]
        tolerance = float(value_of(tolerance, space))
        return ast.unparse(computed), "close", value_of(expected, space), tolerance
    return "not not (%s)" % ast.unparse(test), "equal", True, 0.0


def value_of(node, space):
    return eval(compile(ast.Expression(node), "test.py", "eval"), space)


def split(asserts):
    """A list of comparisons, one an assert."""
    # One task compares with `sys.getsizeof`, and leaves the import to the program.
    space = {"math": math, "sys": sys}
    found = []
    for text in asserts:
        (statement,) = ast.parse(text.strip()).body
        if not isinstance(statement, ast.Assert):
            raise ValueError("no assert: " + text)
        found.append(comparison(statement, space))
    return found
