"""The default policy says what docker's says, or forbids more."""

from __future__ import annotations

from pathlib import Path

from wherry.runtime import default

# moby/moby, daemon/pkg/oci/defaults.go and caps/defaults.go, of version 28 and later.
DOCKER_MASKED = frozenset(
    f"/proc/{name}"
    for name in (
        *("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list"),
        "timer_stats",
    )
) | {"/sys/devices/virtual/powercap", "/sys/firmware"}
DOCKER_READONLY = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
DOCKER_CAPABILITIES = {
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"),
        *("NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
    )
}


def test_paths_and_capabilities_are_at_least_as_tight_as_dockers() -> None:
    assert set(default.MASKED_PATHS) >= DOCKER_MASKED
    assert set(default.READONLY_PATHS) >= DOCKER_READONLY
    assert set(default.CAPABILITIES) <= DOCKER_CAPABILITIES
    assert not default.capabilities().inheritable
    assert not default.capabilities().ambient


def test_the_heat_of_each_processor_is_masked(tmp_path: Path) -> None:
    for name in ("cpu0/thermal_throttle", "cpu12/thermal_throttle", "cpu1/cache", "cpufreq/thermal_throttle"):
        (tmp_path / name).mkdir(parents=True)
    found = default.masked_paths(str(tmp_path))
    assert found == (
        *default.MASKED_PATHS,
        f"{tmp_path}/cpu0/thermal_throttle",
        f"{tmp_path}/cpu12/thermal_throttle",
    )
    assert default.masked_paths(str(tmp_path / "none")) == default.MASKED_PATHS
