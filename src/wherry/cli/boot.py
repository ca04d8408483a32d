"""``wherry boot``: a built host, a disk image or a kernel in a virtual machine.

Imports of the machine are inside the functions: ``--help`` needs none of it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.output import note, print_json
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.machine.booting import Order, Result
    from wherry.machine.guest import Guest
    from wherry.machine.words import CutWish

_SIGNAL = 128
_PATH = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Keys: Ctrl-A X ends the machine, Ctrl-A P presses its power button, Ctrl-A H shows all.

\b
Examples:
  wherry boot my-device
  wherry boot disk.img -p 8022:22 --snapshot
  wherry boot disk.img --until 'login:' --timeout 120 --console-log boot.log
  wherry boot --kernel vmlinuz --initramfs initrd.img --append 'quiet panic=1'
  wherry boot disk.img --power-cut 20:torn
  wherry boot disk.img --until 'login:' --save booted; wherry boot --load booted"""
)
@click.argument("target", metavar="[IMAGE|WORKSPACE]", required=False, type=_PATH)
@click.option("--image", "image_name", metavar="NAME", default="", help="Of a workspace: which of its images.")
@click.option("--arch", metavar="ARCH", default="", help="amd64, arm64, armhf ...; by default what the image says.")
@click.option("-M", "--machine", metavar="NAME", default="", help="QEMU's machine: q35, virt, raspi3b, orangepi-pc ...")
@click.option("--cpu", metavar="NAME", default="", help="QEMU's CPU.")
@click.option("--cpus", type=click.IntRange(1, 255), metavar="N", help="How many of them.")
@click.option("-m", "--memory", metavar="SIZE", default="", help="As in 512m or 2g (1g).")
@click.option(
    "--accel", type=click.Choice(["tcg", "kvm"]), default="tcg", show_default=True, help="How QEMU runs code."
)
@click.option("--firmware", metavar="uefi|u-boot|none|FILE", default="", help="What runs first.")
@click.option("--kernel", type=_PATH, metavar="FILE", help="Load a kernel, past any boot loader.")
@click.option("--initramfs", type=_PATH, metavar="FILE", help="With --kernel.")
@click.option("--dtb", type=_PATH, metavar="FILE", help="A device tree, with --kernel.")
@click.option("--append", multiple=True, metavar="WORDS", help="Words for the kernel, with --kernel.")
@click.option("--console", metavar="NAME", default="", help="The kernel's console, as ttyS0.")
@click.option("--drive", "drives", multiple=True, metavar="FILE[:BUS][:ro]", help="A further drive: virtio, sd or usb.")
@click.option("--bus", type=click.Choice(["virtio", "sd", "usb"]), help="How IMAGE itself is attached.")
@click.option("--share", "shares", multiple=True, metavar="DIR[:TAG][:ro]", help="A folder for mount -t 9p TAG.")
@click.option("-p", "--publish", "ports", multiple=True, metavar="[IP:]HOST:GUEST", help="On 127.0.0.1 unless said.")
@click.option("--network/--no-network", default=True, help="User-mode network; on by default.")
@click.option("--snapshot", is_flag=True, help="Throw away what is written.")
@click.option("--save", type=_PATH, metavar="DIR", help="With --until: keep the machine as it is then.")
@click.option("--load", type=_PATH, metavar="DIR", help="Go on from a kept machine.")
@click.option("--graphics", is_flag=True, help="Open a window.")
@click.option("--no-reboot", is_flag=True, help="End when the machine reboots.")
@click.option("--power-cut", "cut", metavar="SECONDS[:MODE]", help="Lose power then; MODE: drop, random, torn[:SEED].")
@click.option("--uml", is_flag=True, help="In user-mode Linux, in place of QEMU.")
@click.option("--until", metavar="TEXT", default="", help="End with 0 when this comes on the console.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), metavar="S", help="End with 12 when nothing comes for so long."
)
@click.option("--time-limit", type=click.FloatRange(min=0.1), metavar="S", help="End with 12 after so long.")
@click.option("--console-log", type=_PATH, metavar="FILE", help="Write what the console prints to a file, too.")
@click.option("--dry-run", is_flag=True, help="Print the command line, and start nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print how it went as JSON, and no console.")
def boot(target: Path | None, **given: Any) -> int:
    """Boot a host's build, a disk image or a kernel in a virtual machine.

    The serial console is this terminal. A workspace (see wherry host) is booted as its board would be: with its
    firmware, its kind of drive, its console; as a program, if it was built for user-mode Linux. Nothing of the machine
    is left behind; ports are open on the loopback address alone.
    """
    from wherry.machine.guest import USER_MODE
    from wherry.machine.session import Interrupted

    order = _order(given)
    guest = _guest(target, given)
    if guest.machine == USER_MODE and not given["uml"]:
        given["uml"] = True
        order = _order(given)
    if given["dry_run"]:
        _print_command(guest, uml=given["uml"], as_json=given["as_json"])
        return 0
    from wherry.machine import booting

    try:
        result = booting.boot(guest, order)
    except Interrupted as error:
        return _SIGNAL + error.number
    _tell(result, order.cut, as_json=given["as_json"])
    return 0


def _order(given: dict[str, Any]) -> Order:
    from wherry.machine.booting import Order
    from wherry.machine.session import Wish
    from wherry.machine.words import parse_cut

    cut = parse_cut(given["cut"]) if given["cut"] else None
    if given["save"] and not given["until"]:
        raise UsageError("--save needs --until", hint="say which text on the console tells that it has booted")
    if given["snapshot"] and cut:
        raise UsageError("--power-cut and --snapshot: what is thrown away loses nothing", hint="leave out one")
    if given["uml"] and (cut or given["save"] or given["load"]):
        raise UsageError("--power-cut, --save and --load are for QEMU", hint="leave out --uml")
    quiet = settings().quiet
    wish = Wish(
        until=given["until"],
        idle_s=given["timeout"],
        limit_s=given["time_limit"],
        log=given["console_log"],
        cut_s=cut.after_s if cut else None,
        show=not given["as_json"],
    )
    return Order(
        wish=wish,
        cut=cut,
        save=given["save"],
        load=given["load"],
        uml=given["uml"],
        note=lambda text: note(f"wherry: {text}", quiet=quiet),
    )


def _guest(target: Path | None, given: dict[str, Any]) -> Guest:
    """Returns the guest that the command line means."""
    from wherry.core.units import parse_size
    from wherry.machine import booting, hosts, words
    from wherry.machine.guest import Bus, Guest
    from wherry.spec.architecture import architecture
    from wherry.spec.host_record import read_host_record

    if given["load"] is not None:
        if target is not None or given["kernel"]:
            raise UsageError("--load brings its own machine", hint="leave out the image")
        guest = booting.read_saved(given["load"])
    elif target is not None and target.is_dir():
        guest = hosts.guest_of(read_host_record(target), target, image=given["image_name"])
    elif target is not None:
        guest = _of_image(target, given)
    elif given["kernel"] or given["uml"]:
        guest = Guest(architecture=_own_architecture(), memory_bytes=parse_size("1g"))
    else:
        raise UsageError("nothing to boot", hint="name an image, a workspace, or --kernel FILE")
    cwd = Path.cwd()
    usual = Bus(given["bus"]) if given["bus"] else guest.drives[0].bus if guest.drives else Bus.VIRTIO
    drives = guest.drives if not given["bus"] else tuple(replace(drive, bus=usual) for drive in guest.drives)
    drives += tuple(words.parse_drive(text, usual=Bus.VIRTIO, cwd=cwd) for text in given["drives"])
    if given["snapshot"]:
        drives = tuple(replace(drive, snapshot=True) for drive in drives)
    guest = replace(
        guest,
        drives=drives,
        shares=tuple(words.parse_share(text, index=index, cwd=cwd) for index, text in enumerate(given["shares"])),
        forwards=tuple(words.parse_forward(text) for text in given["ports"]),
        network=given["network"],
        graphics=given["graphics"],
        accelerator=given["accel"],
        reboot=not given["no_reboot"],
    )
    if given["arch"]:
        guest = replace(guest, architecture=architecture(given["arch"], where="--arch"))
    if given["memory"]:
        guest = replace(guest, memory_bytes=parse_size(given["memory"], where="--memory"))
    own = {key: given[key] for key in ("machine", "cpu", "cpus", "console") if given[key]}
    return _with_boot(replace(guest, **own), given)


def _with_boot(guest: Guest, given: dict[str, Any]) -> Guest:
    """Returns the guest with the kernel or firmware that the command line names."""
    from wherry.machine.guest import Firmware

    wanted = given["firmware"]
    if wanted:
        known = wanted in tuple(Firmware)
        firmware = Firmware(wanted) if known else Firmware.U_BOOT
        file = None if known else Path(wanted)
        # a file of UEFI has a second one for its variables
        if file is not None and file.suffix == ".fd":
            firmware = Firmware.UEFI
        guest = replace(guest, firmware=firmware, firmware_file=file)
        if firmware != Firmware.NONE and not given["kernel"]:
            guest = replace(guest, kernel=None, initramfs=None, device_tree=None, command_line=())
    if given["kernel"]:
        guest = replace(guest, kernel=given["kernel"], initramfs=given["initramfs"], device_tree=given["dtb"])
        if not wanted:
            guest = replace(guest, firmware=Firmware.NONE)
    elif given["uml"]:
        guest = replace(guest, initramfs=given["initramfs"] or guest.initramfs)
    elif given["initramfs"] or given["dtb"]:
        raise UsageError("--initramfs and --dtb go with --kernel")
    more = tuple(word for text in given["append"] for word in text.split())
    if more and guest.kernel is None and not given["uml"]:
        raise UsageError("--append goes with --kernel", hint="a boot loader has the kernel's words in its own files")
    return replace(guest, command_line=(*guest.command_line, *more))


def _of_image(path: Path, given: dict[str, Any]) -> Guest:
    from wherry.core.errors import NotFound
    from wherry.core.units import parse_size
    from wherry.machine.boards import kind_of
    from wherry.machine.guest import Drive, Firmware, Guest
    from wherry.machine.recognising import Recognised, recognise
    from wherry.machine.words import format_of

    if not path.is_file() and not path.is_block_device():
        raise NotFound("no such image or workspace", where=path)
    kind = format_of(path)
    found = recognise(path) if kind == "raw" else Recognised()
    return Guest(
        architecture=found.architecture or _own_architecture(),
        memory_bytes=parse_size("1g"),
        firmware=Firmware.UEFI if found.uefi else Firmware.NONE,
        drives=(Drive(path=path.absolute(), format=kind, bus=kind_of(given["machine"] or "q35").drive),),
    )


def _own_architecture() -> Any:
    import os

    from wherry.spec.architecture import of_machine

    return of_machine(os.uname().machine)


def _print_command(guest: Guest, *, uml: bool, as_json: bool) -> None:
    """Prints the command line, as a person may paste it: the console is on standard input and output."""
    if uml:
        from wherry.machine import launching_uml
        from wherry.machine import uml as user_mode

        wiring = user_mode.Wiring(program=launching_uml.find_program(guest.kernel), folder=Path.cwd(), console_fd=0)
        words = user_mode.command_line(replace(guest, kernel=None), wiring)
    else:
        from wherry.machine import firmware, qemu
        from wherry.machine.guest import Firmware

        file = guest.firmware_file or firmware.find(guest.firmware, guest.architecture.name)
        variables = firmware.UEFI.get(guest.architecture.name) if guest.firmware == Firmware.UEFI else None
        plan = qemu.Wiring(firmware=file, variables=Path(variables.variables) if variables else None)
        words = qemu.command_line(guest, plan)
    if as_json:
        print_json({"command": words})
        return
    from wherry.machine.qemu import shown

    click.echo(shown(words))


def _tell(result: Result, cut: CutWish | None, *, as_json: bool) -> None:
    left = result.left
    if as_json:
        found: dict[str, Any] = {"outcome": result.outcome, "seconds": round(result.seconds, 3)}
        if left is not None and cut is not None:
            found["cut"] = {
                "mode": str(cut.mode),
                "seed": result.seed,
                "unflushed": left.unflushed,
                "kept": left.kept,
                "torn": left.torn,
            }
        print_json(found)
        return
    if left is not None and cut is not None:
        lost = left.unflushed - left.kept - left.torn
        text = (
            f"power cut after {result.seconds:.1f} s: of {left.unflushed} writes that were not flushed {lost} are lost"
        )
        note(f"\nwherry: {text}, {left.torn} torn; again with --power-cut {cut.after_s:g}:{cut.mode}:{result.seed}")
    elif result.outcome == "left":
        note("", quiet=not sys.stderr.isatty())
