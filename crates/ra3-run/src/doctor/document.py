"""Counts words, and says which are the most common."""

from collections import Counter
from pathlib import Path


def words_of(text):
    # A word is a run of letters, whatever its case.
    letters = "".join(char.lower() if char.isalpha() else " " for char in text)
    return letters.split()


def most_common(paths, n=10):
    counts = Counter()
    for path in paths:
        counts.update(words_of(Path(path).read_text(encoding="utf-8")))
    return counts.most_common(n)


class Table:
    def __init__(self, rows):
        self.rows = sorted(rows, key=lambda row: (-row[1], row[0]))

    def lines(self):
        width = max((len(word) for word, _ in self.rows), default=0)
        for word, count in self.rows:
            yield f"{word:<{width}}  {count}"


if __name__ == "__main__":
    import sys

    for line in Table(most_common(sys.argv[1:])).lines():
        print(line)
