"""The parts of virtual machines that are made here: the order of the kernel's modules, and the first root directory."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.support import guest_parts
from tests.support.guests import cpio_entry


def test_a_module_is_loaded_after_those_that_it_needs(tmp_path: Path) -> None:
    for name, code in (
        ("virtio_pci", b"\0license=GPL\0depends=virtio,virtio-ring\0name=virtio_pci\0"),
        ("virtio", b"\0depends=virtio-ring\0"),
        ("virtio_ring", b"\0depends=\0"),
        ("ext4", b"\0softdep=pre: crypto-crc32c\0depends=\0"),
        ("crc32c_generic", b"\0depends=\0"),
        ("unused", b"\0depends=\0"),
    ):
        (tmp_path / f"{name}.ko").write_bytes(b"\x7fELF" + code)
    guest_parts._copy_modules(tmp_path, tmp_path / "modules")
    assert [path.name for path in sorted((tmp_path / "modules").iterdir())] == [
        "001-virtio_ring.ko",
        "002-virtio.ko",
        "003-virtio_pci.ko",
        "004-crc32c_generic.ko",
        "005-ext4.ko",
    ]


def test_an_entry_of_the_first_root_directory_is_filled_up_to_a_multiple_of_four() -> None:
    entry = b"".join(cpio_entry(1, b"init", stat.S_IFREG | 0o755, b"#!/bin/sh"))
    assert entry[:14] == b"07070100000001"
    assert entry[14:22] == b"000081ed"
    # The size of the contents, and that of the name with its zero byte.
    assert (int(entry[54:62], 16), int(entry[94:102], 16)) == (9, 5)
    assert entry[110:] == b"init\0" + bytes(1) + b"#!/bin/sh" + bytes(3)
