# Whether an answer is of the type that a puzzle names, to the letter: True is no int.
def is_of_type(value, kind):
    if kind.startswith("List["):
        return type(value) is list and all(is_of_type(item, kind[5:-1]) for item in value)
    return type(value).__name__ == kind
