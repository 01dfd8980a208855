"""How many files this process may have open: each connection is one."""

import resource


def allow_files(count: int) -> int:
    """Raise the number of files this process may have open, as far as it may, and return how many of `count` it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
