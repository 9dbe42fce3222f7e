/* A disk that fails, and one that forgets, under one process: preloaded by disk.py.
 *
 * Owns the faults: a rule makes calls on paths below DISK_FAULTS_ROOT fail, and with DISK_FAULTS_SHADOW a second
 * copy of the directory is kept as a power cut would leave it: a file's bytes are in it once a sync of that file
 * succeeded, and a sync that fails drops what was written before it, as the kernel does, which calls those pages clean.
 * Names, and files made shorter, are durable with any sync (ext4's journal). Every other descriptor of a file that
 * failed to sync hears of it once (errseq). Must not know: what the files are.
 *
 * DISK_FAULTS_RULES is read again whenever it changes. A rule is a line:
 *     CALL GLOB SKIP COUNT MS ERRNO FROM TO INODE
 * CALL: sync, write, read, open, create, link, rename, unlink, truncate, mkdir. GLOB: of the path below the root.
 * After SKIP such calls COUNT fail (-1: all), and none any more MS after the first that failed (0: no such end).
 * FROM, TO: bytes that a read or write must touch; INODE: only this one; all 0 for any.
 * What fired is appended to DISK_FAULTS_LOG.
 *
 *     cc -shared -fPIC -O2 -o disk_faults.so disk_faults.c -ldl -pthread
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define RULES 64
#define BUCKETS 4096
#define FDS 65536
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct rule { char call[16], glob[256]; long skip, count, ms; int error; long long from, to; unsigned long ino; double first; };
struct file { unsigned long ino; long gen; unsigned char *dirty; size_t pages; long long cut; long errors; struct file *next; };

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[RULES];
static int rule_count;
static struct timespec rules_seen;
static struct file *files[BUCKETS];
static long fd_seen[FDS];
static char root[4096];
static const char *shadow, *log_path, *rules_path;
static int names_changed = 1;
static long generation;
static __thread int inside;

static int (*r_open64)(const char *, int, ...), (*r_openat64)(int, const char *, int, ...);
static ssize_t (*r_pwrite)(int, const void *, size_t, off_t), (*r_pread)(int, void *, size_t, off_t);
static ssize_t (*r_write)(int, const void *, size_t), (*r_read)(int, void *, size_t);
static ssize_t (*r_writev)(int, const struct iovec *, int);
static int (*r_fsync)(int), (*r_fdatasync)(int), (*r_ftruncate)(int, off_t);
static int (*r_rename)(const char *, const char *), (*r_unlink)(const char *), (*r_unlinkat)(int, const char *, int);
static int (*r_linkat)(int, const char *, int, const char *, int), (*r_mkdir)(const char *, mode_t);

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static const char *below(const char *path) {
    size_t n = strlen(root);
    if (!n || strncmp(path, root, n)) return NULL;
    if (!path[n]) return ".";
    return path[n] == '/' ? path + n + 1 : NULL;
}

static const char *of_fd(int fd, char *buffer, size_t len) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, buffer, len - 1);
    if (n <= 0) return NULL;
    buffer[n] = 0;
    char *gone = strstr(buffer, " (deleted)");
    if (gone) *gone = 0;
    return below(buffer);
}

static void load(void) {
    struct stat s;
    if (!rules_path || stat(rules_path, &s)) { rule_count = 0; return; }
    if (s.st_mtim.tv_sec == rules_seen.tv_sec && s.st_mtim.tv_nsec == rules_seen.tv_nsec) return;
    rules_seen = s.st_mtim;
    rule_count = 0;
    FILE *f = fopen(rules_path, "r");
    if (!f) return;
    char line[512];
    while (rule_count < RULES && fgets(line, sizeof line, f)) {
        struct rule *r = &rules[rule_count];
        memset(r, 0, sizeof *r);
        if (sscanf(line, "%15s %255s %ld %ld %ld %d %lld %lld %lu", r->call, r->glob, &r->skip, &r->count, &r->ms,
                   &r->error, &r->from, &r->to, &r->ino) == 9) rule_count++;
    }
    fclose(f);
}

/* The error that this call is to have, or 0. */
static int fault(const char *call, const char *path, long long at, long long len, unsigned long ino) {
    int error = 0, saved = errno;
    pthread_mutex_lock(&guard);
    load();
    for (int i = 0; i < rule_count && !error; i++) {
        struct rule *r = &rules[i];
        if (strcmp(r->call, call) || fnmatch(r->glob, path, 0) || (r->ino && r->ino != ino)) continue;
        if (r->to && (at >= r->to || at + len <= r->from)) continue;
        if (r->skip > 0) { r->skip--; continue; }
        if (!r->count || (r->first && r->ms && now() - r->first > r->ms)) continue;
        if (r->count > 0) r->count--;
        if (!r->first) r->first = now();
        error = r->error;
    }
    pthread_mutex_unlock(&guard);
    if (error && log_path) {
        char line[512];
        int n = snprintf(line, sizeof line, "%.1f %s %s at=%lld len=%lld errno=%d\n", now(), call, path, at, len, error);
        int fd = r_open64(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd >= 0) { if (r_write(fd, line, n) < 0) {} close(fd); }
    }
    errno = saved;
    return error;
}

static unsigned long ino_of(int fd) {
    struct stat s;
    return fstat(fd, &s) ? 0 : s.st_ino;
}

/* The copy. */

static struct file *find(unsigned long ino, int make) {
    struct file **at = &files[ino % BUCKETS];
    for (; *at; at = &(*at)->next) if ((*at)->ino == ino) return *at;
    if (!make) return NULL;
    struct file *f = calloc(1, sizeof *f);
    f->ino = ino;
    f->gen = ++generation;
    f->cut = -1;
    return *at = f;
}

static int copy_of(struct file *f) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%lu.%ld", shadow, f->ino, f->gen);
    return r_open64(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static void dirty(int fd, long long at, long long len) {
    if (!shadow || len <= 0) return;
    pthread_mutex_lock(&guard);
    struct file *f = find(ino_of(fd), 1);
    size_t last = (at + len - 1) / PAGE;
    if (last >= f->pages) {
        size_t pages = last + 256;
        f->dirty = realloc(f->dirty, pages);
        memset(f->dirty + f->pages, 0, pages - f->pages);
        f->pages = pages;
    }
    memset(f->dirty + at / PAGE, 1, last - at / PAGE + 1);
    pthread_mutex_unlock(&guard);
}

static void write_names(FILE *out, const char *directory, const char *prefix) {
    DIR *d = opendir(directory);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char path[8192], name[8192];
        struct stat s;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        snprintf(name, sizeof name, "%s%s", prefix, e->d_name);
        if (lstat(path, &s)) continue;
        if (S_ISDIR(s.st_mode)) {
            fprintf(out, "d %s\n", name);
            strcat(name, "/");
            write_names(out, path, name);
        } else {
            struct file *f = find(s.st_ino, 1);
            fprintf(out, "f %s %lu.%ld\n", name, f->ino, f->gen);
        }
    }
    closedir(d);
}

static void journal(void) {
    for (int b = 0; b < BUCKETS; b++)
        for (struct file *f = files[b]; f; f = f->next)
            if (f->cut >= 0) {
                int out = copy_of(f);
                struct stat s;
                if (out >= 0 && !fstat(out, &s) && s.st_size > f->cut && r_ftruncate(out, f->cut)) {}
                close(out);
                f->cut = -1;
            }
    if (!names_changed) return;
    names_changed = 0;
    char path[4200], whole[4200];
    snprintf(path, sizeof path, "%s/names.new", shadow);
    snprintf(whole, sizeof whole, "%s/names", shadow);
    FILE *out = fopen(path, "w");
    if (!out) return;
    write_names(out, root, "");
    fclose(out);
    r_rename(path, whole);
}

static void synced(int fd) {
    struct stat s;
    pthread_mutex_lock(&guard);
    if (!fstat(fd, &s) && S_ISREG(s.st_mode)) {
        struct file *f = find(s.st_ino, 1);
        int out = copy_of(f);
        char link[64], page[PAGE];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int in = r_open64(link, O_RDONLY | O_CLOEXEC);
        for (size_t p = 0; p < f->pages; p++) {
            if (!f->dirty[p]) continue;
            f->dirty[p] = 0;
            ssize_t n = r_pread(in, page, PAGE, (off_t)p * PAGE);
            if (n > 0 && r_pwrite(out, page, n, (off_t)p * PAGE) < 0) {}
        }
        if (r_ftruncate(out, s.st_size)) {}
        f->cut = -1;
        close(in);
        close(out);
    }
    journal();
    pthread_mutex_unlock(&guard);
}

static void dropped(int fd) {
    pthread_mutex_lock(&guard);
    struct file *f = find(ino_of(fd), 1);
    if (f->dirty) memset(f->dirty, 0, f->pages);
    f->errors++;
    if (fd < FDS) fd_seen[fd] = f->errors;
    pthread_mutex_unlock(&guard);
}

/* Whether this descriptor still has to hear of a sync that failed on another one. */
static int must_hear(int fd) {
    int told = 0;
    pthread_mutex_lock(&guard);
    struct file *f = find(ino_of(fd), 0);
    if (f && fd < FDS && fd_seen[fd] < f->errors) { fd_seen[fd] = f->errors; told = 1; }
    pthread_mutex_unlock(&guard);
    return told;
}

static void is_open(int fd, int is_new) {
    if (fd < 0 || fd >= FDS) return;
    pthread_mutex_lock(&guard);
    unsigned long ino = ino_of(fd);
    struct file *f = find(ino, is_new);
    if (f && is_new) {
        f->gen = ++generation;
        f->pages = 0;
        free(f->dirty);
        f->dirty = NULL;
        f->cut = -1;
        f->errors = 0;
        names_changed = 1;
    }
    fd_seen[fd] = f ? f->errors : 0;
    pthread_mutex_unlock(&guard);
}

static void take_over(const char *directory) {
    DIR *d = opendir(directory);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char path[8192];
        struct stat s;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        if (lstat(path, &s)) continue;
        if (S_ISDIR(s.st_mode)) take_over(path);
        else {
            int in = r_open64(path, O_RDONLY | O_CLOEXEC), out = copy_of(find(s.st_ino, 1));
            char page[1 << 16];
            for (ssize_t n; (n = r_read(in, page, sizeof page)) > 0;) if (r_write(out, page, n) < 0) break;
            close(in);
            close(out);
        }
    }
    closedir(d);
}

__attribute__((constructor)) static void begin(void) {
    r_open64 = REAL(open64); r_openat64 = REAL(openat64);
    r_pwrite = (void *)REAL(pwrite64); r_pread = (void *)REAL(pread64); r_write = REAL(write); r_read = REAL(read);
    r_writev = REAL(writev); r_fsync = REAL(fsync); r_fdatasync = REAL(fdatasync);
    r_ftruncate = (void *)REAL(ftruncate64); r_rename = REAL(rename); r_unlink = REAL(unlink);
    r_unlinkat = REAL(unlinkat); r_linkat = REAL(linkat); r_mkdir = REAL(mkdir);
    const char *r = getenv("DISK_FAULTS_ROOT");
    if (r && !realpath(r, root)) root[0] = 0;
    shadow = getenv("DISK_FAULTS_SHADOW");
    rules_path = getenv("DISK_FAULTS_RULES");
    log_path = getenv("DISK_FAULTS_LOG");
    inside = 1;
    if (shadow && root[0]) { take_over(root); journal(); }
    inside = 0;
}

/* The calls. */

static int opened(const char *path, int flags, int fd, int existed) {
    if (fd >= 0 && below(path)) is_open(fd, (flags & O_CREAT) && !existed);
    return fd;
}

static int refuse(const char *call, const char *path) {
    const char *name = inside ? NULL : below(path);
    struct stat s;
    unsigned long ino = name && !lstat(path, &s) ? s.st_ino : 0;
    int error = name ? fault(call, name, 0, 0, ino) : 0;
    if (error) errno = error;
    return error;
}

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    if (inside || !below(path)) return r_open64(path, flags, mode);
    int existed = !access(path, F_OK);
    if (refuse(existed ? "open" : "create", path)) return -1;
    return opened(path, flags, r_open64(path, flags, mode), existed);
}
int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return open64(path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return r_openat64(at, path, flags, mode);
}

#define FD_FAULT(call, fd, at, len) do { \
    char buffer[4200]; \
    const char *name = inside ? NULL : of_fd(fd, buffer, sizeof buffer); \
    if (name) { \
        ours = 1; \
        int error = fault(call, name, at, len, ino_of(fd)); \
        if (error) { errno = error; return -1; } \
    } } while (0)

ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t at) {
    int ours = 0;
    FD_FAULT("write", fd, at, (long long)len);
    ssize_t n = r_pwrite(fd, bytes, len, at);
    if (ours) dirty(fd, at, n);
    return n;
}
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return pwrite64(fd, bytes, len, at); }
ssize_t write(int fd, const void *bytes, size_t len) {
    int ours = 0;
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (at < 0) return r_write(fd, bytes, len);
    FD_FAULT("write", fd, at, (long long)len);
    ssize_t n = r_write(fd, bytes, len);
    if (ours) dirty(fd, at, n);
    return n;
}
ssize_t writev(int fd, const struct iovec *v, int count) {
    int ours = 0;
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (at < 0) return r_writev(fd, v, count);
    FD_FAULT("write", fd, at, 1);
    ssize_t n = r_writev(fd, v, count);
    if (ours) dirty(fd, at, n);
    return n;
}
ssize_t pread64(int fd, void *bytes, size_t len, off_t at) {
    int ours = 0;
    FD_FAULT("read", fd, at, (long long)len);
    (void)ours;
    return r_pread(fd, bytes, len, at);
}
ssize_t pread(int fd, void *bytes, size_t len, off_t at) { return pread64(fd, bytes, len, at); }
ssize_t read(int fd, void *bytes, size_t len) {
    int ours = 0;
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (at < 0) return r_read(fd, bytes, len);
    FD_FAULT("read", fd, at, (long long)len);
    (void)ours;
    return r_read(fd, bytes, len);
}

static int sync_it(int fd, int (*real)(int)) {
    char buffer[4200];
    const char *name = inside ? NULL : of_fd(fd, buffer, sizeof buffer);
    if (!name) return real(fd);
    int error = fault("sync", name, 0, 0, ino_of(fd));
    if (error) { dropped(fd); errno = error; return -1; }
    if (must_hear(fd)) { errno = EIO; return -1; }
    /* The process is killed, not the machine: what the copy has is all that counts. */
    if (shadow) { inside = 1; synced(fd); inside = 0; return 0; }
    return real(fd);
}
int fsync(int fd) { return sync_it(fd, r_fsync); }
int fdatasync(int fd) { return sync_it(fd, r_fdatasync); }

int ftruncate64(int fd, off_t len) {
    int ours = 0;
    FD_FAULT("truncate", fd, len, 1);
    int done = r_ftruncate(fd, len);
    if (!done && ours && shadow) {
        pthread_mutex_lock(&guard);
        struct file *f = find(ino_of(fd), 1);
        if (f->cut < 0 || f->cut > len) f->cut = len;
        pthread_mutex_unlock(&guard);
    }
    return done;
}
int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

static int changed(int done) {
    if (!done) names_changed = 1;
    return done;
}
int rename(const char *from, const char *to) { return refuse("rename", from) ? -1 : changed(r_rename(from, to)); }
int unlink(const char *path) { return refuse("unlink", path) ? -1 : changed(r_unlink(path)); }
int unlinkat(int at, const char *path, int flags) {
    return refuse("unlink", path) ? -1 : changed(r_unlinkat(at, path, flags));
}
int linkat(int at, const char *from, int to_at, const char *to, int flags) {
    return refuse("link", from) ? -1 : changed(r_linkat(at, from, to_at, to, flags));
}
int mkdir(const char *path, mode_t mode) { return refuse("mkdir", path) ? -1 : changed(r_mkdir(path, mode)); }
