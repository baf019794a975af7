# expect: wrong
import subprocess
def f(x):
    return int(subprocess.check_output(["echo", "4"]))
