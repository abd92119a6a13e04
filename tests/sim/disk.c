/* A disk that can lose power, between the process and libc (LD_PRELOAD).
 *
 * Every write under the root is kept beside the file until the file is synced, and every name until its directory is.
 * A photograph is a copy of the root as it would be found later: after a kill with everything that was written, after a
 * power cut with what was synced and, of the rest, what chance let through: none, all, or some sectors of each write.
 * Asked by opening a path under /sim-disk/; what is read there is the answer.
 *
 * Nothing is ever really synced: the root is in memory, and time is the simulation's.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SECTOR = 512, FDS = 65536, PATH = 1024, FILES = 4096 };

/* A write that is not synced, or a new length (data == NULL). */
struct pending {
    off_t at;
    size_t length;
    char *data;
    struct pending *next;
};

struct file {
    char path[PATH];    /* as the process sees it; empty: unlinked */
    char durable[PATH]; /* in the directory on disk; empty: not there */
    char *synced;       /* what is on disk */
    size_t size;
    struct pending *first, *last;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static char root[PATH];
static struct file files[FILES];
static int file_count;
static struct file *of_fd[FDS];
static char directory_of_fd[FDS][64];
static long operations, photograph_at = -1;
static char photograph_to[PATH];
static uint64_t seed;
static int power, taken, holding, held, generation;
static long dropped, torn, undone;

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

static uint64_t chance(void) { /* splitmix64 */
    uint64_t mixed = seed += 0x9e3779b97f4a7c15ULL;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return mixed ^ (mixed >> 31);
}

static int within_root(const char *path) {
    size_t length = strlen(root);
    return length > 0 && strncmp(path, root, length) == 0 && path[length] == '/';
}

static struct file *named(const char *path) {
    for (int i = 0; i < file_count; i++)
        if (strcmp(files[i].path, path) == 0) return &files[i];
    return NULL;
}

static struct file *add(const char *path) {
    if (file_count == FILES || strlen(path) >= PATH) abort();
    struct file *file = &files[file_count++];
    memset(file, 0, sizeof *file);
    strcpy(file->path, path);
    return file;
}

static void resize(char **bytes, size_t *size, size_t wanted) {
    *bytes = realloc(*bytes, wanted ? wanted : 1);
    if (*bytes == NULL) abort();
    if (wanted > *size) memset(*bytes + *size, 0, wanted - *size);
    *size = wanted;
}

static void apply(char **bytes, size_t *size, off_t at, const char *data, size_t length) {
    if (at + length > *size) resize(bytes, size, at + length);
    memcpy(*bytes + at, data, length);
}

static void forget(struct file *file) {
    for (struct pending *next, *one = file->first; one; one = next) {
        next = one->next;
        free(one->data);
        free(one);
    }
    file->first = file->last = NULL;
}

static void note(struct file *file, off_t at, const void *data, size_t length) {
    struct pending *one = calloc(1, sizeof *one);
    one->at = at;
    one->length = length;
    if (data) memcpy(one->data = malloc(length), data, length);
    if (file->last) file->last->next = one; else file->first = one;
    file->last = one;
}

static void sync_file(struct file *file) {
    for (struct pending *one = file->first; one; one = one->next) {
        if (one->data) apply(&file->synced, &file->size, one->at, one->data, one->length);
        else resize(&file->synced, &file->size, one->length);
    }
    forget(file);
}

static int is_in(const char *path, const char *directory) {
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && path[length] == '/' && !strchr(path + length + 1, '/');
}

static void sync_directory(const char *path) {
    for (int i = 0; i < file_count; i++) {
        struct file *file = &files[i];
        if (is_in(file->path, path)) strcpy(file->durable, file->path);
        else if (is_in(file->durable, path)) file->durable[0] = 0;
    }
}

static void put(const char *from, const char *bytes, size_t size) {
    char path[2 * PATH];
    snprintf(path, sizeof path, "%s%s", photograph_to, from + strlen(root));
    for (char *slash = path + strlen(photograph_to) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(path, 0700);
    }
    int fd = REAL(open)(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd < 0) abort();
    for (size_t done = 0; done < size;) {
        ssize_t wrote = REAL(write)(fd, bytes + done, size - done);
        if (wrote < 0) abort();
        done += wrote;
    }
    REAL(close)(fd);
}

/* What was written and not synced, as chance has it. */
static void let_through(struct file *file, char **bytes, size_t *size) {
    for (struct pending *one = file->first; one; one = one->next) {
        int all = !power, fate = power ? chance() % 10 : 0;
        if (power && fate < 4) all = 1;
        if (all || (power && fate >= 7 && one->data)) {
            if (!one->data) { resize(bytes, size, one->length); continue; }
            if (all) { apply(bytes, size, one->at, one->data, one->length); continue; }
            /* Sectors are whole, writes are not. */
            torn++;
            for (size_t from = 0; from < one->length;) {
                size_t to = from + SECTOR - (one->at + from) % SECTOR;
                if (to > one->length) to = one->length;
                if (chance() % 2) apply(bytes, size, one->at + from, one->data + from, to - from);
                from = to;
            }
        } else dropped++;
    }
}

static void photograph(void) {
    mkdir(photograph_to, 0700);
    for (int i = 0; i < file_count; i++) {
        struct file *file = &files[i];
        const char *name = file->path;
        if (power && strcmp(file->path, file->durable) != 0 && chance() % 2) {
            name = file->durable;
            undone++;
        }
        size_t length = strlen(name);
        /* What SQLite shares between connections is memory. */
        if (length == 0 || strcmp(name + length - 4, "-shm") == 0) continue;
        char *bytes = NULL;
        size_t size = 0;
        if (file->size) apply(&bytes, &size, 0, file->synced, file->size);
        let_through(file, &bytes, &size);
        put(name, bytes, size);
        free(bytes);
    }
    taken = 1;
    photograph_at = -1;
}

static void operation(void) {
    if (++operations == photograph_at) photograph();
}

/* What lies under the root now is on disk. */
static void adopt(const char *directory) {
    DIR *dir = opendir(directory);
    if (dir == NULL) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[PATH];
        struct stat known;
        if (entry->d_name[0] == '.') continue;
        if (snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) >= PATH) abort();
        if (stat(path, &known) != 0) continue;
        if (S_ISDIR(known.st_mode)) { adopt(path); continue; }
        struct file *file = add(path);
        strcpy(file->durable, path);
        resize(&file->synced, &file->size, known.st_size);
        int fd = REAL(open)(path, O_RDONLY);
        for (size_t done = 0; done < file->size;) {
            ssize_t got = read(fd, file->synced + done, file->size - done);
            if (got <= 0) abort();
            done += got;
        }
        REAL(close)(fd);
    }
    closedir(dir);
}

static void begin(const char *path) {
    for (int i = 0; i < file_count; i++) {
        forget(&files[i]);
        free(files[i].synced);
    }
    file_count = 0;
    memset(of_fd, 0, sizeof of_fd);
    memset(directory_of_fd, 0, sizeof directory_of_fd);
    operations = 0;
    photograph_at = -1;
    holding = taken = 0;
    generation++;
    pthread_cond_broadcast(&moved);
    snprintf(root, sizeof root, "%s", path);
    adopt(root);
}

static int answer(const char *asked) {
    char text[256], path[PATH], kind[16];
    unsigned long long number;
    long at;
    pthread_mutex_lock(&lock);
    if (sscanf(asked, "begin:%1000[^:]", path) == 1) begin(path);
    else if (sscanf(asked, "photograph:%15[^:]:%llu:%ld:%1000[^:]", kind, &number, &at, path) == 4) {
        power = strcmp(kind, "power") == 0;
        seed = number;
        taken = 0;
        dropped = torn = undone = 0;
        snprintf(photograph_to, sizeof photograph_to, "%s", path);
        if (at == 0) photograph(); else photograph_at = operations + at;
    }
    else if (strcmp(asked, "hold") == 0) holding = 1;
    else if (strcmp(asked, "step") == 0) { held = 0; pthread_cond_broadcast(&moved); }
    else if (strcmp(asked, "release") == 0) { holding = held = 0; pthread_cond_broadcast(&moved); }
    snprintf(text, sizeof text, "%d %d %ld %ld %ld", taken, held, dropped, torn, undone);
    pthread_mutex_unlock(&lock);
    int fd = memfd_create("sim-disk", MFD_CLOEXEC);
    if (REAL(write)(fd, text, strlen(text)) < 0) abort();
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static int opened(int fd, const char *path, int flags) {
    if (fd < 0 || fd >= FDS) return fd;
    pthread_mutex_lock(&lock);
    of_fd[fd] = NULL;
    directory_of_fd[fd][0] = 0;
    if (strcmp(path, root) == 0 || within_root(path)) {
        struct stat known;
        if (fstat(fd, &known) == 0 && S_ISDIR(known.st_mode)) {
            /* Directories are told apart by what follows the root. */
            snprintf(directory_of_fd[fd], sizeof directory_of_fd[fd], "%s/", path + strlen(root));
        } else {
            struct file *file = named(path);
            if (file == NULL) file = add(path);
            else if (flags & O_TRUNC) note(file, 0, NULL, 0);
            of_fd[fd] = file;
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name, call)                                              \
    int name(const char *path, int flags, ...) {                      \
        va_list more;                                                 \
        va_start(more, flags);                                        \
        mode_t mode = va_arg(more, mode_t);                           \
        va_end(more);                                                 \
        if (strncmp(path, "/sim-disk/", 10) == 0) return answer(path + 10); \
        return opened(REAL(name)(path, flags, mode), path, flags);    \
    }
OPEN(open, open)
OPEN(open64, open64)

int close(int fd) {
    if (fd >= 0 && fd < FDS) {
        pthread_mutex_lock(&lock);
        of_fd[fd] = NULL;
        directory_of_fd[fd][0] = 0;
        pthread_mutex_unlock(&lock);
    }
    return REAL(close)(fd);
}

static ssize_t wrote(int fd, const void *bytes, size_t count, off_t at, ssize_t (*real)(int, const void *, size_t, off_t)) {
    pthread_mutex_lock(&lock);
    struct file *file = fd >= 0 && fd < FDS ? of_fd[fd] : NULL;
    if (file) operation();
    ssize_t done = real(fd, bytes, count, at);
    if (file && done > 0) note(file, at, bytes, done);
    pthread_mutex_unlock(&lock);
    return done;
}

static ssize_t real_pwrite(int fd, const void *bytes, size_t count, off_t at) { return REAL(pwrite64)(fd, bytes, count, at); }
static ssize_t real_write(int fd, const void *bytes, size_t count, off_t at) { (void) at; return REAL(write)(fd, bytes, count); }

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return wrote(fd, bytes, count, at, real_pwrite); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { return wrote(fd, bytes, count, at, real_pwrite); }
ssize_t write(int fd, const void *bytes, size_t count) {
    if (fd < 0 || fd >= FDS || of_fd[fd] == NULL) return REAL(write)(fd, bytes, count);
    return wrote(fd, bytes, count, lseek(fd, 0, SEEK_CUR), real_write);
}

static int cut(int fd, off_t length) {
    pthread_mutex_lock(&lock);
    struct file *file = fd >= 0 && fd < FDS ? of_fd[fd] : NULL;
    if (file) operation();
    int done = REAL(ftruncate64)(fd, length);
    if (file && done == 0) note(file, 0, NULL, length);
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t length) { return cut(fd, length); }
int ftruncate64(int fd, off64_t length) { return cut(fd, length); }

static int synced(int fd, int (*real)(int)) {
    if (fd < 0 || fd >= FDS) return real(fd);
    pthread_mutex_lock(&lock);
    struct file *file = of_fd[fd];
    int directory = directory_of_fd[fd][0] != 0;
    if (!file && !directory) {
        pthread_mutex_unlock(&lock);
        return real(fd);
    }
    operation();
    if (file) {
        size_t length = strlen(file->path);
        int log = length > 4 && strcmp(file->path + length - 4, "-wal") == 0;
        int now = generation;
        if (holding && log) {
            held = 1;
            pthread_cond_broadcast(&moved);
            while (held && now == generation) pthread_cond_wait(&moved, &lock);
        }
        if (now == generation) sync_file(file);
    } else {
        char path[PATH + 64];
        snprintf(path, sizeof path, "%s%s", root, directory_of_fd[fd]);
        path[strlen(path) - 1] = 0;
        sync_directory(path);
    }
    pthread_mutex_unlock(&lock);
    return 0;
}
int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    struct file *file = within_root(path) ? named(path) : NULL;
    if (file) operation();
    int done = REAL(unlink)(path);
    if (file && done == 0) file->path[0] = 0;
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    struct file *file = within_root(from) ? named(from) : NULL;
    struct file *over = within_root(to) ? named(to) : NULL;
    if (file) operation();
    int done = REAL(rename)(from, to);
    if (file && done == 0) {
        if (over) over->path[0] = 0;
        strcpy(file->path, to);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

/* Pauses between commits are not waited for; longer ones are, as of threads that look around. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *left) {
    if (flags == 0 && request->tv_sec == 0 && request->tv_nsec <= 10 * 1000 * 1000) return 0;
    return REAL(clock_nanosleep)(clock, flags, request, left);
}
int nanosleep(const struct timespec *request, struct timespec *left) {
    if (request->tv_sec == 0 && request->tv_nsec <= 10 * 1000 * 1000) return 0;
    return REAL(nanosleep)(request, left);
}
