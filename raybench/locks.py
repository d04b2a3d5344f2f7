"""Locks on files between processes: whoever holds one loses it with its last descriptor, however it ends."""

import errno
import fcntl

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system without locks says: an NFS without its lock daemon, a Lustre that is mounted without flock."""


def try_lock(descriptor: int, *, alone: bool = True) -> bool:
    """Take the lock of an open file, alone or with others; False while somebody holds it who does not tolerate that.

    Raises OSError where there are no locks.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_fault(error: OSError) -> str:
    """What `try_lock` met, in words."""
    return f"its file system knows no locks ({error.strerror})" if error.errno in NO_LOCKS else str(error.strerror)
