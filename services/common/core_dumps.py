"""No core dumps of this process: its memory contains keys, passwords and tokens, and a dump outlives the process on a disk."""

import ctypes
import resource
import sys
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""prctl(2). Needed beside the limit: the kernel ignores a limit of 0 where core_pattern pipes dumps to a program (core(5))."""


def forbid() -> None:
    """No core dump, and no debugger or other process of the same user in this process's memory. The children inherit the limit.

    Called first by each service and command; a system without prctl(2) has the limit alone.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
