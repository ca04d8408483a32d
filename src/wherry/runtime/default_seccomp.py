"""The default system call filter: docker's, in Wherry's own words, as groups of calls with the reason for each.

What is not named gets EPERM. Left out on purpose, and so refused to everyone: keyrings (not namespaced), io_uring,
userfaultfd, kexec, swap, NFS and obsolete calls, and pivot_root.
Source: moby/profiles, seccomp/default.json (docker 28); tests/compat compares the outcome for every call with the
profile that containers-common ships.
"""

from __future__ import annotations

import errno

from wherry.linux.seccomp_profile import ALLOW, Condition, Op, Profile, Rule, error

_FILES = """
access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat listmount listxattr listxattrat llistxattr _llseek
lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat
openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
removexattr removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64
statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink
unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
"""
_MEMORY = """
brk getrandom madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake io_cancel io_destroy io_getevents io_pgetevents
io_pgetevents_time64 io_setup io_submit _newselect pause poll ppoll ppoll_time64 pselect6 pselect6_time64 select
signalfd signalfd4
"""
_PROCESSES = """
capget capset execve execveat exit exit_group fork getcpu getegid getegid32 geteuid geteuid32 getgid getgid32
getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid getresuid32 getrlimit
get_robust_list getrusage getsid get_thread_area gettid getuid getuid32 ioprio_get ioprio_set kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease
restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp setfsgid setfsgid32 setfsuid
setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid setresgid32
setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid set_thread_area set_tid_address setuid
setuid32 sigaltstack sigprocmask sigreturn sysinfo tgkill tkill ugetrlimit uname uretprobe vfork wait4 waitid waitpid
"""
_SOCKETS = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
"""
_SYSTEM_V_AND_QUEUES = """
ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
"""
_TIME = """
adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64 times
"""
_OTHER_PROCESSES = "process_vm_readv process_vm_writev ptrace"
"""Safe from Linux 4.8 on, where a tracer cannot get around a filter any more."""
_OF_ONE_ARCHITECTURE = """
arch_prctl modify_ldt
arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls
riscv_flush_icache riscv_hwprobe
"""
_ALWAYS = " ".join(
    (
        _FILES,
        _MEMORY,
        _WAITING,
        _PROCESSES,
        _SOCKETS,
        _SYSTEM_V_AND_QUEUES,
        _TIME,
        _OTHER_PROCESSES,
        _OF_ONE_ARCHITECTURE,
    )
)

_WITH_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr perf_event_open
        quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
        """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
"""What a capability is for is allowed to those who have it; the kernel checks it again."""

_SOCKET_FAMILIES = ((0, 11), (13, 18), (21, 22), (24, 24), (26, 33), (35, 36), (39, 39), (41, 45))
"""First and last of each range of allowed families. Left out: AF_VSOCK (40), which reaches the hypervisor past every
network namespace; AF_ALG (38), the kernel's own ciphers; and dead ones. They are allowed rather than forbidden by
number, as the kernel looks at 32 bits of the argument and the filter at 64."""
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX and PER_LINUX32, each also with UNAME26; and the question which one it is."""
_ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64")
"""A program of 32 bits runs on a machine of 64."""
_MAX_BLOCK = 64
_ALL_BITS = 0xFFFFFFFFFFFFFFFF
_CLONE_NAMESPACES = 0x7E020000
"""Every CLONE_NEW* flag of clone(2)."""


def profile(capabilities: frozenset[str]) -> Profile:
    """Returns the default filter for a container.

    Args:
        capabilities: its bounding set, by names such as ``CAP_CHOWN``.
    """
    rules = [
        Rule(names=tuple(_ALWAYS.split()), action=ALLOW),
        *(_when("socket", value, mask) for span in _SOCKET_FAMILIES for value, mask in _blocks(*span)),
        *(_when("personality", value, _ALL_BITS) for value in _PERSONALITIES),
    ]
    for capability, names in _WITH_CAPABILITY.items():
        if capability in capabilities:
            rules.append(Rule(names=tuple(names.split()), action=ALLOW))
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(_when("clone", 0, _CLONE_NAMESPACES))
        # Its flags are in memory, where a filter cannot look; with ENOSYS the C library falls back to clone.
        rules.append(Rule(names=("clone3",), action=error(errno.ENOSYS)))
    return Profile(default_action=error(errno.EPERM), rules=tuple(rules), architectures=_ARCHITECTURES)


def _when(name: str, value: int, mask: int) -> Rule:
    """Returns the rule that allows a call when the masked bits of its first argument have a value."""
    return Rule(
        names=(name,), action=ALLOW, conditions=(Condition(argument=0, op=Op.MASKED_EQ, value=value, mask=mask),)
    )


def _blocks(first: int, last: int) -> list[tuple[int, int]]:
    """Returns (value, mask) of the aligned blocks of numbers that make up a range.

    A range as two conditions on one argument would mean "or" to other runtimes (see `config_seccomp`).
    """
    blocks = []
    while first <= last:
        size = first & -first or _MAX_BLOCK
        while first + size - 1 > last:
            size >>= 1
        blocks.append((first, _ALL_BITS & ~(size - 1)))
        first += size
    return blocks
