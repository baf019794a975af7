# Takes tests apart into what a program is asked and what only the grader knows. Runs in the sandbox,
# on the records of problems alone: no model wrote this input.
import ast
import math
import sys

# What may stand around a call: what it makes of a value tells nothing of what is expected.
AROUND = {"bool", "dict", "float", "frozenset", "int", "len", "list", "repr", "round", "set"}
AROUND |= {"sorted", "str", "sum", "tuple", "Counter", "__list__", "__tree__"}


class AnotherForm(Exception):
    pass


def evaluate(node, space):
    return eval(compile(ast.Expression(node), "test.py", "eval"), space)


def body_of(test):
    """The statements of `check`, and the name that it gives to the program's function."""
    (check,) = [
        node for node in ast.parse(test).body
        if isinstance(node, ast.FunctionDef) and node.name == "check"
    ]
    return [part for part in check.body if not is_trivial(part)], check.args.args[0].arg


def is_trivial(statement):
    value = getattr(statement, "test", getattr(statement, "value", None))
    kinds = (ast.Assert, ast.Expr)
    return isinstance(statement, kinds) and isinstance(value, ast.Constant) and bool(value.value)


def case(statement, name):
    test = statement.test
    call, (operator,), (expected,) = test.left, test.ops, test.comparators
    if not isinstance(operator, ast.Eq) or call.func.id != name or call.keywords:
        raise AnotherForm
    return tuple(evaluate(argument, {}) for argument in call.args), evaluate(expected, {})


def split(test):
    """A list of (arguments, expected), or None where one assert has another form than
    `candidate(arguments) == expected`."""
    try:
        statements, name = body_of(test)
        return [case(part, name) for part in statements] or None
    except Exception:
        return None


def asks(node, name):
    """The text of an expression that is a call of the program's function, or a plain function of
    one. Any other would be decided by operators of objects that the program makes, or by what the
    test defines."""
    inner = node
    while isinstance(inner, ast.Call) and ast.unparse(inner.func) in AROUND and inner.args:
        inner = inner.args[0]
    if not isinstance(inner, ast.Call) or ast.unparse(inner.func) != name:
        raise AnotherForm
    return ast.unparse(node)


def question(statement, name, space):
    """What the program computes, how that is compared, what with, and a tolerance."""
    if not isinstance(statement, ast.Assert):
        raise AnotherForm
    test = statement.test
    called = ast.unparse(test.func) if isinstance(test, ast.Call) else ""
    if called in ("is_same_list", "is_same_tree"):
        walk = __list__ if called == "is_same_list" else __tree__
        computed, expected = test.args
        computed = "%s(%s)" % (walk.__name__, asks(computed, name))
        return computed, "equal", walk(evaluate(expected, space)), 0.0
    if called in ("math.isclose", "isclose"):
        computed, expected = test.args
        names = {keyword.arg: evaluate(keyword.value, space) for keyword in test.keywords}
        if set(names) - {"rel_tol"}:
            raise AnotherForm
        tolerance = float(names.get("rel_tol", 1e-9))
        return asks(computed, name), "close", evaluate(expected, space), tolerance
    if isinstance(test, ast.Compare):
        (operator,), (expected,) = test.ops, test.comparators
        return question_of_comparison(test.left, operator, expected, name, space)
    wanted = True
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, wanted = test.operand, False
    return "bool(%s)" % asks(test, name), "equal", wanted, 0.0


def question_of_comparison(computed, operator, expected, name, space):
    if isinstance(operator, ast.Eq):
        return asks(computed, name), "equal", evaluate(expected, space), 0.0
    if isinstance(operator, ast.Is):
        return asks(computed, name), "is", evaluate(expected, space), 0.0
    if isinstance(operator, ast.In):
        return asks(computed, name), "in", list(evaluate(expected, space)), 0.0
    if isinstance(operator, (ast.Lt, ast.LtE)) and isinstance(computed, ast.Call):
        (difference,) = computed.args
        is_difference = isinstance(difference, ast.BinOp) and isinstance(difference.op, ast.Sub)
        if is_difference and ast.unparse(computed.func) in ("abs", "math.fabs"):
            tolerance = float(evaluate(expected, space))
            return asks(difference.left, name), "near", evaluate(difference.right, space), tolerance
    raise AnotherForm


def question_of_benchmark(statement, name, space):
    """The same for a published benchmark, whose asserts are to be run as they stand: whatever else
    they compare is computed beside the program, which might forge it."""
    try:
        return question(statement, name, space)
    except Exception:
        pass
    test = statement.test
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq):
        return ast.unparse(test.left), "equal", evaluate(test.comparators[0], space), 0.0
    return "not not (%s)" % ast.unparse(test), "equal", True, 0.0


def questions(test, prelude, is_benchmark):
    """The name of the function in the test and a list of questions, one an assert; None where one
    of them cannot be asked without saying what is expected."""
    try:
        # Some tests leave an import to the program.
        space = {"math": math, "sys": sys}
        exec(prelude, space)
        statements, name = body_of(test)
        ask = question_of_benchmark if is_benchmark else question
        found = [ask(part, name, space) for part in statements]
        return (name, found) if found else None
    except Exception:
        return None
