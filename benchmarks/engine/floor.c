/* The least that a container can cost on this kernel: namespaces, an overlay, proc, a /dev, a new root, and `true`.
 * floor ROOTFS SCRATCH [net]: SCRATCH holds upper, work and merged. No control groups, no filter, no state, no care. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what) { perror(what); return 1; }

int main(int argc, char **argv)
{
	char merged[4096], options[12288];
	int status;
	if (argc < 3) return 2;
	if (unshare(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (argc > 3 ? CLONE_NEWNET : 0))) return fail("unshare");
	pid_t child = fork();
	if (child < 0) return fail("fork");
	if (child) {
		waitpid(child, &status, 0);
		return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) return fail("mount namespace");
	snprintf(merged, sizeof merged, "%s/merged", argv[2]);
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", argv[1], argv[2], argv[2]);
	if (mount("floor", merged, "overlay", 0, options)) return fail("overlay");
	if (chdir(merged)) return fail("chdir");
	if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) return fail("proc");
	if (mount("dev", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k")) return fail("dev");
	if (mknod("dev/null", S_IFCHR | 0666, 1 << 8 | 3)) return fail("null");
	if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) return fail("pivot_root");
	execl("/bin/true", "true", (char *)NULL);
	return fail("exec");
}
