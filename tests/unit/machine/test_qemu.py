"""QEMU's command line for each architecture and machine; what cannot be is refused before QEMU is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wherry.core.errors import InvalidInput, Unsupported
from wherry.machine import qemu
from wherry.machine.boards import PROCESSORS, kind_of
from wherry.machine.guest import MIB, Bus, Channel, Drive, Firmware, Forward, Guest, Share
from wherry.spec.architecture import architecture


def guest(name: str = "amd64", **more: Any) -> Guest:
    return Guest(architecture=architecture(name), **more)


def line(of: Guest, **wires: Any) -> list[str]:
    return qemu.command_line(of, qemu.Wiring(**wires))


def after(words: list[str], option: str) -> list[str]:
    """Returns the words behind each occurrence of an option."""
    return [words[index + 1] for index, word in enumerate(words) if word == option]


@pytest.mark.parametrize("name", PROCESSORS)
def test_each_architecture_has_its_program_and_never_kvm(name: str) -> None:
    words = line(guest(name))
    assert words[0] == PROCESSORS[name].program
    assert after(words, "-accel") == ["tcg"]
    # 32-bit kernels without LPAE do not reach PCI above 4 GiB
    assert after(words, "-M") == [PROCESSORS[name].machine + (",highmem=off" if name == "armhf" else "")]
    assert "-nodefaults" in words
    assert "-no-user-config" in words
    assert after(words, "-display") == ["none"]
    assert not any("kvm" in word for word in words)


@pytest.mark.parametrize(
    ("name", "machine", "console"),
    [
        ("amd64", "", "ttyS0"),
        ("arm64", "", "ttyAMA0"),
        ("armhf", "", "ttyAMA0"),
        ("riscv64", "", "ttyS0"),
        ("arm64", "raspi3b", "ttyAMA0"),
        ("armhf", "orangepi-pc", "ttyS0"),
    ],
)
def test_the_kernel_is_told_its_console(name: str, machine: str, console: str) -> None:
    of = guest(name, machine=machine, kernel=Path("/k"), initramfs=Path("/i"), command_line=("quiet", "panic=1"))
    words = line(of)
    assert after(words, "-append") == [f"console={console} quiet panic=1"]
    assert after(words, "-initrd") == ["/i"]
    own = replace(of, command_line=("console=tty7",))
    assert after(line(own), "-append") == ["console=tty7"]


def test_firmware_comes_as_the_machine_takes_it() -> None:
    files = {"firmware": Path("/code,1.fd"), "variables": Path("/vars.fd")}
    drives = after(line(guest(firmware=Firmware.UEFI), console_fd=5, **files), "-drive")
    assert drives == [
        "if=pflash,unit=0,format=raw,readonly=on,file=/code,,1.fd",
        "if=pflash,unit=1,format=raw,file=/vars.fd",
    ]
    shown = after(line(guest(firmware=Firmware.UEFI), **files), "-drive")
    assert shown[1] == "if=pflash,unit=1,format=raw,file=/vars.fd,snapshot=on"
    assert after(line(guest("arm64", firmware=Firmware.U_BOOT), firmware=Path("/u")), "-bios") == ["/u"]
    board = guest("arm64", machine="raspi3b", firmware=Firmware.U_BOOT)
    assert after(line(board, firmware=Path("/u")), "-kernel") == ["/u"]


def test_drives() -> None:
    drives = (
        Drive(path=Path("/a b,c.img")),
        Drive(path=Path("/usb.img"), bus=Bus.USB, read_only=True),
        Drive(path=Path("/q.qcow2"), format="qcow2", snapshot=True),
        Drive(path=Path("/s.sock"), format="nbd"),
    )
    words = line(guest(drives=drives))
    assert after(words, "-drive") == [
        "if=none,id=drive0,file=/a b,,c.img,format=raw",
        "if=none,id=drive1,file=/usb.img,format=raw,readonly=on",
        "if=none,id=drive2,file=/q.qcow2,format=qcow2,snapshot=on",
        "if=none,id=drive3,file.driver=nbd,file.server.type=unix,file.server.path=/s.sock,format=raw",
    ]
    # 0 is what QEMU gives a kernel that it loads itself
    assert "virtio-blk-pci,drive=drive0,bootindex=1" in words
    assert words.count("qemu-xhci,id=usb-drives") == 1


@pytest.mark.parametrize("machine", ["raspi3b", "orangepi-pc"])
def test_a_board_has_its_card_and_just_its_memory(machine: str) -> None:
    of = guest(
        "arm64" if machine == "raspi3b" else "armhf",
        machine=machine,
        memory_bytes=64 * MIB,
        cpus=1,
        drives=(Drive(path=Path("/sd.img"), bus=Bus.SD),),
    )
    words = line(of)
    assert after(words, "-drive") == ["if=sd,index=0,file=/sd.img,format=raw"]
    assert after(words, "-m") == ["1024M"]
    assert after(words, "-smp") == ["4"]
    assert "-cpu" not in words
    assert not any("pci" in word for word in words)
    assert kind_of(machine).drive == Bus.SD


def test_ports_and_network() -> None:
    forwards = (Forward(guest_port=22, host_port=8022), Forward(guest_port=53, host_port=53, protocol="udp"))
    assert after(line(guest(forwards=forwards)), "-netdev") == [
        "user,hostfwd=tcp:127.0.0.1:8022-:22,hostfwd=udp:127.0.0.1:53-:53,id=net0"
    ]
    nic = after(line(guest("armhf", machine="orangepi-pc", forwards=forwards[:1])), "-nic")
    assert nic == ["user,hostfwd=tcp:127.0.0.1:8022-:22,model=allwinner-sun8i-emac"]
    assert "usb-net,netdev=net0" in line(guest("arm64", machine="raspi3b"))
    assert "-netdev" not in line(guest(network=False))
    with pytest.raises(InvalidInput):
        line(guest(network=False, forwards=forwards))


def test_shares_channels_and_wires() -> None:
    of = guest(
        shares=(Share(path=Path("/x,y"), tag="data", read_only=True),),
        channels=(Channel(name="stdin"), Channel(name="stdout")),
        terminal=True,
    )
    words = line(of, channel_fds=(7, 8), terminal_fd=9, console_fd=5, qmp_fd=6, incoming_fd=10)
    assert after(words, "-fsdev") == ["local,id=share0,path=/x,,y,security_model=none,multidevs=remap,readonly=on"]
    assert "virtio-9p-pci,fsdev=share0,mount_tag=data" in words
    assert "virtserialport,chardev=channel1,bus=channels.0,name=stdout" in words
    assert after(words, "-incoming") == ["fd:10"]
    assert after(words, "-serial") == ["chardev:console"]
    assert after(line(guest()), "-serial") == ["mon:stdio"]
    with pytest.raises(InvalidInput, match="sockets for 1"):
        line(of, channel_fds=(7,), terminal_fd=9)
    with pytest.raises(InvalidInput, match="terminal"):
        line(of, channel_fds=(7, 8))


def test_watchdog_and_reboots() -> None:
    assert "i6300esb" in line(guest())
    assert "i6300esb" not in line(guest(watchdog=False))
    assert "-no-reboot" in line(guest(reboot=False))
    assert "-no-reboot" not in line(guest())


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"cpus": 0}, InvalidInput),
        ({"cpus": 300}, InvalidInput),
        ({"memory_bytes": 1}, InvalidInput),
        ({"initramfs": Path("/i")}, InvalidInput),
        ({"machine": "raspi3b", "shares": (Share(path=Path("/x"), tag="x"),)}, Unsupported),
        ({"machine": "raspi3b", "drives": (Drive(path=Path("/x")),)}, Unsupported),
        ({"machine": "raspi3ap", "forwards": (Forward(guest_port=1, host_port=1),)}, Unsupported),
        ({"drives": (Drive(path=Path("/x"), bus=Bus.UBD),)}, Unsupported),
        ({"drives": (Drive(path=Path("/x\n")),)}, InvalidInput),
        ({"shares": (Share(path=Path("/x"), tag="a,b"),)}, InvalidInput),
        ({"shares": (Share(path=Path("/x"), tag="a" * 32),)}, InvalidInput),
        ({"shares": (Share(path=Path("/x"), tag=""),)}, InvalidInput),
    ],
)
def test_what_cannot_be(more: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        line(guest("arm64", **more))


def test_shown_for_people() -> None:
    assert qemu.shown(["qemu", "-append", "a b", "-snapshot"]) == "qemu \\\n  -append 'a b' \\\n  -snapshot"
