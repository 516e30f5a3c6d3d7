"""How the cases of a test tree run (tests/e2e, tests/adversary): each with a Lab of its own in a folder of its own, several at once where
each of those that run them has a network namespace of its own."""

import concurrent.futures
import ctypes
import fcntl
import multiprocessing
import os
import shutil
import socket
import struct
import time
import traceback

from lab import PORTS, Failed, Skipped

CLONE_NEWNET = 0x40000000
WORDS = {"ok": "passed", "FAIL": "failed", "skip": "skipped"}


def enter_network():
    """A network namespace of our own, with loopback: no port, address, control socket or rendezvous point of anybody else is here.
    OSError where we may not make one."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = bytearray(struct.pack("16sH22x", b"lo", 0))
        siocgifflags, siocsifflags, up = 0x8913, 0x8914, 1
        fcntl.ioctl(any_socket, siocgifflags, request)
        flags = struct.unpack_from("H", request, 16)[0]
        struct.pack_into("H", request, 16, flags | up)
        fcntl.ioctl(any_socket, siocsifflags, request)


def stage_files(build, names, programs, stage):
    """Copies what is tested to where every user can read it, and nobody builds it anew."""
    stage.chmod(0o755)
    for name in names:
        shutil.copy(build / name, stage)
    for folder in programs:
        shutil.copytree(folder, stage / "programs", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


class Runner:
    """`make_lab(folder)`; what a failed case left (output, log, statistics) goes to kept/failed/NAME."""

    def __init__(self, cases, stage, make_lab, kept, verbose):
        self.cases, self.stage, self.make_lab, self.kept, self.verbose = cases, stage, make_lab, kept, verbose

    def run(self, names, jobs=1, together=frozenset()):
        """The verdicts, "ok", "FAIL" or "skip", of one after the other; but of those that may run together as many at once as there are
        jobs."""
        return self.run_at_once([name for name in names if name in together], jobs, PORTS.share) + [
            self.run_case(name) for name in names if name not in together]

    def run_apart(self, names, jobs):
        """The same, where each that runs has a network of its own."""
        return self.run_at_once(names, jobs, lambda number: enter_network())

    def run_at_once(self, names, jobs, first):
        """`first(number of the job)` in each process that runs some."""
        if jobs == 1:
            return [self.run_case(name) for name in names]
        context = multiprocessing.get_context("fork")
        numbers = context.Value("i", 0)

        def begin():
            with numbers:
                number = numbers.value
                numbers.value += 1
            first(number)

        Runner.inherited = self, begin  # functions are not to be sent
        with concurrent.futures.ProcessPoolExecutor(jobs, context, begin_inherited) as pool:
            return list(pool.map(run_inherited, names))

    def run_case(self, name):
        folder = self.stage / "cases" / name
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        lab = self.make_lab(folder)
        started = time.monotonic()
        verdict, why = "ok", ""
        try:
            self.cases[name](lab)
        except Skipped as skipped:
            verdict, why = "skip", str(skipped)
        except Failed as failed:
            verdict, why = "FAIL", str(failed)
        except Exception as error:  # a test that breaks has failed
            verdict, why = "FAIL", repr(error)
            traceback.print_exc()
        finally:
            if verdict == "FAIL":
                lab.keep_stacks()
            lab.close()
        print(f"{verdict} {name}" + (f": {why}" if why else "") + (f"\n# {name} took {time.monotonic() - started:.1f} s" if self.verbose else ""),
              flush=True)
        if verdict == "FAIL":
            self.keep(folder, self.kept / "failed" / name)
        shutil.rmtree(folder, ignore_errors=True)  # another host may be writing there still
        return verdict

    @staticmethod
    def keep(folder, place):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for path in folder.iterdir():
            if path.is_file() and path.stat().st_size < 20 << 20:
                shutil.copyfile(path, place / path.name)


def begin_inherited():
    Runner.inherited[1]()


def run_inherited(name):
    return Runner.inherited[0].run_case(name)


def conclude(verdicts):
    """Prints the counts; the exit status."""
    print(", ".join(f"{verdicts.count(verdict)} {word}" for verdict, word in WORDS.items()), flush=True)
    return 1 if "FAIL" in verdicts else 0
