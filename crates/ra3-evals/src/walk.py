# Linked lists and trees as plain values: what a node's class makes of `==` is not asked.
def __list__(node):
    values = []
    while node is not None and len(values) < 100_000:
        values.append(node.val)
        node = node.next
    return values


def __tree__(node):
    values, queue = [], [node]
    for node in queue:
        values.append(None if node is None else (node.val,))
        if node is not None and len(queue) < 100_000:
            queue += [node.left, node.right]
    return values


