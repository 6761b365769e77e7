typedef struct sqlite3 sqlite3; typedef struct sqlite3_stmt sqlite3_stmt; typedef struct sqlite3_context sqlite3_context;
typedef struct Mem sqlite3_value; typedef long long int sqlite3_int64; typedef unsigned long long int sqlite3_uint64;
typedef struct sqlite3_vfs sqlite3_vfs; typedef struct sqlite3_file sqlite3_file; typedef void (*sqlite3_syscall_ptr)(void);
typedef struct sqlite3_vtab sqlite3_vtab; typedef struct sqlite3_module sqlite3_module;
typedef struct sqlite3_vtab_cursor sqlite3_vtab_cursor; typedef struct sqlite3_index_info sqlite3_index_info;
struct sqlite3_mem_methods {
  void *(*xMalloc)(int); void (*xFree)(void *); void *(*xRealloc)(void *, int); int (*xSize)(void *); int (*xRoundup)(int);
  int (*xInit)(void *); void (*xShutdown)(void *); void *pAppData;
};
struct sqlite3_vfs {
  int iVersion, szOsFile, mxPathname; sqlite3_vfs *pNext; const char *zName; void *pAppData;
  int (*xOpen)(sqlite3_vfs *, const char *zName, sqlite3_file *, int flags, int *pOutFlags);
  int (*xDelete)(sqlite3_vfs *, const char *, int); int (*xAccess)(sqlite3_vfs *, const char *, int, int *);
  int (*xFullPathname)(sqlite3_vfs *, const char *, int, char *); void *(*xDlOpen)(sqlite3_vfs *, const char *);
  void (*xDlError)(sqlite3_vfs *, int, char *); void (*(*xDlSym)(sqlite3_vfs *, void *, const char *))(void);
  void (*xDlClose)(sqlite3_vfs *, void *); int (*xRandomness)(sqlite3_vfs *, int, char *); int (*xSleep)(sqlite3_vfs *, int);
  int (*xCurrentTime)(sqlite3_vfs *, double *); int (*xGetLastError)(sqlite3_vfs *, int, char *);
  int (*xCurrentTimeInt64)(sqlite3_vfs *, sqlite3_int64 *); int (*xSetSystemCall)(sqlite3_vfs *, const char *, sqlite3_syscall_ptr);
  sqlite3_syscall_ptr (*xGetSystemCall)(sqlite3_vfs *, const char *); const char *(*xNextSystemCall)(sqlite3_vfs *, const char *);
};
struct sqlite3_module {
  int iVersion;
  int (*xCreate)(sqlite3 *, void *, int, const char *const *argv, sqlite3_vtab **, char **);
  int (*xConnect)(sqlite3 *, void *, int, const char *const *argv, sqlite3_vtab **, char **);
  int (*xBestIndex)(sqlite3_vtab *, sqlite3_index_info *); int (*xDisconnect)(sqlite3_vtab *); int (*xDestroy)(sqlite3_vtab *);
  int (*xOpen)(sqlite3_vtab *, sqlite3_vtab_cursor **); int (*xClose)(sqlite3_vtab_cursor *);
  int (*xFilter)(sqlite3_vtab_cursor *, int, const char *, int, sqlite3_value **); int (*xNext)(sqlite3_vtab_cursor *);
  int (*xEof)(sqlite3_vtab_cursor *); int (*xColumn)(sqlite3_vtab_cursor *, sqlite3_context *, int);
  int (*xRowid)(sqlite3_vtab_cursor *, sqlite3_int64 *); int (*xUpdate)(sqlite3_vtab *, int, sqlite3_value **, sqlite3_int64 *);
  int (*xTransaction[4])(sqlite3_vtab *);
  int (*xFindFunction)(sqlite3_vtab *, int, const char *, void (**)(sqlite3_context *, int, sqlite3_value **), void **);
  int (*xRename)(sqlite3_vtab *, const char *); int (*xSavepoint)(sqlite3_vtab *, int); int (*xRelease)(sqlite3_vtab *, int);
  int (*xRollbackTo)(sqlite3_vtab *, int); int (*xShadowName)(const char *);
};
struct sqlite3_index_info {
  int nConstraint;
  struct sqlite3_index_constraint { int iColumn; unsigned char op, usable; int iTermOffset; } *aConstraint;
  int nOrderBy; struct sqlite3_index_orderby { int iColumn; unsigned char desc; } *aOrderBy;
  struct sqlite3_index_constraint_usage { int argvIndex; unsigned char omit; } *aConstraintUsage;
  int idxNum; char *idxStr; int needToFreeIdxStr, orderByConsumed; double estimatedCost; sqlite3_int64 estimatedRows;
  int idxFlags; sqlite3_uint64 colUsed;
};
struct sqlite3_vtab { const sqlite3_module *pModule; int nRef; char *zErrMsg; };
enum { SQLITE_OK, SQLITE_ERROR, SQLITE_BUSY = 5, SQLITE_MISUSE = 21, SQLITE_ROW = 100, SQLITE_DONE };
enum { SQLITE_INTEGER = 1, SQLITE_FLOAT, SQLITE_TEXT, SQLITE_BLOB, SQLITE_NULL };
enum { SQLITE_OPEN_READONLY = 0x1, SQLITE_OPEN_READWRITE = 0x2, SQLITE_OPEN_CREATE = 0x4, SQLITE_UTF8 = 1 };
int sqlite3_open_v2(const char *, sqlite3 **, int flags, const char *zVfs); int sqlite3_close_v2(sqlite3 *);
int sqlite3_prepare_v2(sqlite3 *, const char *, int, sqlite3_stmt **, const char **); int sqlite3_step(sqlite3_stmt *);
int sqlite3_bind_text(sqlite3_stmt *, int, const char *, int, void (*)(void *)); int sqlite3_bind_int64(sqlite3_stmt *, int, sqlite3_int64);
int sqlite3_bind_blob(sqlite3_stmt *, int, const void *, int n, void (*)(void *)); int sqlite3_finalize(sqlite3_stmt *);
const unsigned char *sqlite3_column_text(sqlite3_stmt *, int iCol); int sqlite3_column_type(sqlite3_stmt *, int iCol);
int sqlite3_create_function_v2(sqlite3 *, const char *, int nArg, int eTextRep, void *,
  void (*xFunc)(sqlite3_context *, int, sqlite3_value **), void (*xStep)(sqlite3_context *, int, sqlite3_value **),
  void (*xFinal)(sqlite3_context *), void (*xDestroy)(void *));
void sqlite3_result_int64(sqlite3_context *, sqlite3_int64); sqlite3_int64 sqlite3_value_int64(sqlite3_value *);
