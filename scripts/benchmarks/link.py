"""A network link with a round trip of its own, between two network namespaces that are made and removed here.

Real TCP crosses it, with its windows and its slow start, which no relay of streams shows. A process carries packets
between a TUN device in each namespace and holds each back for half of the round trip. It passes segments on unsplit, as
a network card with offload does, so that two cores carry a gigabyte a second. (``tc netem`` would need a module that
small kernels do not have.) Its addresses are of the kind that means this machine, since a client may insist on TLS
for all others; the namespaces' own loopback devices stay down.

Needs root. Run as a program, this module is that process: ``link.py DELAY_S FIRST_NAMESPACE SECOND_NAMESPACE``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_NAMESPACES = Path("/run/netns")
_DEVICE = "jobfs0"
_MTU = 1500
_PACKET_BYTES = 70_000
"""A whole unsplit segment with its headers."""

# include/uapi/linux/if_tun.h
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a link."""

    namespace: str
    address: str

    @property
    def entering(self) -> list[str]:
        """What to put before a command to have it run at this end; its mounts are seen by everybody."""
        return ["nsenter", f"--net={_NAMESPACES / self.namespace}"]


@contextmanager
def shaped_link(round_trip_s: float) -> Iterator[tuple[Side, Side]]:
    """Make a link; yields its near and its far side.

    :raises PermissionError: not root.
    """
    if os.geteuid() != 0:
        raise PermissionError("a link between network namespaces needs root")
    near, far = Side(f"jobfs-near-{os.getpid()}", "127.213.0.1"), Side(f"jobfs-far-{os.getpid()}", "127.213.0.2")
    with ExitStack() as stack:
        for side in (near, far):
            _run("ip", "netns", "add", side.namespace)
            stack.callback(_run, "ip", "netns", "delete", side.namespace)
        carrier = subprocess.Popen(
            [sys.executable, __file__, str(round_trip_s / 2), near.namespace, far.namespace],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stack.callback(_end, carrier)
        if carrier.stdin is None or carrier.stdout is None or not carrier.stdout.readline():
            raise OSError("the link could not be made")
        for side in (near, far):
            _run(*side.entering, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
            _run(*side.entering, "ip", "address", "add", f"{side.address}/24", "dev", _DEVICE)
            _run(*side.entering, "ip", "link", "set", _DEVICE, "mtu", str(_MTU), "txqueuelen", "10000", "up")
        carrier.stdin.write(b"go\n")  # a device that is not up yet would refuse what the other one says at once
        carrier.stdin.flush()
        yield near, far


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _end(carrier: subprocess.Popen[bytes]) -> None:
    if carrier.stdin is not None:
        carrier.stdin.close()
    carrier.wait()


# -- the carrying process


def _open_device(namespace: str) -> int:
    """Enter a namespace for good and make the device there."""
    descriptor = os.open(_NAMESPACES / namespace, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(descriptor)
    device = os.open("/dev/net/tun", os.O_RDWR)
    request = struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
    fcntl.ioctl(device, _TUNSETIFF, request)
    fcntl.ioctl(device, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return device


def _carry(source: int, sink: int, delay_s: float) -> None:
    """Begin to carry packets one way; the order is kept."""
    flying: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def take() -> None:
        while True:
            packet = os.read(source, _PACKET_BYTES)
            flying.put((time.monotonic() + delay_s, packet))

    def give() -> None:
        while True:
            due_s, packet = flying.get()
            left_s = due_s - time.monotonic()
            if left_s > 0:
                time.sleep(left_s)
            os.write(sink, packet)

    for work in (take, give):
        threading.Thread(target=work, daemon=True).start()


def main() -> int:
    delay_s, *namespaces = sys.argv[1:]
    near, far = [_open_device(namespace) for namespace in namespaces]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if not sys.stdin.buffer.readline():
        return 1
    _carry(near, far, float(delay_s))
    _carry(far, near, float(delay_s))
    sys.stdin.buffer.read()
    os._exit(0)  # its threads wait for packets that nobody sends any more


if __name__ == "__main__":
    sys.exit(main())
