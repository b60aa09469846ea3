"""Walls around a process: namespaces, a root of its own, limits, no way back.

Linux only, by its system calls (man 2 unshare, mount_setattr, seccomp; Linux 5.14 or later, where
the number of processes is counted by user namespace). Runs in a process of one thread, which
`checker.py` has forked for it; knows nothing of tests. As root it drops to a user id of its own,
as an ordinary user it takes a user namespace; either way the program has no capability left.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import stat
import sys
from contextlib import suppress

from seccomp import refuse_calls

TYPE_CHECKING = False  # without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Container

NEW_NET, NEW_PID, NEW_USER, NEW_MOUNTS = 0x40000000, 0x20000000, 0x10000000, 0x00020000
NEW_IPC, NEW_HOST = 0x08000000, 0x04000000
BIND, RECURSIVE, PRIVATE, DETACH = 0x1000, 0x4000, 0x40000, 2
NO_SUID, NO_DEVICES, NO_EXEC = 2, 4, 8
MOUNT_SETATTR, PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41}
PARENT_DIES, DUMPABLE, DROP_BOUND, SUBREAPER, NO_NEW_PRIVILEGES = 1, 4, 24, 36, 38
NOBODY = 65534
OWN_IDS = 1_800_000_000  # user ids from here on, one a program, are nobody's
NEW_ROOT = "/tmp"  # where the new root is put together; a folder that is there on any Linux
DEVICES = ("null", "zero", "random", "urandom")
EVERYTHING = ("network", "filesystem", "processes", "syscalls")

libc = ctypes.CDLL(None, use_errno=True)


class Wall(Exception):
    """A wall that cannot be put up here."""


def _call(done: int, what: str) -> None:
    if done:
        code = ctypes.get_errno()
        raise Wall(f"{what}: {errno.errorcode.get(code, code)}")


def isolate(tmp_bytes: int) -> dict[str, str]:
    """Leave the namespaces of this process; {wall: what is in its way}, without those that stand.

    The next fork is the first process of the new process namespace.
    """
    missing: dict[str, str] = {}
    root = os.geteuid() == 0
    with suppress(Wall):
        if not root or libc.unshare(NEW_MOUNTS):
            _become_own_user()
    for wall, flag in (
        ("network", NEW_NET),
        ("processes", NEW_PID),
        ("filesystem", NEW_MOUNTS | NEW_IPC | NEW_HOST),
    ):
        try:
            _call(libc.unshare(flag), "unshare")
            if wall == "filesystem":
                _own_root(tmp_bytes)
        except (Wall, OSError) as error:
            missing[wall] = str(error)
    if root and os.geteuid():
        missing["processes"] = "root's processes cannot be counted in a user namespace"
    return missing


def _become_own_user() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _call(libc.unshare(NEW_USER), "unshare")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{NOBODY} {uid} 1")
    _write("/proc/self/gid_map", f"{NOBODY} {gid} 1")
    with suppress(OSError):
        _write("/proc/sys/user/max_user_namespaces", "0")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def read(path: str) -> str:
    """The text of a file."""
    with open(path) as file:
        return file.read()


def _own_root(tmp_bytes: int) -> None:
    """A root that holds Python's library and the C libraries, read-only, and an empty /tmp."""
    needed = _needed()
    handles = {path: os.open(path, os.O_PATH) for path in (*needed, *_devices())}
    _mount(None, "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", NEW_ROOT, "tmpfs", NO_SUID, "size=1m,mode=755")
    for path in needed:
        _bind(handles[path], path)
    for path in ("/lib", "/lib64"):
        if os.path.islink(path):
            os.symlink(os.readlink(path), NEW_ROOT + path)
    for path in (*_devices(), "/tmp", *_other_packages()):
        _make_place(path)
    for path in _other_packages():
        _mount("tmpfs", NEW_ROOT + path, "tmpfs", NO_SUID, "size=4k,mode=755")
    for path in needed:
        while (path := os.path.dirname(path)) != "/":
            os.chmod(NEW_ROOT + path, 0o111)  # a way through, with nothing to be seen
    _read_only(NEW_ROOT)
    for path in _devices():
        _mount(f"/proc/self/fd/{handles[path]}", NEW_ROOT + path, None, BIND)
    size = f"size={tmp_bytes},nr_inodes=1000,mode=1777"
    _mount("tmpfs", NEW_ROOT + "/tmp", "tmpfs", NO_SUID | NO_DEVICES | NO_EXEC, size)
    for handle in handles.values():
        os.close(handle)
    os.chdir(NEW_ROOT)
    _call(libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _call(libc.umount2(b".", DETACH), "umount")
    os.chdir("/tmp")


def _needed() -> list[str]:
    """Folders and files a running Python may still open, none inside another."""
    own = os.path.dirname(os.path.dirname(os.path.realpath(os.__file__)))
    paths = [own, "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"]
    found = [path for path in paths if os.path.exists(path) and not os.path.islink(path)]
    return [p for p in found if not any(p != q and p.startswith(q + "/") for q in found)]


def _other_packages() -> list[str]:
    """Folders of installed packages below those, to be hidden: some hold benchmarks' answers."""
    libraries = [
        f"{top}/{name}"
        for top in filter(os.path.isdir, _needed())
        for name in os.listdir(top)
        if name.startswith("python3")
    ]
    found = [f"{lib}/{kind}-packages" for lib in libraries for kind in ("site", "dist")]
    return sorted(filter(os.path.isdir, found))


def _devices() -> list[str]:
    return [f"/dev/{name}" for name in DEVICES if os.path.exists(f"/dev/{name}")]


def _bind(handle: int, path: str) -> None:
    _make_place(path, stat.S_ISDIR(os.fstat(handle).st_mode))
    _mount(f"/proc/self/fd/{handle}", NEW_ROOT + path, None, BIND | RECURSIVE)


def _make_place(path: str, folder: bool | None = None) -> None:
    place = NEW_ROOT + path
    if os.path.exists(place):
        return
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if folder is None:
        folder = not path.startswith("/dev/")
    os.mkdir(place) if folder else _write(place, "")


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    words = [None if w is None else w.encode() for w in (source, target, kind, options)]
    done = libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _call(done, f"mount {target}")


def _read_only(top: str) -> None:
    """Read-only, without devices and set-uid, for the whole tree of mounts below `top`."""
    attributes = (ctypes.c_uint64 * 4)(1 | NO_SUID | NO_DEVICES, 0, 0, 0)
    handle = os.open(top, os.O_PATH)
    whole_tree, of_handle = 0x8000, 0x1000
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    done = libc.syscall(
        MOUNT_SETATTR, handle, b"", of_handle | whole_tree, ctypes.byref(attributes), size
    )
    os.close(handle)
    _call(done, "mount_setattr")


def renounce(limits: dict[str, int], missing: Container[str]) -> dict[str, str]:
    """Give up every privilege and take the limits on; {wall: what is in its way}."""
    for capability in range(64):
        libc.prctl(DROP_BOUND, capability, 0, 0, 0)
    ours = 2  # of the processes that are counted, the guard and, in a user namespace, its keeper
    if os.getuid() == 0:
        os.setgroups([])
        try:
            _become(OWN_IDS + limits["number"])
        except OSError:  # a container may know few ids
            _become(NOBODY)
        ours = 1
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _call(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    _call(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    close_to_others()
    for name, value in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(name, (value, value))
    seconds = limits["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # a signal first, then death
    if "processes" not in missing:  # else all of the user's processes would count
        most = limits["processes"] + ours
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    problem = refuse_calls(libc)
    return {"syscalls": problem} if problem else {}


def _become(own: int) -> None:
    os.setresgid(own, own, own)
    os.setresuid(own, own, own)


def die_with_parent() -> None:
    """Be killed when the parent dies. To be asked again after a change of user."""
    libc.prctl(PARENT_DIES, signal.SIGKILL, 0, 0, 0)


def close_to_others() -> None:
    """No process of the same user may read or write this one's memory or open its files in /proc.

    It may no longer write its own files there, which `isolate` does.
    """
    libc.prctl(DUMPABLE, 0, 0, 0, 0)


def orphans_come_here() -> None:
    """Processes below this one whose parent ends become its children."""
    libc.prctl(SUBREAPER, 1, 0, 0, 0)


def forget_surroundings() -> None:
    """Nothing of the caller's is left in this process: environment, arguments, its own modules."""
    os.environ.clear()
    os.environ.update(HOME="/tmp", LANG="C.UTF-8", OMP_NUM_THREADS="1")
    sys.argv[:] = [""]
