# A whole program, as `python program.py arguments` runs it. What it is comes first on descriptor 0,
# after 16 digits that say how long that is; what follows is its input. The first line on descriptor 1 says
# what confines it, all further bytes are the program's own.
def start():
    import builtins
    import posix
    import sys
    from _sitebuiltins import Quitter

    def read(n_bytes):
        parts = []
        while n_bytes:
            part = posix.read(0, n_bytes)
            if not part:
                posix._exit(1)
            parts.append(part)
            n_bytes -= len(part)
        return b"".join(parts)

    # The parent's JSON is Python here: a list of texts.
    *arguments, source = eval(read(int(read(16))), {})
    held = ",".join('"%s"' % name for name in sys.argv[1:])
    posix.write(1, b'{"confinement":[%s]}\n' % held.encode())
    # What `site` would have brought.
    builtins.exit, builtins.quit = Quitter("exit", "Ctrl-D"), Quitter("quit", "Ctrl-D")
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    if sys.path[0] == "":
        # Older versions look for modules where the program stands.
        del sys.path[0]
    sys.argv[:] = ["program.py", *arguments]
    return compile(source, "program.py", "exec", 0, True)


__code__ = start()
del start
exec(__code__)
