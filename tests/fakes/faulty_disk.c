/*
 * A disk that keeps what was synced and nothing else, loaded before the C library (LD_PRELOAD).
 *
 * What is beneath the root has a second life in the store: `i/KEY` is a file as it was at its last fsync or fdatasync,
 * `d/KEY` a directory's names as they were at its last fsync. KEY is the inode's number and the moment of its birth, so
 * that a number which is given again is another file. After a power cut the tree is made anew from the store alone: a
 * file whose directory was not synced is not there, one that was not synced itself is empty, a rename that was not synced
 * did not happen. This is stricter than most file systems, and what POSIX promises.
 *
 * The page `control` says what goes wrong meanwhile: calls that fail, a wall clock that is elsewhere, and the call at
 * which a process group is killed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* As `Control` in faulty_disk.py packs it. */
struct control {
  long long clock_offset_ns;
  int fail_errno;
  int fail_calls;
  char fail_path[128];
  int kill_group;
  int kill_call;
  int kill_after;
  int kill_countdown;
  char kill_path[128];
  int killed;
  int failed;
};

enum { SYNC = 1, WRITE = 2, READ = 4, RENAME = 8, UNLINK = 16 };

static struct control quiet;
static struct control *control = &quiet;
static char root[PATH_MAX], store[PATH_MAX];
static __thread char whole[64];

#define REAL(name, result, ...)                                        \
  static result (*real)(__VA_ARGS__);                                  \
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void begin(void) {
  const char *where = getenv("FAULTY_DISK_STORE"), *what = getenv("FAULTY_DISK_ROOT");
  if (!where || !what) return;
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/control", where);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (page == MAP_FAILED) return;
  control = page;
  snprintf(store, sizeof store, "%s", where);
  snprintf(root, sizeof root, "%s", what);
}

static int beneath(const char *path) {
  size_t length = strlen(root);
  return length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int named(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return beneath(path);
}

static int named_at(int directory, const char *name, char *path) {
  if (name[0] == '/' || directory == AT_FDCWD) {
    snprintf(path, PATH_MAX, "%s", name);
    return beneath(path);
  }
  if (!named(directory, path)) return 0;
  size_t length = strlen(path);
  snprintf(path + length, PATH_MAX - length, "/%s", name);
  return 1;
}

/* --- what was synced --- */

static int key_of(int fd, const char *name, char *key, struct statx *found) {
  if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, found)) return 0;
  snprintf(key, 64, "%llu-%lld.%09u", (unsigned long long)found->stx_ino, (long long)found->stx_btime.tv_sec,
           found->stx_btime.tv_nsec);
  return 1;
}

static int beside(char *path) {
  static int number;
  snprintf(path, PATH_MAX, "%s/t/%d-%d", store, getpid(), __atomic_add_fetch(&number, 1, __ATOMIC_SEQ_CST));
  return syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

static void put(const char *from, const char *kind, const char *key) {
  char to[PATH_MAX + 160];
  snprintf(to, sizeof to, "%s%s/%s/%s", store, whole, kind, key);
  syscall(SYS_rename, from, to);
}

static void keep_file(int fd, const char *key) {
  char link[64], temporary[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int from = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0), to = beside(temporary);
  if (from >= 0 && to >= 0) {
    char *piece = malloc(1 << 16);
    ssize_t got;
    off_t at = 0;
    while ((got = syscall(SYS_pread64, from, piece, 1 << 16, at)) > 0) {
      /* Zeros are left as a hole: a journal is made full of them. */
      if (piece[0] || memcmp(piece, piece + 1, got - 1)) syscall(SYS_pwrite64, to, piece, got, at);
      at += got;
    }
    syscall(SYS_ftruncate, to, at);
    free(piece);
  }
  if (from >= 0) close(from);
  if (to >= 0) close(to);
  put(temporary, "i", key);
}

static void keep_directory(int fd, const char *key) {
  char temporary[PATH_MAX], link[64], target[PATH_MAX];
  int again = syscall(SYS_openat, fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), to = beside(temporary);
  DIR *all = again >= 0 ? fdopendir(again) : NULL;
  if (all && to >= 0) {
    struct dirent *one;
    while ((one = readdir(all))) {
      struct statx found;
      if (!strcmp(one->d_name, ".") || !strcmp(one->d_name, "..") || !key_of(again, one->d_name, link, &found)) continue;
      ssize_t length = S_ISLNK(found.stx_mode) ? readlinkat(again, one->d_name, target, sizeof target - 1) : 0;
      target[length > 0 ? length : 0] = 0;
      char line[3 * PATH_MAX];
      int size = snprintf(line, sizeof line, "%o %u %u %s %s", found.stx_mode, found.stx_uid, found.stx_gid, link, one->d_name);
      line[size++] = 0;
      size += snprintf(line + size, sizeof line - size, "%s", target);
      line[size++] = 0;
      syscall(SYS_write, to, line, size);
    }
  }
  if (all) closedir(all); else if (again >= 0) close(again);
  if (to >= 0) close(to);
  put(temporary, "d", key);
}

static void keep(int fd) {
  char key[64];
  struct statx found;
  if (!key_of(fd, "", key, &found)) return;
  if (S_ISDIR(found.stx_mode)) keep_directory(fd, key);
  if (S_ISREG(found.stx_mode)) keep_file(fd, key);
}

static void keep_all(int directory) {
  keep(directory);
  int again = syscall(SYS_openat, directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  DIR *all = again >= 0 ? fdopendir(again) : NULL;
  struct dirent *one;
  while (all && (one = readdir(all))) {
    if (!strcmp(one->d_name, ".") || !strcmp(one->d_name, "..")) continue;
    struct stat found;
    if (fstatat(again, one->d_name, &found, AT_SYMLINK_NOFOLLOW)) continue;
    if (!S_ISDIR(found.st_mode) && !S_ISREG(found.st_mode)) continue;
    int fd = syscall(SYS_openat, again, one->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0) continue;
    if (S_ISDIR(found.st_mode)) keep_all(fd); else keep(fd);
    close(fd);
  }
  if (all) closedir(all);
}

static void forget(const char *name) {
  const char *kinds[] = {"i", "d"};
  char path[PATH_MAX + 400];
  for (int kind = 0; kind < 2; kind++) {
    snprintf(path, sizeof path, "%s/%s/%s", store, name, kinds[kind]);
    DIR *all = opendir(path);
    struct dirent *one;
    while (all && (one = readdir(all))) {
      if (one->d_name[0] == '.') continue;
      snprintf(path, sizeof path, "%s/%s/%s/%s", store, name, kinds[kind], one->d_name);
      syscall(SYS_unlink, path);
    }
    if (all) closedir(all);
    snprintf(path, sizeof path, "%s/%s/%s", store, name, kinds[kind]);
    rmdir(path);
  }
  snprintf(path, sizeof path, "%s/%s", store, name);
  rmdir(path);
}

/* What was kept whole before is in what is kept whole now. */
static void forget_older(const char *done) {
  DIR *all = opendir(store);
  struct dirent *one;
  while (all && (one = readdir(all)))
    if (!strncmp(one->d_name, "whole-", 6) && strcmp(one->d_name, strrchr(done, '/') + 1)) forget(one->d_name);
  if (all) closedir(all);
}

/* All of it in one step, as a journal does: whoever is killed in between has synced nothing by it. */
static void keep_whole(void) {
  static int number;
  char half[PATH_MAX + 160], done[PATH_MAX + 160], kind[PATH_MAX + 170];
  int top = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (top < 0) abort(); /* what cannot be read would be taken for what was not synced */
  snprintf(whole, sizeof whole, "/half-%d-%d", getpid(), __atomic_add_fetch(&number, 1, __ATOMIC_SEQ_CST));
  snprintf(half, sizeof half, "%s%s", store, whole);
  snprintf(done, sizeof done, "%s/whole-%s", store, whole + 6);
  mkdir(half, 0777);
  snprintf(kind, sizeof kind, "%s/i", half);
  mkdir(kind, 0777);
  snprintf(kind, sizeof kind, "%s/d", half);
  mkdir(kind, 0777);
  keep_all(top);
  syscall(SYS_rename, half, done);
  whole[0] = 0;
  forget_older(done);
  close(top);
}

/* For the one that prepares a disk: all that is there counts as synced. */
void faulty_disk_keep_all(const char *what, const char *where) {
  snprintf(root, sizeof root, "%s", what);
  snprintf(store, sizeof store, "%s", where);
  int fd = open(what, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) { keep_all(fd); close(fd); }
  root[0] = 0;
}

/* --- what goes wrong --- */

static void reached(int call, const char *path, int after) {
  if (!control->kill_group || control->kill_call != call || control->kill_after != after) return;
  if (control->kill_path[0] && !strstr(path, control->kill_path)) return;
  if (__atomic_sub_fetch(&control->kill_countdown, 1, __ATOMIC_SEQ_CST) != 0) return;
  control->killed = 1;
  kill(control->kill_group, SIGKILL);
  if (control->kill_group < 0) for (;;) pause();
}

static int fails(int call, const char *path) {
  if (!control->fail_errno || !(control->fail_calls & call)) return 0;
  if (control->fail_path[0] && !strstr(path, control->fail_path)) return 0;
  __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
  errno = control->fail_errno;
  return 1;
}

static int watched(int call) {
  return root[0] && ((control->fail_errno && (control->fail_calls & call)) || (control->kill_group && control->kill_call == call));
}

static int synced(int fd) {
  char path[PATH_MAX];
  if (!named(fd, path)) return -2;
  reached(SYNC, path, 0);
  if (fails(SYNC, path)) return -1;
  int before = errno;
  if (!strstr(path, " (deleted)")) keep(fd);
  errno = before;
  reached(SYNC, path, 1);
  return 0;
}

int fsync(int fd) {
  REAL("fsync", int, int);
  int done = root[0] ? synced(fd) : -2;
  return done == -2 ? real(fd) : done;
}

int fdatasync(int fd) {
  REAL("fdatasync", int, int);
  int done = root[0] ? synced(fd) : -2;
  return done == -2 ? real(fd) : done;
}

int syncfs(int fd) {
  REAL("syncfs", int, int);
  char path[PATH_MAX];
  if (!root[0] || !named(fd, path)) return real(fd);
  reached(SYNC, path, 0);
  if (fails(SYNC, path)) return -1;
  keep_whole();
  reached(SYNC, path, 1);
  return 0;
}

#define AROUND(call, fd, type, failed, expression)            \
  char path[PATH_MAX];                                        \
  if (!watched(call) || !named(fd, path)) return expression;  \
  reached(call, path, 0);                                     \
  if (fails(call, path)) return failed;                       \
  type result = expression;                                   \
  reached(call, path, 1);                                     \
  return result

ssize_t write(int fd, const void *data, size_t size) {
  REAL("write", ssize_t, int, const void *, size_t);
  AROUND(WRITE, fd, ssize_t, -1, real(fd, data, size));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  REAL("pwrite", ssize_t, int, const void *, size_t, off_t);
  AROUND(WRITE, fd, ssize_t, -1, real(fd, data, size, at));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
  AROUND(WRITE, fd, ssize_t, -1, real(fd, data, size, at));
}

ssize_t read(int fd, void *data, size_t size) {
  REAL("read", ssize_t, int, void *, size_t);
  AROUND(READ, fd, ssize_t, -1, real(fd, data, size));
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
  REAL("pread64", ssize_t, int, void *, size_t, off64_t);
  AROUND(READ, fd, ssize_t, -1, real(fd, data, size, at));
}

#define AROUND_NAME(call, directory, name, expression)                      \
  char path[PATH_MAX];                                                      \
  if (!watched(call) || !named_at(directory, name, path)) return expression;\
  reached(call, path, 0);                                                   \
  if (fails(call, path)) return -1;                                         \
  int result = expression;                                                  \
  reached(call, path, 1);                                                   \
  return result

int rename(const char *from, const char *to) {
  REAL("rename", int, const char *, const char *);
  AROUND_NAME(RENAME, AT_FDCWD, to, real(from, to));
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
  REAL("renameat", int, int, const char *, int, const char *);
  AROUND_NAME(RENAME, to_directory, to, real(from_directory, from, to_directory, to));
}

int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
  REAL("renameat2", int, int, const char *, int, const char *, unsigned);
  AROUND_NAME(RENAME, to_directory, to, real(from_directory, from, to_directory, to, flags));
}

int unlink(const char *name) {
  REAL("unlink", int, const char *);
  AROUND_NAME(UNLINK, AT_FDCWD, name, real(name));
}

int unlinkat(int directory, const char *name, int flags) {
  REAL("unlinkat", int, int, const char *, int);
  AROUND_NAME(UNLINK, directory, name, real(directory, name, flags));
}

/* --- a wall clock that jumps --- */

int clock_gettime(clockid_t which, struct timespec *now) {
  int result = syscall(SYS_clock_gettime, which, now);
  if (!result && which == CLOCK_REALTIME && control->clock_offset_ns) {
    long long moved = now->tv_sec * 1000000000LL + now->tv_nsec + control->clock_offset_ns;
    now->tv_sec = moved / 1000000000LL;
    now->tv_nsec = moved % 1000000000LL;
  }
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec precise;
  if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *kept) {
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (kept) *kept = precise.tv_sec;
  return precise.tv_sec;
}
