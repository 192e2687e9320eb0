"""A real Slurm on one machine, for as long as a command runs:

    python tests/slow/slurm_host.py make book PROFILE=slurm

munged, slurmctld and two slurmd, `node1` and `node2`, the second with a pretended GPU. All that
they need lies in one temporary folder, so a Slurm that may run here already is not touched. It
takes Debian's `slurm-wlm`, but neither root nor systemd nor cgroups.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "setpriv")
CONF = """\
ClusterName=book
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
# No cgroups: what a job asks for is booked, and not enforced.
ProctrackType=proctrack/pgid
KillWait=5
# The tests look at jobs long after their end.
MinJobAge=3600
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
# No database: `sacct` does not work here, as on some clusters.
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
MpiDefault=none
NodeName=DEFAULT CPUs=1 RealMemory=32000
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={node1}
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={node2} Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES State=UP
"""
GRES = "NodeName=node2 Name=gpu File=/dev/null\n"
# Snakemake's plugin clears SLURM_CONF before srun, which on a cluster finds /etc/slurm.
SRUN = '#!/bin/sh\nexport SLURM_CONF="{folder}/slurm.conf"\nexec {srun} "$@"\n'


def missing() -> str:
    """Return why a Slurm cannot be started here; nothing when it can."""
    if not sys.platform.startswith("linux"):
        return "a private Slurm needs Linux"
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    return f"there is no {', '.join(lacking)} (Debian: slurm-wlm)" if lacking else ""


@contextlib.contextmanager
def slurm(seconds: float = 60) -> Iterator[dict[str, str]]:
    """Start a Slurm; yield the environment that finds it; stop it.

    Raises:
        RuntimeError: it cannot be started, or its nodes are not idle in time.
    """
    if reason := missing():
        raise RuntimeError(reason)
    # munge asks that everyone may pass through the folders above its socket.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o711)
    path = f"{folder}/bin:{_path()}"
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    running: list[subprocess.Popen] = []
    try:
        ports = dict(zip(("controller", "node1", "node2"), _free_ports(3), strict=True))
        names = {"host": socket.gethostname().split(".")[0], "user": _user()}
        _write(folder, "slurm.conf", CONF.format(folder=folder, **names, **ports))
        _write(folder, "gres.conf", GRES)
        _write(folder, "munge.key", secrets.token_hex(64))
        for name in ("state", "node1", "node2", "bin"):
            (folder / name).mkdir()
        _write(folder, "bin/srun", SRUN.format(folder=folder, srun=shutil.which("srun")), 0o755)
        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        munged = ["munged", "--foreground", f"--socket={folder}/munge.socket", *files]
        running.append(_start("munged", munged, folder, env))
        end = time.monotonic() + seconds
        _wait(lambda: (folder / "munge.socket").exists(), "munged", running, folder, end)
        running.append(_start("slurmctld", ["slurmctld", "-D"], folder, env))
        for name in ("node1", "node2"):
            running.append(_start(name, ["slurmd", "-D", "-N", name], folder, env))
        _wait(lambda: _idle(env) == 2, "two idle nodes", running, folder, end)
        yield env
    finally:
        _cancel_all(env)
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def jobs(env: dict[str, str]) -> list[dict[str, str]]:
    """Return what Slurm knows of every job, done ones too, oldest first."""
    command = ["scontrol", "show", "jobs", "--oneliner", "--details"]
    text = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    lines = [line for line in text.splitlines() if line.startswith("JobId=")]
    return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]


def _cancel_all(env: dict[str, str]) -> None:
    """End what still runs, while there is a Slurm that can."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        cancel = ["scancel", "--quiet", f"--user={_user()}"]
        subprocess.run(cancel, env=env, timeout=10, capture_output=True, check=True)
        for _ in range(60):
            left = ["squeue", "--noheader"]
            if not subprocess.run(left, env=env, timeout=10, capture_output=True).stdout:
                break
            time.sleep(0.5)


def cancel(env: dict[str, str], job: str) -> None:
    """End a job, as an administrator would, or a time limit."""
    subprocess.run(["scancel", job], env=env, check=True)


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _write(folder: Path, name: str, text: str, mode: int = 0o600) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(mode)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _start(name: str, command: list[str], folder: Path, env: dict[str, str]) -> subprocess.Popen:
    """Start a daemon that ends with this process, however this process ends."""
    with (folder / f"{name}.said").open("wb") as said:
        command = ["setpriv", "--pdeathsig", "TERM", *command]
        return subprocess.Popen(command, env=env, stdout=said, stderr=said)


def _idle(env: dict[str, str]) -> int:
    command = ["sinfo", "--noheader", "--states=idle", "--format=%D"]
    words = subprocess.run(command, env=env, capture_output=True, text=True).stdout.split()
    return sum(int(word) for word in words)


def _wait(ready, what: str, running: list[subprocess.Popen], folder: Path, end: float) -> None:
    while not ready():
        if time.monotonic() > end or any(process.poll() is not None for process in running):
            said = "".join(f.read_text(errors="replace") for f in sorted(folder.glob("*.said")))
            raise RuntimeError(f"waited in vain for {what}; the daemons said:\n{said}")
        time.sleep(0.2)


def main() -> int:
    if reason := missing():
        print(f"✗ {reason}")
        return 1
    if not sys.argv[1:]:
        print("usage: python tests/slow/slurm_host.py COMMAND …, such as make book PROFILE=slurm")
        return 2
    with slurm() as env:
        print("Slurm runs, with two nodes", flush=True)
        status = subprocess.run(sys.argv[1:], env=env).returncode
        for job in jobs(env):
            print(
                "job", *(job.get(key, "–") for key in ("JobId", "Comment", "JobState", "NodeList"))
            )
    print("Slurm is stopped")
    return status


if __name__ == "__main__":
    sys.exit(main())
