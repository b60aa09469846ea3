"""The system calls a program that is being graded has no business with, refused by the kernel.

A filter in classic BPF (man 2 seccomp): each call named here fails with EPERM. It closes what
namespaces leave open: sockets, new namespaces, memory that no limit counts, other processes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

# By name: number on x86_64 and on aarch64.
REFUSED = {
    "socket": (41, 198),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "inotify_init1": (294, 26),
    "syslog": (103, 116),
    "personality": (135, 92),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
}
# column, architecture, and by number: clone, prlimit64
MACHINES = {"x86_64": (0, 0xC000003E, 56, 302), "aarch64": (1, 0xC00000B7, 220, 261)}
CLONE3 = 435
NEW_NAMESPACES = 0x7E020000  # of the flags of clone
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050000, 0x80000000
X32 = 0x40000000  # a second numbering of the same calls on x86_64
SET_SECCOMP, FILTER = 22, 2


def refuse_calls(libc: ctypes.CDLL) -> str:
    """Put the filter on this process and its children to come; '' or what is in the way.

    `no_new_privs` must be set before.
    """
    if os.uname().machine not in MACHINES:
        return f"no list of system calls for {os.uname().machine}"
    code = _program(*MACHINES[os.uname().machine])
    data = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(data))
    if libc.prctl(SET_SECCOMP, FILTER, ctypes.create_string_buffer(program, len(program)), 0, 0):
        return errno.errorcode.get(ctypes.get_errno(), "prctl failed")
    return ""


def _program(column: int, architecture: int, clone: int, limit: int) -> bytes:
    """Offsets of `struct seccomp_data`: 0 the call's number, 4 the architecture, 16 argument 1."""
    eperm, enosys = FAIL | errno.EPERM, FAIL | errno.ENOSYS
    lines = [
        (LOAD, 0, 0, 4),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, KILL),
        (EQUAL, 0, 1, CLONE3),  # its flags lie behind a pointer; libc falls back to clone
        (RETURN, 0, 0, enosys),
    ]
    for numbers in REFUSED.values():
        lines += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, eperm)]
    lines += [
        (EQUAL, 0, 3, limit),  # its own limits, which argument 0 is for, never another process's
        (LOAD, 0, 0, 16),
        (EQUAL, 1, 0, 0),
        (RETURN, 0, 0, eperm),
        (LOAD, 0, 0, 0),
        (EQUAL, 0, 3, clone),
        (LOAD, 0, 0, 16),
        (ANY_BIT, 0, 1, NEW_NAMESPACES),
        (RETURN, 0, 0, eperm),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)
