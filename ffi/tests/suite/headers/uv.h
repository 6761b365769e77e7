typedef int uv_file, uv_os_sock_t; typedef unsigned int uv_uid_t, uv_gid_t;
typedef struct uv_loop_s uv_loop_t; typedef struct uv_handle_s uv_handle_t; typedef struct uv_timer_s uv_timer_t;
typedef struct uv_req_s uv_req_t; typedef struct uv_work_s uv_work_t; typedef struct uv_stream_s uv_stream_t;
typedef struct uv_process_s uv_process_t; typedef struct uv_async_s uv_async_t;
typedef enum { UV_UNKNOWN_HANDLE, UV_ASYNC, UV_CHECK, UV_FS_EVENT, UV_FS_POLL, UV_HANDLE, UV_IDLE, UV_NAMED_PIPE, UV_POLL,
  UV_PREPARE, UV_PROCESS, UV_STREAM, UV_TCP, UV_TIMER, UV_TTY, UV_UDP, UV_SIGNAL, UV_FILE, UV_HANDLE_TYPE_MAX } uv_handle_type;
typedef enum { UV_UNKNOWN_REQ, UV_REQ, UV_CONNECT, UV_WRITE, UV_SHUTDOWN, UV_UDP_SEND, UV_FS, UV_WORK } uv_req_type;
typedef enum { UV_RUN_DEFAULT, UV_RUN_ONCE, UV_RUN_NOWAIT } uv_run_mode;
typedef enum { UV_DIRENT_UNKNOWN, UV_DIRENT_FILE, UV_DIRENT_DIR, UV_DIRENT_LINK } uv_dirent_type_t;
typedef enum { UV_IGNORE = 0, UV_CREATE_PIPE = 1 << 0, UV_INHERIT_FD = 1 << 1, UV_INHERIT_STREAM = 1 << 2 } uv_stdio_flags;
typedef struct { char *base; size_t len; } uv_buf_t;
typedef struct { long tv_sec, tv_nsec; } uv_timespec_t; typedef struct { long tv_sec, tv_usec; } uv_timeval_t;
typedef struct { int64_t tv_sec; int32_t tv_usec; } uv_timeval64_t;
typedef struct {
  uint64_t st_dev, st_mode, st_nlink, st_uid, st_gid, st_rdev, st_ino, st_size, st_blksize, st_blocks, st_flags, st_gen;
  uv_timespec_t st_atim, st_mtim, st_ctim, st_birthtim;
} uv_stat_t;
typedef struct { uv_timeval_t ru_utime, ru_stime; uint64_t ru_maxrss, ru_rest[12], ru_nivcsw; } uv_rusage_t;
struct sockaddr_in { unsigned short sin_family, sin_port; uint32_t sin_addr; unsigned char sin_zero[8]; };
struct sockaddr_in6 { unsigned short sin6_family, sin6_port; uint32_t sin6_flowinfo; uint8_t sin6_addr[16]; uint32_t sin6_scope_id; }
  __attribute__((aligned(4)));
typedef struct {
  char *name; char phys_addr[6]; int is_internal;
  union { struct sockaddr_in address4; struct sockaddr_in6 address6; } address;
  union { struct sockaddr_in netmask4; struct sockaddr_in6 netmask6; } netmask;
} uv_interface_address_t;
typedef struct { char *model; int speed; struct uv_cpu_times_s { uint64_t user, nice, sys, idle, irq; } cpu_times; } uv_cpu_info_t;
typedef struct { const char *name; uv_dirent_type_t type; } uv_dirent_t;
typedef struct { char *username; unsigned long uid, gid; char *shell, *homedir; } uv_passwd_t;
typedef struct { char sysname[256], release[256], version[256], machine[256]; } uv_utsname_t;
typedef struct { uint64_t f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_spare[4]; } uv_statfs_t;
typedef void (*uv_close_cb)(uv_handle_t *); typedef void (*uv_timer_cb)(uv_timer_t *);
typedef void (*uv_work_cb)(uv_work_t *); typedef void (*uv_after_work_cb)(uv_work_t *, int status);
typedef void (*uv_exit_cb)(uv_process_t *, int64_t exit_status, int term_signal);
typedef void (*uv_walk_cb)(uv_handle_t *, void *arg);
struct uv_handle_s {
  void *data; uv_loop_t *loop; uv_handle_type type; uv_close_cb close_cb; void *handle_queue[2];
  union { int fd; void *reserved[4]; } u; uv_handle_t *next_closing; unsigned int flags;
};
struct uv_timer_s {
  void *data; uv_loop_t *loop; uv_handle_type type; uv_close_cb close_cb; void *handle_queue[2];
  union { int fd; void *reserved[4]; } u; uv_handle_t *next_closing; unsigned int flags;
  uv_timer_cb timer_cb; void *heap_node[3]; uint64_t timeout, repeat, start_id;
};
struct uv_req_s { void *data; uv_req_type type; void *reserved[6]; };
struct uv__work { void (*work)(struct uv__work *); void (*done)(struct uv__work *, int); uv_loop_t *loop; void *wq[2]; };
struct uv_work_s {
  void *data; uv_req_type type; void *reserved[6]; uv_loop_t *loop; uv_work_cb work_cb; uv_after_work_cb after_work_cb;
  struct uv__work work_req;
};
typedef struct { uv_stdio_flags flags; union { uv_stream_t *stream; int fd; } data; } uv_stdio_container_t;
typedef struct {
  uv_exit_cb exit_cb; const char *file; char **args, **env; const char *cwd; unsigned int flags; int stdio_count;
  uv_stdio_container_t *stdio; uv_uid_t uid; uv_gid_t gid;
} uv_process_options_t;
const char *uv_version_string(void); const char *uv_strerror(int err); size_t uv_loop_size(void);
size_t uv_handle_size(uv_handle_type); size_t uv_req_size(uv_req_type);
int uv_loop_init(uv_loop_t *); int uv_loop_close(uv_loop_t *); int uv_run(uv_loop_t *, uv_run_mode); uint64_t uv_now(const uv_loop_t *);
int uv_timer_init(uv_loop_t *, uv_timer_t *); int uv_timer_start(uv_timer_t *, uv_timer_cb, uint64_t timeout, uint64_t repeat);
int uv_timer_stop(uv_timer_t *); void uv_close(uv_handle_t *, uv_close_cb); void uv_walk(uv_loop_t *, uv_walk_cb, void *arg);
uv_buf_t uv_buf_init(char *base, unsigned int len); int uv_ip4_addr(const char *ip, int port, struct sockaddr_in *addr);
int uv_os_uname(uv_utsname_t *); uint64_t uv_hrtime(void); int uv_ip4_name(const struct sockaddr_in *, char *dst, size_t size);
