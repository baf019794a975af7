"""Writes sanitize.jsonl: made texts, and what EvalPlus 0.3.1 takes from them.

    pip install evalplus==0.3.1
    python sanitize.py [N [SEED]] > sanitize.jsonl
"""
import json
import random
import sys

from evalplus.sanitize import sanitize

PARTS = [
    "Here is the solution:",
    "```python",
    "```",
    "",
    "import math",
    "from typing import List, Optional",
    "from __future__ import annotations",
    "def g(x):\n    return x + K",
    "def g(x):\n    # the second\n    return x - 1",
    "def h(x):\n    print(x)",
    "async def a(x):\n    return await b(x)",
    "K = 3",
    "K: int = 4",
    "K = L = 5",
    "L, M = 1, 2",
    "C.k = K",
    "N[0] = K",
    "K += 1",
    "x = 1; y = 2",
    "class C:\n    def m(self):\n        return D",
    "class D(C):\n    pass",
    "@decorated\ndef d(x):\n    return x",
    "def f(x):\n    \"\"\"Adds.\n\n    >>> f(1)\n    2\n    \"\"\"\n    return g(x) + 1",
    "def f(x: List[int]) -> Optional[C]:\n    return [C().m(y=K) for y in x if y]  # last\n    # more",
    "def f(x):\n    def inner():\n        return 1\n    print(inner(), f'{K} {L!r}')",
    "def f(x):\n    try:\n        return d(x)\n    except D as e:\n        raise",
    "def f(x):\n\treturn x",
    "def f(x)\n    return x",
    "if __name__ == '__main__':\n    print(f(1))",
    "assert f(1) == 2",
    "print(f(1))",
    "    return x",
    "for i in range(3):\n    K = i",
    "This function adds one. It's easy!",
    "- item one",
    "1. First",
    "\x1b[31mred\x1b[0m",
    "lambda x: x",
    "\"\"\"\nA text\n\"\"\"",
    "x = '''",
    "global K",
    "λ = 'ü'",
    "def f(ä):\n    return ä + λ",
    "with open('x') as K:\n    pass",
    "match K:\n    case C(m=L):\n        pass",
    "(",
    ")",
    "y = (1 +\n     2)",
    "return K",
    "x = yield",
    "\\",
    "\t",
]


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    draw = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for _ in range(n):
        text = "\n".join(draw.choice(PARTS) for _ in range(draw.randint(1, 9)))
        print(json.dumps([text, sanitize(text, "f")]))


main()
