"""The zygote as a fresh process, for when a forked one is lost: ``python -m muster_agent.runner HANDLE``."""

import socket
import sys

from muster_agent.runner import nursery


def main() -> None:
    """Serve on the open socket whose number is the only argument."""
    handle = int(sys.argv[1])
    nursery.leave_behind(keep=handle)
    nursery.serve(socket.socket(fileno=handle))


if __name__ == "__main__":
    main()
