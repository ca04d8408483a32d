"""A `Spec` written as the JSON of a ``config.json``: for other runtimes, for people, and for the state of a container.

What has its default is left out, so that the result reads like one that a person wrote. ``config.py`` reads it back.
"""

from __future__ import annotations

from wherry.runtime.spec import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from wherry.runtime.resources import Resources, Throttle
    from wherry.runtime.spec import Hooks, IdMapping, Process, Spec

_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def serialize_config(spec: Spec, root_path: str) -> dict[str, Any]:
    """Returns a specification as the JSON value of a ``config.json``."""
    return _given(
        ociVersion=OCI_VERSION,
        root={"path": root_path, "readonly": spec.root_read_only},
        process=serialize_process(spec.process),
        hostname=spec.hostname,
        domainname=spec.domainname,
        mounts=[
            _given(
                destination=item.destination,
                type=item.type,
                source=item.source,
                options=list(item.options),
                uidMappings=_mappings(item.uid_mappings),
                gidMappings=_mappings(item.gid_mappings),
            )
            for item in spec.mounts
        ],
        hooks=serialize_hooks(spec.hooks),
        linux=_linux(spec),
        annotations=dict(spec.annotations),
    )


def _linux(spec: Spec) -> dict[str, Any]:
    seccomp = None
    if spec.seccomp is not None:
        from wherry.runtime import config_seccomp

        seccomp = config_seccomp.serialize(spec.seccomp)
    rdt = spec.intel_rdt
    return _given(
        namespaces=[_given(type=name, path=path) for name, path in spec.namespaces.items()],
        uidMappings=_mappings(spec.uid_mappings),
        gidMappings=_mappings(spec.gid_mappings),
        timeOffsets={
            clock: {"secs": offset.secs, "nanosecs": offset.nanosecs} for clock, offset in spec.time_offsets.items()
        },
        resources=serialize_resources(spec.resources),
        cgroupsPath=spec.cgroups_path,
        rootfsPropagation=spec.rootfs_propagation,
        devices=[
            {
                "path": item.path,
                "type": item.type,
                "major": item.major,
                "minor": item.minor,
                "fileMode": item.file_mode,
                "uid": item.uid,
                "gid": item.gid,
            }
            for item in spec.devices
        ],
        maskedPaths=list(spec.masked_paths),
        readonlyPaths=list(spec.readonly_paths),
        mountLabel=spec.mount_label,
        sysctl=dict(spec.sysctl),
        seccomp=seccomp,
        personality=None if spec.personality is None else {"domain": spec.personality.domain},
        intelRdt=None
        if rdt is None
        else _given(
            closID=rdt.clos_id,
            l3CacheSchema=rdt.l3_cache_schema,
            memBwSchema=rdt.mem_bw_schema,
            enableCMT=rdt.enable_cmt or None,
            enableMBM=rdt.enable_mbm or None,
        ),
    )


def serialize_process(process: Process) -> dict[str, Any]:
    """Returns a process as its JSON value."""
    scheduler, sets = process.scheduler, process.capabilities
    return {
        "user": {
            "uid": process.uid,
            "gid": process.gid,
            **_given(additionalGids=list(process.additional_gids), umask=process.umask),
        },
        "noNewPrivileges": process.no_new_privileges,
        "terminal": process.terminal,
        **_given(
            args=list(process.args),
            env=list(process.env),
            cwd=process.cwd,
            capabilities={name: list(getattr(sets, name)) for name in _SETS if getattr(sets, name)},
            rlimits=[{"type": item.type, "soft": item.soft, "hard": item.hard} for item in process.rlimits],
            oomScoreAdj=process.oom_score_adj,
            consoleSize={"height": process.console_rows, "width": process.console_columns}
            if process.terminal
            else None,
            scheduler=None
            if scheduler is None
            else {
                "policy": scheduler.policy,
                **_numbers(
                    nice=scheduler.nice,
                    priority=scheduler.priority,
                    runtime=scheduler.runtime_ns,
                    deadline=scheduler.deadline_ns,
                    period=scheduler.period_ns,
                ),
                **_given(flags=list(scheduler.flags)),
            },
            ioPriority=None
            if process.io_priority is None
            else {"class": process.io_priority.io_class, "priority": process.io_priority.priority},
            execCPUAffinity=_given(initial=process.cpu_affinity_initial, final=process.cpu_affinity_final),
            apparmorProfile=process.apparmor_profile,
            selinuxLabel=process.selinux_label,
        ),
    }


def serialize_hooks(hooks: Hooks) -> dict[str, Any]:
    """Returns hooks as their JSON value."""
    return _given(
        **{
            key: [
                _given(path=hook.path, args=list(hook.args), env=list(hook.env), timeout=hook.timeout_s)
                for hook in point
            ]
            for key, point in (
                ("prestart", hooks.prestart),
                ("createRuntime", hooks.create_runtime),
                ("createContainer", hooks.create_container),
                ("startContainer", hooks.start_container),
                ("poststart", hooks.poststart),
                ("poststop", hooks.poststop),
            )
        }
    )


def serialize_resources(limits: Resources) -> dict[str, Any]:
    """Returns limits as their JSON value."""
    return _given(
        memory=_given(
            limit=limits.memory_limit_bytes,
            reservation=limits.memory_reservation_bytes,
            swap=limits.memory_swap_bytes,
            kernel=limits.memory_kernel_bytes,
            kernelTCP=limits.memory_kernel_tcp_bytes,
            swappiness=limits.memory_swappiness,
            disableOOMKiller=limits.memory_disable_oom_killer,
            useHierarchy=limits.memory_use_hierarchy,
            checkBeforeUpdate=limits.memory_check_before_update or None,
        ),
        cpu=_given(
            shares=limits.cpu_shares,
            quota=limits.cpu_quota_us,
            burst=limits.cpu_burst_us,
            period=limits.cpu_period_us,
            realtimeRuntime=limits.cpu_realtime_runtime_us,
            realtimePeriod=limits.cpu_realtime_period_us,
            idle=limits.cpu_idle,
            cpus=limits.cpuset_cpus,
            mems=limits.cpuset_mems,
        ),
        pids=_given(limit=limits.pids_limit),
        blockIO=_given(
            weight=limits.block_weight,
            leafWeight=limits.block_leaf_weight,
            weightDevice=[
                _given(major=item.major, minor=item.minor, weight=item.weight, leafWeight=item.leaf_weight)
                for item in limits.block_device_weights
            ],
            throttleReadBpsDevice=_throttles(limits.block_read_bytes),
            throttleWriteBpsDevice=_throttles(limits.block_write_bytes),
            throttleReadIOPSDevice=_throttles(limits.block_read_operations),
            throttleWriteIOPSDevice=_throttles(limits.block_write_operations),
        ),
        hugepageLimits=[{"pageSize": item.page_size, "limit": item.limit_bytes} for item in limits.hugepages],
        network=_given(
            classID=limits.network_class_id,
            priorities=[{"name": item.name, "priority": item.priority} for item in limits.network_priorities],
        ),
        rdma={
            name: _given(hcaHandles=item.hca_handles, hcaObjects=item.hca_objects) for name, item in limits.rdma.items()
        },
        unified=dict(limits.unified),
        devices=[
            {
                "allow": rule.allow,
                "access": rule.access,
                **_given(type=rule.type, major=rule.major, minor=rule.minor),
            }
            for rule in limits.devices
        ],
    )


def _mappings(mappings: Iterable[IdMapping]) -> list[dict[str, int]]:
    return [{"containerID": item.container_id, "hostID": item.host_id, "size": item.size} for item in mappings]


def _throttles(items: Iterable[Throttle]) -> list[dict[str, int]]:
    return [{"major": item.major, "minor": item.minor, "rate": item.rate} for item in items]


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value not in ("", [], {})}


def _numbers(**values: int) -> dict[str, int]:
    return {key: value for key, value in values.items() if value}
