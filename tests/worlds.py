"""What the runners have in common that run a program in several worlds (conformance, differential): what is tested and what it is
told, and what becomes of a process that does not end."""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
VM_SECONDS = 1800
# What the library needs in an emulated machine that others keep busy; in [options].
EMULATED_OPTIONS = "rendezvous_ms = 10000\ndial_ms = 5000\n"
# Cutovers at the first bytes of a connection, where most can go wrong.
EAGER_OPTIONS = "young_ms = 0\n"
# What others leak is not ours to tell, and a thread of ours that has closed what it was for is joined when the next is needed; whatever
# else is found ends the program, and so fails the test.
SANITIZER_OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
                     "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:report_thread_leaks=0"}
# Programs that are asked whether they can tell a difference keep what is theirs: signals and their stack, threads after a fork, and
# allocations that fail. ThreadSanitizer begins in the library's constructor, and looks for what tells it the names of functions by calls that
# are the library's: it does without.
UNSEEN = ":".join([*(f"handle_{fault}=0" for fault in ("segv", "sigbus", "abort", "sigill", "sigfpe")), "use_sigaltstack=0",
                   "allocator_may_return_null=1"])
UNSEEN_OPTIONS = {"ASAN_OPTIONS": f"{UNSEEN}:suppressions={ROOT / 'tests/asan.suppressions'}",
                  "TSAN_OPTIONS": f"{UNSEEN}:die_after_fork=0:report_signal_unsafe=0:symbolize=0"}
FABRIC = ("fabric", "tests/fabric/librdmacm.so.1")  # what is built of it


def built(build, names):
    """Whether what is tested is there; else says what is not."""
    missing = [build / name for name in names if not (build / name).exists()]
    for path in missing:
        print(f"{path} is missing: build it first", file=sys.stderr)
    return not missing


@contextlib.contextmanager
def at_hand(build, names):
    """A folder with copies of what is tested, for what that writes, too: others may build at the same time, and a virtual machine
    has to ask for every page of a file that is not its own."""
    with tempfile.TemporaryDirectory(prefix="rsock-tested.") as folder:
        place = pathlib.Path(folder)
        place.chmod(0o755)  # some of it drops its privileges
        for name in names:
            shutil.copy(build / name, place)
        yield place


class Fabric:
    """A device of tests/fabric that serves. In this environment a program finds it."""

    def __init__(self, folder, process):
        self.folder, self.environment, self.process = folder, {"LD_LIBRARY_PATH": str(folder)}, process

    def order(self, *words):
        """What is answered (tests/fabric/device/device.hpp), a number."""
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextlib.contextmanager
def fabric(build, place, *words):
    """RDMA natively: a Fabric, while this lasts. `words`: what goes wrong there."""
    if not built(build, FABRIC):
        sys.exit(2)
    device, library = FABRIC
    folder = place / "fabric"
    folder.mkdir()
    folder.chmod(0o755)
    shutil.copy(build / library, folder)
    (folder / "libibverbs.so.1").symlink_to("librdmacm.so.1")
    with subprocess.Popen([build / device, folder / "device", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout.readline() != b"serves\n":
                raise RuntimeError("the device of tests/fabric does not serve")
            yield Fabric(folder, process)
        finally:
            process.terminate()  # what it serves may have the other end of its input


def rules(lane, sides=("listen", "connect"), emulated=False):
    """A configuration that selects every flow, at these sides of it."""
    selected = [f'[[rule]]\n{side} = "*:*"\nlane = "{lane}"\n' for side in sides]
    return "\n".join([*selected, "[options]", EAGER_OPTIONS, *[EMULATED_OPTIONS] * emulated])


def add_share(parser):
    parser.add_argument("--share", type=int, default=1, metavar="N", help="one case in N, others each day")
    parser.add_argument("--day", type=int, help="the day, counted as the clock does, whose share it is; by default today")


def day_of(options):
    return int(time.time()) // 86400 if options.day is None else options.day


def share_words(options):
    """For the run in a machine: the day is this one's."""
    return ["--share", options.share, "--day", day_of(options)]


def share_of(cases, options, where):
    if options.share == 1:
        return cases
    day = day_of(options)
    chosen = [case for number, case in enumerate(cases) if (number + day) % options.share == 0]
    print(f"# {where}: {len(chosen)} cases, one in {options.share}: those of day {day} (--day)", flush=True)
    return chosen


def plain_environment():
    """This process's, without what would concern the library."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RSOCK_") and key != "LD_PRELOAD"}


@functools.cache
def sanitizer(library):
    """What it is built with: "asan", "tsan" or None; and the runtime of it, a path."""
    needs = subprocess.run(["ldd", library], capture_output=True, text=True).stdout
    found = re.search(r"lib(asan|tsan)\S* => (\S+)", needs)
    return found.groups() if found else (None, None)


def preloaded(library):
    """LD_PRELOAD, with the runtime of a library built with sanitizers. AddressSanitizer's needs to be before it. ThreadSanitizer's must come
    after it, and before libc: while one of its own calls may block, it does not see locks, and takes what the library does in it for races."""
    kind, runtime = sanitizer(library)
    return ":".join([runtime, str(library)] if kind == "asan" else [str(library), runtime] if kind else [str(library)])


def sanitized(library, folder, name):
    """The environment of what is built as the library is, and whose reports are then in the folder."""
    if sanitizer(library)[0] is None:
        return {}
    return {each: ":".join([its, *filter(None, [UNSEEN_OPTIONS.get(each)]), f"log_path={folder}/{name}.report"])
            for each, its in SANITIZER_OPTIONS.items()}


def reported(folder, name):
    """What sanitizers found in a process, or one that it made: the first line; "" if they found nothing. That they warn of what they do not
    know, say swapcontext, is no finding."""
    for report in sorted(folder.glob(f"{name}.report.*")):
        lines = [line.strip() for line in report.read_text(errors="replace").splitlines()]
        found = [line for line in lines if re.search("ERROR: |runtime error: |WARNING: ThreadSanitizer|CHECK failed|FATAL", line)]
        if found:
            return f"{report.name}: {found[0]}"
    return ""


def show_threads(pid, out):
    """Where a process that does not end is, as far as there is a debugger."""
    if not shutil.which("gdb"):
        return
    try:
        subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt"], stdout=out, stderr=out,
                       stdin=subprocess.DEVNULL, timeout=60)
    except subprocess.TimeoutExpired:
        os.write(out.fileno(), b"gdb took too long\n")


def end_group(process):
    """Ends a process that leads its session, and all that it left; its status."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def run_in_machine(*command):
    """Runs a runner where an RDMA device is; what it prints is printed. Its counts, [passed, failed, skipped], which it prints last."""
    machine = [ROOT / "tests/vm/run", "--timeout", VM_SECONDS, "--", *command]
    counts = [0, 1, 0]
    with subprocess.Popen(list(map(str, machine)), stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for line in process.stdout:
            if found := re.match(r"(\d+) passed, (\d+) failed, (\d+) skipped$", line):
                counts = [int(each) for each in found.groups()]
            else:
                print(line, end="", flush=True)
    return counts
