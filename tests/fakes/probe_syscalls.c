/* Makes every system call by its number, each in a process of its own, and prints what came of it:
   "NUMBER errno E", "NUMBER signal S" or "NUMBER ok". Arguments are all -1, so that what is let through does nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void report(const char *name, long (*attempt)(long), long argument) {
  int pipes[2], status;
  long result[2] = {0, 0};
  if (pipe(pipes)) exit(2);
  pid_t child = fork();
  if (child == 0) {
    close(pipes[0]);
    alarm(2);
    errno = 0;
    result[0] = attempt(argument);
    result[1] = errno;
    if (write(pipes[1], result, sizeof result) < 0) _exit(3);
    _exit(0);
  }
  close(pipes[1]);
  ssize_t got = read(pipes[0], result, sizeof result);
  close(pipes[0]);
  waitpid(child, &status, 0);
  if (got == (ssize_t)sizeof result && result[0] < 0) printf("%s errno %ld\n", name, result[1]);
  else if (got == (ssize_t)sizeof result) printf("%s ok\n", name);
  else if (WIFSIGNALED(status)) printf("%s signal %d\n", name, WTERMSIG(status));
  else printf("%s ok\n", name);
  fflush(stdout);
}

static long by_number(long number) {
  long result = syscall(number, -1L, -1L, -1L, -1L, -1L, -1L);
  /* The one thing that outlives its process: -1 asks msgget for a new queue, and gets one. */
  if (number == SYS_msgget && result >= 0) msgctl(result, IPC_RMID, NULL);
  return result;
}
static long socket_of(long packed) { return socket(packed >> 32, (packed >> 16) & 0xffff, packed & 0xffff); }
static long clone_with(long flags) { return syscall(SYS_clone, flags | SIGCHLD, 0L, 0L, 0L, 0L); }
static long ioctl_with(long request) { return syscall(SYS_ioctl, -1L, request, 0L); }
#ifdef __x86_64__
static long legacy(long number) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number) : "memory");
  if (result < 0) errno = -result;
  return result;
}
#endif

int main(int argc, char **argv) {
  char name[64];
  long most = argc > 1 ? atol(argv[1]) : 600;
  signal(SIGPIPE, SIG_IGN);
  for (long number = 0; number < most; number++) {
    snprintf(name, sizeof name, "%ld", number);
    report(name, by_number, number);
  }
  for (long family = 0; family < 64; family++) {
    snprintf(name, sizeof name, "family-%ld", family);
    report(name, socket_of, family << 32 | SOCK_STREAM << 16);
  }
  report("netlink-0", socket_of, (long)AF_NETLINK << 32 | SOCK_RAW << 16 | 0);
  report("tcp", socket_of, (long)AF_INET << 32 | SOCK_STREAM << 16 | 6);
  report("sctp", socket_of, (long)AF_INET << 32 | SOCK_STREAM << 16 | 132);
  report("dccp6", socket_of, (long)AF_INET6 << 32 | 6L << 16 | 33);
  report("netlink-15", socket_of, (long)AF_NETLINK << 32 | SOCK_RAW << 16 | 15);
  report("clone-plain", clone_with, 0);
  report("clone-newuser", clone_with, CLONE_NEWUSER);
  report("clone-newnet", clone_with, CLONE_NEWNET);
  report("tiocsti", ioctl_with, 0x5412);
  report("tiocsti-high", ioctl_with, 0x5412 | 1L << 32);
  report("tioclinux", ioctl_with, 0x541C);
  report("tcgets", ioctl_with, 0x5401);
#ifdef __x86_64__
  report("legacy-getpid", legacy, 20);
  report("x32-getpid", by_number, 0x40000000 | 39);
  report("x32-execve", by_number, 0x40000000 | 520);
#endif
  return 0;
}
