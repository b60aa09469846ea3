"""Programs that try to harm the machine or to fake their result, each with the class it gets.

`python hostile_programs.py` runs them all and prints {name: [failure, passed, detail]}: the test
calls it once as it is and, if it is root, once as an ordinary user.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks.sandbox import Limits, Outcome, Sandbox, run_tests

# a file in the caller's file system, which must not be in theirs
SECRET = Path(os.environ.get("TASKLIFT_SECRET", "/etc/hostname"))
TESTS = "assert add(1, 2) == 3\nassert add('SECRET-IN-THE-TESTS', '!') == 'SECRET-IN-THE-TESTS!'\n"
SANDBOX = Sandbox(Limits(seconds=4, cpu_seconds=2))

PUT = """
import json, os, time
def put(reply):
    data = json.dumps(reply).encode()
    for fd in range(3, 64):
        try:
            os.write(fd, len(data).to_bytes(4, 'big') + data)
        except OSError:
            pass
"""  # speaks to the checker in the harness's place

HOSTILE: dict[str, tuple[str, str]] = {
    # harm
    "fork bomb": ("too_many_processes", "import os\nwhile True:\n os.fork()"),
    "quiet fork bomb": (
        "too_many_processes",
        "import os, time\nfor _ in range(50):\n try:\n  os.fork()\n except OSError:\n"
        "  pass\ntime.sleep(60)",
    ),
    "thread bomb": (
        "too_many_processes",
        "import threading, time\nwhile True:\n"
        " threading.Thread(target=time.sleep, args=(9,)).start()",
    ),
    "zombies": (
        "too_many_processes",
        "import os\nwhile True:\n if not os.fork():\n  os._exit(0)",
    ),
    "infinite output": ("output_flood", "while True:\n print('flood' * 1000)"),
    "infinite error output": (
        "output_flood",
        "import os\nwhile True:\n os.write(2, b'flood' * 1000)",
    ),
    "fills the disk": (
        "output_flood",
        "f = open('/tmp/big', 'wb')\nwhile True:\n f.write(b'x' * 1_000_000)",
    ),
    "many files": (
        "output_flood",
        "i = 0\nwhile True:\n open(f'/tmp/{i}', 'w').close()\n i += 1",
    ),
    "10 GB": ("memory", "x = b'x' * 10**10"),
    "grows": ("memory", "x = []\nwhile True:\n x.append(b'.' * 10**7)"),
    "memory of no process": (
        "forbidden",
        "import os\nwhile True:\n os.write(os.memfd_create('x'), b'x' * 10**6)",
    ),
    "deep recursion": ("too_deep", "def f(n):\n return f(n + 1)\nf(0)"),
    "no limit on recursion": (
        "memory",
        "import sys\nsys.setrecursionlimit(10**9)\n"
        "def f(n):\n x = b' ' * 10**6\n return f(n + 1), x\nf(0)",
    ),
    "stack overflow": (
        "crashed",
        "import sys\nsys.setrecursionlimit(10**9)\nx, y = [], []\nfor _ in range(10**6):\n"
        " x, y = [x], [y]\nx == y",
    ),
    "endless loop": ("timeout", "while True:\n pass"),
    "sleeps": ("timeout", "import time\ntime.sleep(1000)"),
    "ignores signals": (
        "timeout",
        "import signal\nfor n in set(signal.Signals) - {9, 19}:\n"
        " signal.signal(n, signal.SIG_IGN)\n"
        "while True:\n pass",
    ),
    "endless regular expression": ("timeout", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')"),
    "huge number": ("timeout", "x = 7 ** (7 ** 10)"),
    # looking around
    "reads the home folder": ("forbidden", "import os\nprint(os.listdir('/root'))"),
    "reads passwords": ("forbidden", "print(open('/etc/passwd').read())"),
    "reads a file of the caller": ("forbidden", f"print(open({str(SECRET)!r}).read())"),
    "reads the repository": ("forbidden", f"print(open({str(Path(__file__).resolve())!r}).read())"),
    "environment of the parent": ("forbidden", "print(open('/proc/1/environ').read())"),
    "memory of the parent": (
        "forbidden",
        "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb').seek(0)",
    ),
    "processes": ("forbidden", "import os\nprint(os.listdir('/proc'))"),
    "writes into the library": ("forbidden", "import os\nopen(os.__file__, 'a').write('#')"),
    "writes to the root": ("forbidden", "open('/x', 'w').write('x')"),
    "symbolic link out": (
        "forbidden",
        f"import os\nos.symlink({str(SECRET)!r}, '/tmp/link')\nprint(open('/tmp/link').read())",
    ),
    "climbs out": ("forbidden", f"print(open('../../../../..{SECRET}').read())"),
    "breaks out of the root": ("forbidden", "import os\nos.mkdir('x')\nos.chroot('x')"),
    "mounts": (
        "forbidden",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.mount(b'proc', b'/tmp', b'proc', 0, None):\n"
        " raise OSError(ctypes.get_errno(), 'mount')",
    ),
    "new user namespace": (
        "forbidden",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.unshare(0x10000000):\n raise OSError(ctypes.get_errno(), 'unshare')",
    ),
    "network": ("forbidden", "import socket\nsocket.create_connection(('1.1.1.1', 80), 2)"),
    "local network": ("forbidden", "import socket\nsocket.create_connection(('127.0.0.1', 22), 2)"),
    "name service": (
        "forbidden",
        "import urllib.request\nurllib.request.urlopen('http://example.org')",
    ),
    "runs a shell": ("forbidden", "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'id'])"),
    "becomes root": (
        "forbidden",  # EPERM, or EINVAL where there is no root at all
        "import os\ntry:\n os.setuid(0)\nexcept OSError:\n raise PermissionError(1, 'no')",
    ),
    # hurting others
    "kills the parent": (
        "exited_early",
        "import os\nos.kill(os.getppid(), 9)\nos.kill(0, 9) if os.getppid() != 1 else os._exit(3)",
    ),
    "kills everybody": ("forbidden", "import os\nos.kill(-1, 9)"),
    "kills itself": ("crashed", "import os\nos.kill(os.getpid(), 9)"),
    "stops itself": ("timeout", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    "kills its group": ("crashed", "import os\nos.killpg(0, 9)"),
    "signals to its guard": (
        "timeout",
        "import os\nwhile True:\n for n in range(1, 65):\n  try:\n   os.kill(1, n)\n"
        "  except OSError:\n   pass",
    ),
    "limits for its guard": (
        "forbidden",
        "import resource\nresource.prlimit(1, resource.RLIMIT_CPU, (0, 0))",
    ),
    "takes all processors": ("forbidden", "import os\nos.sched_setaffinity(0, range(2))"),
    "aborts": ("crashed", "import os\nos.abort()"),
    "null pointer": ("crashed", "import ctypes\nctypes.string_at(0)"),
    "daemon": (
        "wrong_result",
        "import os, time\nif not os.fork():\n os.setsid()\n if not os.fork():\n"
        "  time.sleep(3600)\n os._exit(0)\ndef add(a, b):\n return None",
    ),
    "a child that answers": (
        "wrong_result",
        "import os\ndef add(a, b):\n if os.fork():\n  return 0\n return a + b",
    ),
    # faking
    "leaves with 0": ("exited_early", "import os\nos._exit(0)"),
    "leaves with 0 when asked": ("exited_early", "import os\ndef add(a, b):\n os._exit(0)"),
    "sys.exit": ("exited_early", "import sys\nsys.exit(0)"),
    "sys.exit when asked": ("exited_early", "import sys\ndef add(a, b):\n sys.exit(0)"),
    "equals everything": (
        "wrong_result",
        "class Any(int):\n def __eq__(self, other):\n  return True\n __hash__ = None\n"
        "def add(a, b):\n return Any()",
    ),
    "equals everything, no number": (
        "wrong_result",
        "class Any:\n def __eq__(self, other):\n  return True\ndef add(a, b):\n return Any()",
    ),
    "patched comparison": (
        "wrong_result",
        "import builtins, operator\noperator.eq = lambda a, b: True\n"
        "builtins.AssertionError = type('Never', (Exception,), {})\nbuiltins.all = lambda x: True\n"
        "def add(a, b):\n return 0",
    ),
    "prints the verdict": (
        "wrong_result",
        'print(\'passed\')\nprint(\'{"failure": null, "passed": 2, "tried": 2}\')\n'
        "def add(a, b):\n return 0",
    ),
    "writes the verdict anywhere": (
        "wrong_result",
        "import json, os\nv = json.dumps({'failure': None, 'passed': 2, 'tried': 2}).encode()\n"
        "for fd in range(64):\n try:\n  os.write(fd, len(v).to_bytes(4, 'big') + v)\n"
        " except OSError:\n  pass\ndef add(a, b):\n return 0",
    ),
    "looks for the tests": (
        "wrong_result",
        "import gc, inspect\ndef add(a, b):\n needle = ''.join(['SECRET-IN', '-THE-TESTS'])\n"
        " places = [f.frame.f_globals for f in inspect.stack()]\n"
        " places += [o for o in gc.get_objects() if type(o) in (list, dict, tuple)]\n"
        " places += [f.frame.f_locals for f in inspect.stack()[1:]]\n"
        " return 3 if a == 1 and any(needle in repr(p)[:100_000] for p in places) else 0",
    ),
    "patches the wire": (
        "wrong_result",
        "import sys, json\nfor name in list(sys.modules):\n m = sys.modules[name]\n"
        " if hasattr(m, 'encode') and hasattr(m, 'send'):\n"
        "  m.encode = lambda v: {'opaque': 'x'}\n  m.send.__globals__['json'] = json\n"
        "def add(a, b):\n return 0",
    ),
    "forged: no failure": (
        "wrong_result",
        PUT + "put({'value': 0, 'failure': None})\ntime.sleep(9)",
    ),
    "forged: no failure when asked": (
        "wrong_result",
        PUT + "def add(a, b):\n put({'value': 0, 'failure': None})\n time.sleep(9)",
    ),
    "forged: a string": ("wrong_result", PUT + "put('value failure')\ntime.sleep(9)"),
    "forged: a list of failures": (
        "wrong_result",
        PUT + "put({'value': 0, 'failure': ['x']})\ntime.sleep(9)",
    ),
    "forged: failure of its own": (
        "wrong_result",
        PUT + "put({'failure': 'none', 'error': '', 'message': ''})\ntime.sleep(9)",
    ),
    "forged: half a failure": ("wrong_result", PUT + "put({'failure': 'raised'})\ntime.sleep(9)"),
    "forged: a verdict": (
        "wrong_result",
        PUT + "put({'failure': None, 'detail': '', 'passed': 2, 'tried': 2})\ntime.sleep(9)",
    ),
    "forged: the end of the tests": (
        "wrong_result",
        PUT + "def add(a, b):\n put({'value': None, 'done': True})\n time.sleep(9)",
    ),
    "forged: refused": (
        "wrong_result",
        PUT + "put({'failure': 'refused', 'error': '', 'message': ''})\ntime.sleep(9)",
    ),
    "forged: too large a number": (
        "wrong_result",
        PUT + "def add(a, b):\n put({'value': {'float': 10**400}})\n time.sleep(9)",
    ),
    "forged: an object of no name": (
        "wrong_result",
        PUT + "def add(a, b):\n put({'value': {'opaque': 7}})\n time.sleep(9)",
    ),
    "forged: answers before they are asked for": (
        "wrong_result",
        PUT + "for _ in range(9):\n put({'value': None})\ntime.sleep(9)",
    ),
    "raises what ends a loop": ("raised", "def add(a, b):\n raise StopIteration"),
    "huge value": ("output_flood", "def add(a, b):\n return 'x' * 10**8"),
    "deep value": (
        "wrong_result",
        "def add(a, b):\n x = []\n for _ in range(10**5):\n  x = [x]\n return x",
    ),
    "endless iterator": (
        "wrong_result",
        "import itertools\ndef add(a, b):\n return itertools.count()",
    ),
    "garbage on the wire": (
        "wrong_result",
        "import os\nfor fd in range(3, 64):\n try:\n  os.write(fd, b'\\0\\0\\0\\4{[{[')\n"
        " except OSError:\n  pass\ndef add(a, b):\n return 0",
    ),
    "surrogates": ("wrong_result", "def add(a, b):\n return '\\ud800'"),
    "hostile exception": (
        "raised",
        "class E(BaseException):\n def __str__(self):\n  raise self\ndef add(a, b):\n raise E",
    ),
    "imports what is not there": ("raised", "import torch\ndef add(a, b):\n return a + b"),
    "another name": ("no_function", "def plus(a, b):\n return a + b"),
    "prose": ("syntax_error", "The answer is to add both numbers."),
    "null byte": ("syntax_error", "def add(a, b):\n return a + b\0"),
    "half a character": ("syntax_error", "x = '\ud800'"),
    "deep source": ("syntax_error", "x = " + "(" * 10_000 + ")" * 10_000),
    "empty": ("no_function", ""),
}


def run(name: str) -> Outcome:
    return run_tests(HOSTILE[name][1], TESTS, function="add", sandbox=SANDBOX)


def run_all() -> dict[str, tuple[str | None, int, str]]:
    with ThreadPoolExecutor(4) as pool:
        outcomes = dict(zip(HOSTILE, pool.map(run, HOSTILE), strict=True))
    return {name: (done.failure, done.passed, done.detail) for name, done in outcomes.items()}


if __name__ == "__main__":
    json.dump({"uid": os.getuid(), "found": run_all()}, sys.stdout)
