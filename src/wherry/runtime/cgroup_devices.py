"""The list of devices: what its ordered rules come to, for version 1 as lines, for version 2 as a program.

The rules are those of version 1's kernel code, which runc keeps on both: a rule for all (``a``) forgets what was before
and says what holds for devices that no later rule names; others are exceptions from that, each for one type,
number and number, where ``*`` is a number of its own. Before the first rule everything is allowed, as in a new group.
A rule that takes from a wildcard's exception a part is refused: version 1 would silently keep the whole.
Source: Documentation/admin-guide/cgroup-v1/devices.rst, security/device_cgroup.c of Linux 6.12.
"""

from __future__ import annotations

import os

from wherry.core.errors import Unsupported
from wherry.runtime.resources import DeviceRule

_TYPES = {"b": 1, "c": 2}
"""BPF_DEVCG_DEV_*"""
_ACCESS = {"m": 1, "r": 2, "w": 4}
"""BPF_DEVCG_ACC_*"""
_ALL_ACCESS = 7


class DeviceList:
    """What a list of rules comes to.

    Attributes:
        allow: whether a device that no exception names may be used.
        exceptions: (type, major, minor) and the access that is the other way, as letters in the order of ``rwm``.
    """

    def __init__(self, rules: tuple[DeviceRule, ...]) -> None:
        self.allow = True
        self.exceptions: dict[tuple[str, int | None, int | None], str] = {}
        for rule in rules:
            self._add(rule)

    def _add(self, rule: DeviceRule) -> None:
        if rule.type == "a":
            self.allow = rule.allow
            self.exceptions = {}
            return
        key = ("c" if rule.type == "u" else rule.type, rule.major, rule.minor)
        before = self.exceptions.get(key, "")
        if rule.allow != self.allow:
            self.exceptions[key] = "".join(letter for letter in "rwm" if letter in before + rule.access)
            return
        for other, access in self.exceptions.items():
            if other != key and _overlap(other, key) and set(access) & set(rule.access):
                raise Unsupported(
                    f"a rule for {_words(key)} takes a part out of the one for {_words(other)}",
                    where="devices",
                    hint="name each device, or put a rule for all devices first",
                )
        left = "".join(letter for letter in before if letter not in rule.access)
        if left:
            self.exceptions[key] = left
        else:
            self.exceptions.pop(key, None)

    def lines(self) -> tuple[tuple[str, str], ...]:
        """Returns the list as version 1 takes it: (name of the file, line), in order."""
        first = "devices.allow" if self.allow else "devices.deny"
        then = "devices.deny" if self.allow else "devices.allow"
        return (
            (first, "a *:* rwm"),
            *((then, f"{_words(key)} {access}") for key, access in self.exceptions.items()),
        )

    def program(self) -> bytes:
        """Returns the list as a program of type BPF_PROG_TYPE_CGROUP_DEVICE: 1 allows, 0 is EPERM."""
        from wherry.linux import bpf

        i = bpf.instruction
        code = [
            i(bpf.LDX_W, 2, 1, 0),  # struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor
            i(bpf.MOV64_X, 3, 2),
            i(bpf.AND64_K, 2, immediate=0xFFFF),
            i(bpf.RSH64_K, 3, immediate=16),
            i(bpf.LDX_W, 4, 1, 4),
            i(bpf.LDX_W, 5, 1, 8),
        ]
        for (kind, major, minor), access in self.exceptions.items():
            tests = [(2, _TYPES[kind])]
            tests += [(register, value) for register, value in ((4, major), (5, minor)) if value is not None]
            mask = sum(_ACCESS[letter] for letter in access)
            partly = self._partly(mask)
            left = len(tests) + len(partly) + 2
            for register, value in tests:
                left -= 1
                code.append(i(bpf.JMP32_JNE_K, register, 0, left, value))
            for offset, item in enumerate(partly):
                jump = len(partly) - offset + 1 if item[0] in (bpf.JNE_K, bpf.JEQ_K) else 0
                code.append(i(item[0], item[1], item[2], jump, item[3]))
            code += [i(bpf.MOV64_K, 0, immediate=int(not self.allow)), i(bpf.EXIT)]
        return b"".join((*code, i(bpf.MOV64_K, 0, immediate=int(self.allow)), i(bpf.EXIT)))

    def _partly(self, mask: int) -> list[tuple[int, int, int, int]]:
        """Returns instructions that step over an exception unless it covers the access that is asked for.

        An exception that allows must cover all of it, one that denies any of it.
        """
        from wherry.linux import bpf

        if mask == _ALL_ACCESS:
            return []
        copy = (bpf.MOV64_X, 6, 3, 0)
        if self.allow:
            return [copy, (bpf.AND64_K, 6, 0, mask), (bpf.JEQ_K, 6, 0, 0)]
        return [copy, (bpf.AND64_K, 6, 0, ~mask & _ALL_ACCESS), (bpf.JNE_K, 6, 0, 0)]


def write_list(path: str, rules: tuple[DeviceRule, ...]) -> None:
    """Sets the devices of a group of version 1; each of its two files is opened once."""
    found = DeviceList(rules)
    opened: dict[str, int] = {}
    try:
        for name, line in found.lines():
            if name not in opened:
                opened[name] = os.open(f"{path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(opened[name], line.encode())
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror} (writing {line!r})", f"{path}/{name}") from None
    finally:
        for fd in opened.values():
            os.close(fd)


def attach_program(path: str, rules: tuple[DeviceRule, ...]) -> None:
    """Sets the devices of a group of version 2, in the place of what was set before.

    Raises:
        OSError: the kernel, or what it lets this process do, has no such programs.
    """
    from wherry.linux import bpf

    group = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened: list[int] = [group]
    try:
        program = bpf.load_device_program(DeviceList(rules).program())
        opened.append(program)
        before = bpf.attached(group)
        old = [bpf.open_program(number) for number in before]
        opened += old
        if len(old) == 1:
            try:
                bpf.attach(group, program, replace_fd=old[0])
                return
            except OSError:
                pass  # before Linux 5.6: both hold for a moment, which allows less, not more
        bpf.attach(group, program)
        for fd in old:
            bpf.detach(group, fd)
    finally:
        for fd in opened:
            os.close(fd)


def device_line(rule: DeviceRule) -> str:
    """Returns a rule as devices.allow and devices.deny want it: ``c 1:3 rwm``."""
    return f"{_words((rule.type, rule.major, rule.minor))} {rule.access}"


def _words(key: tuple[str, int | None, int | None]) -> str:
    kind, major, minor = key
    return f"{kind} {'*' if major is None else major}:{'*' if minor is None else minor}"


def _overlap(one: tuple[str, int | None, int | None], other: tuple[str, int | None, int | None]) -> bool:
    return one[0] == other[0] and all(
        first is None or second is None or first == second for first, second in zip(one[1:], other[1:], strict=True)
    )
