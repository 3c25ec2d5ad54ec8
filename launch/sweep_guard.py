"""Runs a command, and asks it to stop (SIGTERM, once) when nobody holds the other end of its standard input any more.

    python sweep_guard.py COMMAND ARGUMENT ...

So the trials of a sweep save and stop however the sweep ends, by kill -9 too. (Linux can signal the children of a dead
process by itself, but does so once for each of its threads, and a second SIGTERM stops a run before it has saved.)
Ends as the command does, by the same signal or with the same exit code. Imports nothing that takes time to load.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Start the command and wait for it."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def watch() -> None:
        while os.read(0, 1):
            pass  # nothing is ever written: this returns when the other end is closed
        child.terminate()

    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    if code < 0:
        if -code == signal.SIGINT:  # the one that Python handles
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
