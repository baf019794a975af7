# expect: passed
from __future__ import annotations
import collections, dataclasses, decimal, heapq, itertools, json, math, random, re, typing
@dataclasses.dataclass
class Pair:
    first: int
    second: typing.ClassVar[int] = 3
def f(x):
    return Pair(x).first + Pair.second
