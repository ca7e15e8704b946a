"""The two systems under load, each started in a directory of its own and stopped again.

Both take mail on a loopback port and hand it to a sink on another. Postfix runs with a private configuration, queue and
data directory (`postfix -c`); nothing in /etc/postfix is read by it or written. Both run with their defaults.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("postfix", "postconf", "smtp-source", "smtp-sink")
_TICKS = os.sysconf("SC_CLK_TCK")
_START_TIMEOUT = 30.0

_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
myhostname = postfix.bench.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{sink}
alias_maps =
alias_database =
message_size_limit = 41943040
"""

_MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

_RELAY_YAML = """\
version: 1
listen: [{{name: bench, address: "127.0.0.1:{port}"}}]
providers: {{sink: {provider}}}
queue: {{spool: {directory}/spool}}
admin: {{listen: ["unix:{directory}/admin.sock"]}}
"""

# Providers of relay, with the port of their sink left open.
SMTP = "{{type: smtp, host: 127.0.0.1, port: {port}, tls: none}}"
REST = {
    "ses": "{{type: ses, region: eu-west-1, access_key_id: AKIAIOSFODNN7EXAMPLE, "
    'secret_access_key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY, base_url: "http://127.0.0.1:{port}"}}',
    "postmark": '{{type: postmark, token: 00000000-0000-4000-8000-000000000000, base_url: "http://127.0.0.1:{port}"}}',
}


@dataclass(frozen=True)
class System:
    """A running system: where it takes mail, and its first process."""

    name: str
    port: int
    pid: int

    def cpu(self) -> float:
        """CPU seconds of all its processes so far, ended ones included."""
        fields = (stat.rpartition(")")[2].split() for pid in self._pids() if (stat := _read(f"/proc/{pid}/stat")))
        return sum(sum(map(int, row[11:15])) for row in fields) / _TICKS

    def rss(self, key: str = "VmRSS") -> float:
        """MiB of memory over all its processes; `VmHWM` gives the peak since `reset_peak`."""
        lines = (line for pid in self._pids() for line in _read(f"/proc/{pid}/status").splitlines())
        return sum(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024

    def pss(self) -> float:
        """MiB of memory over all its processes, where what several of them share counts once."""
        lines = (line for pid in self._pids() for line in _read(f"/proc/{pid}/smaps_rollup").splitlines())
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def reset_peak(self) -> None:
        """Let VmHWM start again from what is in use now."""
        for pid in self._pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := _read(f"/proc/{entry}/stat")):
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
        found = [self.pid]
        for pid in found:
            found += children.get(pid, [])
        return found


def missing() -> list[str]:
    """The programs of Debian's postfix package that are not here."""
    return [program for program in NEEDED if shutil.which(program) is None]


def machine(directory: Path) -> str:
    """What was measured on what, in one line; `directory` is where queues and spools are."""
    release = ".".join(platform.release().split(".")[:2])
    postfix = subprocess.run(["postconf", "-h", "mail_version"], capture_output=True, text=True, check=False).stdout.strip()
    cpus = f"{os.cpu_count()} CPUs"
    return f"Python {platform.python_version()}, Postfix {postfix}, Linux {release}, {cpus}, spool and queue on {_file_system(directory)}"


def _file_system(directory: Path) -> str:
    """The kind of file system that `directory` is on."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    above = [(place, kind) for _, place, kind, *_ in mounts if directory.resolve().is_relative_to(place)]
    return max(above, key=lambda mount: len(mount[0]))[1]


def free_port() -> int:
    """A TCP port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_greeting(port: int) -> None:
    """Return once something says 220 on the port; raises TimeoutError."""
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                if connection.recv(4) == b"220 ":
                    connection.sendall(b"QUIT\r\n")
                    connection.recv(100)
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"nothing answers on 127.0.0.1:{port}")


@contextmanager
def postfix(directory: Path, sink: int) -> Iterator[System]:
    """Postfix as a null client that relays to the sink. Needs root."""
    config = directory / "config"
    port = free_port()
    for path in (config, directory / "queue", directory / "data"):
        path.mkdir(parents=True)
    shutil.chown(directory / "data", "postfix")
    (config / "main.cf").write_text(_MAIN_CF.format(directory=directory, sink=sink))
    (config / "master.cf").write_text(_MASTER_CF.format(port=port))
    _postfix(config, "start")
    try:
        wait_for_greeting(port)
        yield System("postfix", port, int((directory / "queue/pid/master.pid").read_text()))
    finally:
        _postfix(config, "stop")


def _postfix(config: Path, verb: str) -> None:
    done = subprocess.run(["postfix", "-c", config, verb], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"postfix {verb}: {done.stderr.strip() or done.returncode}")


@contextmanager
def relay(directory: Path, provider: str) -> Iterator[System]:
    """`relay serve` with one provider, given as YAML in one line."""
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)  # a spool may be there already
    config = directory / "relay.yaml"
    config.write_text(_RELAY_YAML.format(directory=directory, port=port, provider=provider))
    config.chmod(0o600)
    with (directory / "mail.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "relay", "serve", "-c", config], stdout=log, stderr=log)
    try:
        wait_for_greeting(port)
        yield System("relay", port, process.pid)
    except TimeoutError as trouble:
        raise RuntimeError(f"relay did not start:\n{(directory / 'mail.log').read_text()}") from trouble
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read(path: str) -> str:
    """A file of /proc, or "" for a process that is gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
