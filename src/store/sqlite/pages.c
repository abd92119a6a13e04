/*
** Each page of the database carries a sum of itself in its last eight bytes. It is made when the page is written to the
** file, and checked when it is read from there: what a disk changed is an error (SQLITE_IOERR_DATA), and never a row.
**
** SQLite has no such sums of its own; it has a place for them (the reserved bytes of a page), and a layer under which files
** are read and written (a VFS), which is C. This one lies upon the ordinary one. SQLite's own extension for it, cksumvfs,
** changes pages on their way into the write-ahead log after the log's own sums were made, so what a crash leaves in the
** log would not be found again. Here the log is left alone: its frames have sums, which wal.rs looks at.
**
** The file: https://sqlite.org/fileformat2.html 1.3. The layer: https://sqlite.org/vfs.html, "VFS shims".
*/
#include <string.h>

#include "sqlite3.h"

#define SUM_BYTES 8
#define PAGE_BYTES_MIN 512
/* Of the file's header: how many bytes of each page are reserved. */
#define RESERVED_AT 20

/* The ordinary file's own state comes right after. */
typedef struct Checked {
  sqlite3_file base;
  const char *name;
  sqlite3_int64 has_sums;
} Checked;

#define BELOW(file) ((sqlite3_file *)((Checked *)(file) + 1))
#define VFS_BELOW(vfs) ((sqlite3_vfs *)(vfs)->pAppData)

static unsigned word(const unsigned char *at) {
  return at[0] | (unsigned)at[1] << 8 | (unsigned)at[2] << 16 | (unsigned)at[3] << 24;
}

/*
** The sum of the write-ahead log (fileformat2 4.2), begun with the page's number, so that a page that is whole and in the
** wrong place is found, too. Each step can be undone, so no change of one word is ever lost on the way.
*/
static void sum_of(const unsigned char *page, int bytes, sqlite3_int64 offset, unsigned char *sum) {
  unsigned one = (unsigned)(offset / bytes) + 1, two = 0;
  int at;
  for (at = 0; at < bytes - SUM_BYTES; at += 8) {
    one += word(page + at) + two;
    two += word(page + at + 4) + one;
  }
  for (at = 0; at < 4; at++) {
    sum[at] = (unsigned char)(one >> (8 * at));
    sum[at + 4] = (unsigned char)(two >> (8 * at));
  }
}

static int is_zero(const unsigned char *page, int bytes) {
  return page[0] == 0 && memcmp(page, page + 1, (size_t)bytes - 1) == 0;
}

/* A file is what its first page says. */
static void note_header(Checked *self, const unsigned char *bytes, int amount, sqlite3_int64 offset) {
  if (offset == 0 && amount >= 100 && memcmp(bytes, "SQLite format 3", 16) == 0) {
    self->has_sums = bytes[RESERVED_AT] == SUM_BYTES;
  }
}

static int is_page(const Checked *self, int amount, sqlite3_int64 offset) {
  return self->has_sums && amount >= PAGE_BYTES_MIN && offset % amount == 0;
}

static int pages_read(sqlite3_file *file, void *bytes, int amount, sqlite3_int64 offset) {
  Checked *self = (Checked *)file;
  unsigned char sum[SUM_BYTES];
  int rc = BELOW(file)->pMethods->xRead(BELOW(file), bytes, amount, offset);
  if (rc != SQLITE_OK) return rc;
  note_header(self, bytes, amount, offset);
  if (!is_page(self, amount, offset)) return SQLITE_OK;
  sum_of(bytes, amount, offset, sum);
  if (memcmp((unsigned char *)bytes + amount - SUM_BYTES, sum, SUM_BYTES) == 0) return SQLITE_OK;
  /* A page that SQLite has left out so far: the file grew over it. */
  if (is_zero(bytes, amount)) return SQLITE_OK;
  sqlite3_log(SQLITE_IOERR_DATA, "page %lld of %s is not what was written", offset / amount + 1, self->name);
  return SQLITE_IOERR_DATA;
}

static int pages_write(sqlite3_file *file, const void *bytes, int amount, sqlite3_int64 offset) {
  Checked *self = (Checked *)file;
  note_header(self, bytes, amount, offset);
  /* In place: whoever calls has no use for the reserved bytes, and a copy would be one for each page. */
  if (is_page(self, amount, offset)) {
    sum_of(bytes, amount, offset, (unsigned char *)bytes + amount - SUM_BYTES);
  }
  return BELOW(file)->pMethods->xWrite(BELOW(file), bytes, amount, offset);
}

static int pages_control(sqlite3_file *file, int op, void *arg) {
  Checked *self = (Checked *)file;
  char **words = arg;
  if (op == SQLITE_FCNTL_PRAGMA && sqlite3_stricmp(words[1], "page_sums") == 0) {
    words[0] = sqlite3_mprintf("%d", (int)self->has_sums);
    return SQLITE_OK;
  }
  return BELOW(file)->pMethods->xFileControl(BELOW(file), op, arg);
}

/* A page that is mapped into memory is never read. */
static int pages_fetch(sqlite3_file *file, sqlite3_int64 offset, int amount, void **page) {
  (void)file, (void)offset, (void)amount;
  *page = 0;
  return SQLITE_OK;
}

static int pages_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *page) {
  (void)file, (void)offset, (void)page;
  return SQLITE_OK;
}

/* Everything else is the ordinary file's. */
static int pages_close(sqlite3_file *f) { return BELOW(f)->pMethods->xClose(BELOW(f)); }
static int pages_truncate(sqlite3_file *f, sqlite3_int64 size) { return BELOW(f)->pMethods->xTruncate(BELOW(f), size); }
static int pages_sync(sqlite3_file *f, int flags) { return BELOW(f)->pMethods->xSync(BELOW(f), flags); }
static int pages_size(sqlite3_file *f, sqlite3_int64 *size) { return BELOW(f)->pMethods->xFileSize(BELOW(f), size); }
static int pages_lock(sqlite3_file *f, int lock) { return BELOW(f)->pMethods->xLock(BELOW(f), lock); }
static int pages_unlock(sqlite3_file *f, int lock) { return BELOW(f)->pMethods->xUnlock(BELOW(f), lock); }
static int pages_reserved(sqlite3_file *f, int *is) { return BELOW(f)->pMethods->xCheckReservedLock(BELOW(f), is); }
static int pages_sector(sqlite3_file *f) { return BELOW(f)->pMethods->xSectorSize(BELOW(f)); }
static int pages_device(sqlite3_file *f) { return BELOW(f)->pMethods->xDeviceCharacteristics(BELOW(f)); }
static int pages_shm_map(sqlite3_file *f, int page, int bytes, int extend, void volatile **at) {
  return BELOW(f)->pMethods->xShmMap(BELOW(f), page, bytes, extend, at);
}
static int pages_shm_lock(sqlite3_file *f, int from, int count, int flags) {
  return BELOW(f)->pMethods->xShmLock(BELOW(f), from, count, flags);
}
static void pages_shm_barrier(sqlite3_file *f) { BELOW(f)->pMethods->xShmBarrier(BELOW(f)); }
static int pages_shm_unmap(sqlite3_file *f, int remove) { return BELOW(f)->pMethods->xShmUnmap(BELOW(f), remove); }

static const sqlite3_io_methods METHODS = {
    3,           pages_close,   pages_read,     pages_write,    pages_truncate,    pages_sync,      pages_size,
    pages_lock,  pages_unlock,  pages_reserved, pages_control,  pages_sector,      pages_device,    pages_shm_map,
    pages_shm_lock, pages_shm_barrier, pages_shm_unmap, pages_fetch, pages_unfetch,
};

/* Logs, journals and temporary files are opened as they always were. */
static int pages_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *given) {
  sqlite3_vfs *below = VFS_BELOW(vfs);
  Checked *self = (Checked *)file;
  int rc;
  if (!(flags & SQLITE_OPEN_MAIN_DB)) return below->xOpen(below, name, file, flags, given);
  memset(self, 0, sizeof *self);
  rc = below->xOpen(below, name, BELOW(file), flags, given);
  /* Methods say that a file is to be closed, and these need all of those below. */
  if (BELOW(file)->pMethods && BELOW(file)->pMethods->iVersion >= METHODS.iVersion) {
    self->name = name ? name : "a database";
    self->base.pMethods = &METHODS;
  } else if (BELOW(file)->pMethods) {
    BELOW(file)->pMethods->xClose(BELOW(file));
    rc = rc == SQLITE_OK ? SQLITE_CANTOPEN : rc;
  }
  return rc;
}

static sqlite3_vfs over;

/* Databases that are made, or made anew by VACUUM, get the place for the sums. */
static int reserve(sqlite3 *db, char **error, const struct sqlite3_api_routines *api) {
  int bytes = SUM_BYTES;
  (void)error, (void)api;
  sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes);
  return SQLITE_OK;
}

/*
** Before main, and so before any database is opened. SQLite's own way, SQLITE_EXTRA_INIT, would ask it of every program that
** is linked with this SQLite, and so of those without this file, too (benches/load.rs).
*/
__attribute__((constructor)) static void begin(void) {
  sqlite3_vfs *below = sqlite3_vfs_find(0);
  if (below == 0) return;
  /* Of the functions of the ordinary layer, only the one that opens a file looks at which layer it is called on. */
  over = *below;
  over.zName = "switchboard-pages";
  over.szOsFile = (int)sizeof(Checked) + below->szOsFile;
  over.pNext = 0;
  over.pAppData = below;
  over.xOpen = pages_open;
  /* One of them alone is found at the first start: no database is opened without sums (damage.rs). */
  if (sqlite3_vfs_register(&over, 1) == SQLITE_OK) sqlite3_auto_extension((void (*)(void))reserve);
}
