typedef void CURL; typedef void CURLM; typedef int64_t curl_off_t; typedef int curl_socket_t; typedef long time_t;
typedef enum { CURLE_OK, CURLE_UNSUPPORTED_PROTOCOL, CURLE_FAILED_INIT, CURLE_URL_MALFORMAT, CURLE_COULDNT_CONNECT = 7,
  CURLE_WRITE_ERROR = 23, CURLE_OPERATION_TIMEDOUT = 28, CURLE_FILE_COULDNT_READ_FILE = 37 } CURLcode;
enum { CURLOPTTYPE_LONG = 0, CURLOPTTYPE_OBJECTPOINT = 10000, CURLOPTTYPE_FUNCTIONPOINT = 20000, CURLOPTTYPE_OFF_T = 30000 };
typedef enum {
  CURLOPT_WRITEDATA = CURLOPTTYPE_OBJECTPOINT + 1, CURLOPT_URL, CURLOPT_PORT = CURLOPTTYPE_LONG + 3,
  CURLOPT_ERRORBUFFER = CURLOPTTYPE_OBJECTPOINT + 10, CURLOPT_WRITEFUNCTION = CURLOPTTYPE_FUNCTIONPOINT + 11,
  CURLOPT_TIMEOUT = 13, CURLOPT_INFILESIZE_LARGE = CURLOPTTYPE_OFF_T + 115, CURLOPT_NOBODY = 44, CURLOPT_NOPROGRESS = 43,
  CURLOPT_PRIVATE = CURLOPTTYPE_OBJECTPOINT | (7 << 3 | 0x20 | 7) + 8 * 5 } CURLoption;
enum { CURLINFO_STRING = 0x100000, CURLINFO_LONG = 0x200000, CURLINFO_DOUBLE = 3 << 20, CURLINFO_SLIST = 1 << 22,
  CURLINFO_OFF_T = 0x600000 };
typedef enum { CURLINFO_EFFECTIVE_URL = CURLINFO_STRING + 1, CURLINFO_RESPONSE_CODE = CURLINFO_LONG + 2,
  CURLINFO_TOTAL_TIME = CURLINFO_DOUBLE + 3, CURLINFO_SIZE_DOWNLOAD_T = CURLINFO_OFF_T + 8 } CURLINFO;
typedef enum { CURLVERSION_FIRST, CURLVERSION_SECOND, CURLVERSION_THIRD, CURLVERSION_FOURTH } CURLversion;
typedef enum { CURLMSG_NONE, CURLMSG_DONE } CURLMSG;
typedef enum { CURLFILETYPE_FILE, CURLFILETYPE_DIRECTORY, CURLFILETYPE_SYMLINK } curlfiletype;
enum curl_khtype { CURLKHTYPE_UNKNOWN, CURLKHTYPE_RSA1, CURLKHTYPE_RSA, CURLKHTYPE_DSS };
struct curl_slist { char *data; struct curl_slist *next; };
struct curl_version_info_data {
  CURLversion age; const char *version; unsigned version_num; const char *host; int features; const char *ssl_version;
  long ssl_version_num; const char *libz_version; const char * const *protocols; const char *ares; int ares_num;
  const char *libidn; int iconv_ver_num; const char *libssh_version; unsigned int brotli_ver_num; const char *brotli_version;
};
struct curl_httppost {
  struct curl_httppost *next; char *name; long namelength; char *contents; long contentslength; char *buffer;
  long bufferlength; char *contenttype; struct curl_slist *contentheader; struct curl_httppost *more; long flags;
  char *showfilename; void *userp; curl_off_t contentlen;
};
struct curl_fileinfo {
  char *filename; curlfiletype filetype; time_t time; unsigned perm; int uid, gid; curl_off_t size; long int hardlinks;
  struct { char *time, *perm, *user, *group, *target; } strings;
  unsigned flags; char *b_data; size_t b_size, b_used;
};
struct CURLMsg { CURLMSG msg; CURL *easy_handle; union { void *whatever; CURLcode result; } data; };
typedef struct CURLMsg CURLMsg;
struct curl_waitfd { curl_socket_t fd; short events, revents; };
struct curl_khkey { const char *key; size_t len; enum curl_khtype keytype; };
struct curl_hstsentry { char *name; size_t namelen; unsigned includeSubDomains : 1; char expire[18]; };
struct curl_certinfo { int num_of_certs; struct curl_slist **certinfo; };
typedef size_t (*curl_write_callback)(char *buffer, size_t size, size_t nitems, void *outstream);
typedef int (*curl_xferinfo_callback)(void *, curl_off_t, curl_off_t, curl_off_t, curl_off_t);
CURL *curl_easy_init(void); CURLcode curl_easy_setopt(CURL *, CURLoption option, ...); CURLcode curl_easy_perform(CURL *);
CURLcode curl_easy_getinfo(CURL *, CURLINFO info, ...); void curl_easy_cleanup(CURL *);
const char *curl_easy_strerror(CURLcode); char *curl_easy_escape(CURL *, const char *, int); void curl_free(void *);
struct curl_slist *curl_slist_append(struct curl_slist *, const char *); void curl_slist_free_all(struct curl_slist *);
struct curl_version_info_data *curl_version_info(CURLversion);
CURLM *curl_multi_init(void); CURLMsg *curl_multi_info_read(CURLM *, int *);
