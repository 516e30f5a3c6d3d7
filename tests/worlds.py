"""What the runners have in common that run a program in several worlds (conformance, differential): what is tested and what it is
told, and what becomes of a process that does not end."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
VM_SECONDS = 1800
# What the library needs in an emulated machine that others keep busy; in [options].
EMULATED_OPTIONS = "rendezvous_ms = 10000\ndial_ms = 5000\n"


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


def rules(lane, sides=("listen", "connect"), emulated=False):
    """A configuration that selects every flow, at these sides of it."""
    selected = [f'[[rule]]\n{side} = "*:*"\nlane = "{lane}"\n' for side in sides]
    return "\n".join([*selected, *[f"[options]\n{EMULATED_OPTIONS}"] * emulated])


def plain_environment():
    """This process's, without what would concern the library."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RSOCK_") and key != "LD_PRELOAD"}


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
