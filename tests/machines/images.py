"""Disks for guests: a minimal Debian with its own kernel and the package of this tree, as an image that qemu boots.

Made of a root by debootstrap, which is kept in the cache, by laying a folder over it and installing there as everybody
installs. The image is kept as well, under a key of all that it is made of: any change to this tree makes another one.
What only takes an emulated machine long is done here: the BPF program is compiled, and the initial RAM disk has no more
than it takes to find the disk.
"""

import hashlib
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from roots import CLEAN, make_root, only_one

_INSIDE = Path(__file__).parent / "inside"
_OF_USE_FOR_S = 3600.0
_MADE_WITHIN_S = 600

# $1: the root, $2: a folder to mount in, $3: the package, $4: the agent, $5: where the image goes, $6: the Debian whose
# kernel it has, if not its own.
_MAKE = """
set -e
lower=$1 place=$2 package=$3 agent=$4 made=$5 older=$6
mount -t tmpfs -o mode=755 image "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$place/upper,workdir=$place/work" image "$place/root" ||
    cp --archive --reflink=auto "$lower/." "$place/root"
root=$place/root
mount -t proc proc "$root/proc"

cp "$package" "$root/root/xdropd.deb"
chroot "$root" dpkg --install /root/xdropd.deb
chroot "$root" env PYTHONPATH=/usr/share/xdropd python3 -c '
from pathlib import Path
from xdropd.filter.program import Program
from xdropd.host.statefolder import StateFolder
Program(StateFolder(Path("/var/lib/xdropd"))).blueprint()
'
chroot "$root" chown --recursive _xdropd:_xdropd /var/lib/xdropd

install -D --mode=755 "$agent" "$root/usr/local/lib/agent.py"
cat >"$root/etc/systemd/system/agent.service" <<'UNIT'
[Unit]
Description=Does what the host asks
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/agent.py
[Install]
WantedBy=sysinit.target
UNIT
chroot "$root" systemctl --quiet enable agent.service
for unit in serial-getty@ttyS0.service getty.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# Cards are found in any order: their names go by the addresses that qemu gives them.
for number in 0 1 2 3 4 5; do
    printf '[Match]\\nPermanentMACAddress=52:54:00:12:34:0%s\\n[Link]\\nName=nic%s\\n' $number $number \
        >"$root/etc/systemd/network/10-nic$number.link"
done

if [ -n "$older" ]; then
    cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
    echo "deb http://deb.debian.org/debian $older main" >"$root/etc/apt/sources.list.d/older.list"
    export DEBIAN_FRONTEND=noninteractive
    chroot "$root" apt-get --quiet=2 update
    chroot "$root" apt-get --quiet=2 --yes --allow-downgrades install "linux-image-amd64/$older"
    newer=$(ls "$root/boot" | sed -n 's/^vmlinuz-/linux-image-/p' | sort --version-sort | tail -n 1)
    chroot "$root" apt-get --quiet=2 --yes purge "$newer"
fi
printf 'virtio_pci\\nvirtio_blk\\next4\\n' >"$root/etc/initramfs-tools/modules"
printf 'MODULES=list\\nRESUME=none\\n' >"$root/etc/initramfs-tools/conf.d/guest"
chroot "$root" update-initramfs -u -k all
cp "$root"/boot/vmlinuz-* "$made/kernel"
cp "$root"/boot/initrd.img-* "$made/initrd"
umount "$root/proc"
mke2fs -q -t ext4 -d "$root" "$made/disk" 3G
"""


class Image(NamedTuple):
    """What qemu boots. Nothing writes into any of it."""

    disk: Path
    kernel: Path
    initrd: Path


def make_image(cache: Path, suite: str, package: Path, older: str = "") -> Image:
    """The image of that Debian with that package; made if it is not there yet. `older`: has the kernel of that one."""
    root = make_root(cache, suite, "guest")
    agent = _INSIDE / "agent.py"
    parts = (root.name.encode(), package.read_bytes(), agent.read_bytes(), _MAKE.encode(), older.encode())
    key = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:12]
    folder = cache / f"guest-{older or suite}-{key}"
    with only_one(cache / f"guest-{older or suite}.lock"):
        if not folder.is_dir():
            _forget_others(folder)
            _make(root, package, agent, folder, older)
    folder.touch()  # it is of use
    return Image(folder / "disk", folder / "kernel", folder / "initrd")


def newer_emulator(cache: Path) -> list[str]:
    """The command of Debian 13's qemu, by its own loader and libraries: it knows cards that Debian 12's does not."""
    root = make_root(cache, "trixie", "emulator")
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    firmware = [root / "usr" / folder for folder in ("share/qemu", "share/seabios", "lib/ipxe/qemu")]
    return [
        *("env", f"QEMU_MODULE_DIR={libraries / 'qemu'}"),
        *(str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)),
        str(root / "usr" / "bin" / "qemu-system-x86_64"),
        *(word for folder in firmware for word in ("-L", str(folder))),
    ]


def _forget_others(folder: Path) -> None:
    """They are large, and of older trees. One of another tree that is tested just now is left alone."""
    for other in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
        if time.time() - other.stat().st_mtime > _OF_USE_FOR_S:
            shutil.rmtree(other)


def _make(root: Path, package: Path, agent: Path, folder: Path, older: str) -> None:
    partial = Path(f"{folder}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with tempfile.TemporaryDirectory() as place:
        command = [
            *("unshare", "--mount", "--propagation", "private", *CLEAN),
            *("sh", "-c", _MAKE, "make", str(root), place, str(package), str(agent), str(partial), older),
        ]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_MADE_WITHIN_S, check=False
        )
    if done.returncode:
        raise AssertionError(f"{shlex.join(command[-7:])}\n{done.stdout[-4000:]}")
    partial.rename(folder)
