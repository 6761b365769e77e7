typedef unsigned char Byte, Bytef; typedef unsigned int uInt; typedef unsigned long uLong, uLongf; typedef void *voidpf;
typedef voidpf (*alloc_func)(voidpf opaque, uInt items, uInt size); typedef void (*free_func)(voidpf opaque, voidpf address);
enum { Z_NO_FLUSH, Z_PARTIAL_FLUSH, Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_FINISH, Z_OK = 0, Z_STREAM_END, Z_DATA_ERROR = -3, Z_BUF_ERROR = -5 };
typedef struct z_stream_s {
  const Bytef *next_in; uInt avail_in; uLong total_in; Bytef *next_out; uInt avail_out; uLong total_out; const char *msg;
  struct internal_state *state; alloc_func zalloc; free_func zfree; voidpf opaque; int data_type; uLong adler, reserved;
} z_stream;
typedef struct gz_header_s {
  int text; uLong time; int xflags, os; Bytef *extra; uInt extra_len, extra_max; Bytef *name; uInt name_max; Bytef *comment;
  uInt comm_max; int hcrc, done;
} gz_header;
const char *zlibVersion(void); uLong compressBound(uLong); uLong crc32(uLong, const Bytef *, uInt); uLong adler32(uLong, const Bytef *, uInt);
int compress2(Bytef *dest, uLongf *destLen, const Bytef *source, uLong sourceLen, int level);
int uncompress(Bytef *dest, uLongf *destLen, const Bytef *source, uLong sourceLen);
int inflateInit2_(z_stream *, int windowBits, const char *version, int stream_size); int inflate(z_stream *, int); int inflateEnd(z_stream *);
int deflateInit2_(z_stream *, int level, int method, int windowBits, int memLevel, int strategy, const char *version, int stream_size);
int deflate(z_stream *, int flush); int deflateEnd(z_stream *); int inflateGetHeader(z_stream *, gz_header *);
