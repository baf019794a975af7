# Takes tests of the form `assert candidate(arguments) == expected` apart into arguments and
# expected values. Runs in the sandbox, on the benchmark's tests alone: no model wrote this input.
import ast


def evaluate(node):
    return eval(compile(ast.Expression(node), "test.py", "eval"), {})


def is_trivial(statement):
    value = getattr(statement, "test", getattr(statement, "value", None))
    kinds = (ast.Assert, ast.Expr)
    return isinstance(statement, kinds) and isinstance(value, ast.Constant) and bool(value.value)


def case(statement, name):
    test = statement.test
    call, (operator,), (expected,) = test.left, test.ops, test.comparators
    if not isinstance(operator, ast.Eq) or call.func.id != name or call.keywords:
        raise ValueError("another form")
    return tuple(evaluate(argument) for argument in call.args), evaluate(expected)


def split(test):
    """A list of (arguments, expected), or None where one assert has another form."""
    try:
        (check,) = [
            node for node in ast.parse(test).body
            if isinstance(node, ast.FunctionDef) and node.name == "check"
        ]
        name = check.args.args[0].arg
        cases = [case(part, name) for part in check.body if not is_trivial(part)]
        return cases or None
    except Exception:
        return None
