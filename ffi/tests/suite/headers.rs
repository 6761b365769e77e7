//! Declarations of libraries as programs that use them through the ffi write them: ours (`headers/`), held against the
//! installed headers by the C compiler, and used with the installed libraries.

use super::lua::{Machine, compiled, lua_quote};
use std::fmt::Write as _;

/// One library.
struct Library {
    name: &'static str,
    /// The header that a C program includes.
    header: &'static str,
    declarations: &'static str,
    /// Types, each with members whose offsets must be C's.
    types: &'static [(&'static str, &'static str)],
    /// Constants.
    constants: &'static str,
}

const LIBRARIES: &[Library] = &[
    Library {
        name: "curl",
        header: "curl/curl.h",
        declarations: include_str!("headers/curl.h"),
        types: &[
            ("struct curl_slist", "data next"),
            ("struct curl_httppost", "name contentslength contentheader flags userp contentlen"),
            ("struct curl_fileinfo", "filetype time gid size strings strings.target flags b_used"),
            ("struct CURLMsg", "msg easy_handle data data.result"),
            ("struct curl_waitfd", "fd events revents"),
            ("struct curl_khkey", "key len keytype"),
            ("struct curl_hstsentry", "name namelen expire"),
            ("struct curl_certinfo", "num_of_certs certinfo"),
            ("curl_off_t", ""),
            ("CURLcode", ""),
            ("CURLoption", ""),
            ("curl_write_callback", ""),
        ],
        constants: "CURLE_COULDNT_CONNECT CURLE_OPERATION_TIMEDOUT CURLE_FILE_COULDNT_READ_FILE CURLOPT_WRITEDATA CURLOPT_URL \
                    CURLOPT_PORT CURLOPT_ERRORBUFFER CURLOPT_WRITEFUNCTION CURLOPT_TIMEOUT CURLOPT_INFILESIZE_LARGE \
                    CURLOPT_NOPROGRESS CURLOPT_PRIVATE CURLINFO_EFFECTIVE_URL CURLINFO_RESPONSE_CODE CURLINFO_TOTAL_TIME \
                    CURLINFO_SIZE_DOWNLOAD_T CURLVERSION_FOURTH CURLMSG_DONE CURLFILETYPE_SYMLINK",
    },
    Library {
        name: "libuv",
        header: "uv.h",
        declarations: include_str!("headers/uv.h"),
        types: &[
            ("uv_buf_t", "base len"),
            ("uv_stat_t", "st_dev st_gen st_atim st_birthtim st_mtim.tv_nsec"),
            ("uv_timeval64_t", "tv_usec"),
            ("uv_rusage_t", "ru_utime ru_maxrss ru_nivcsw"),
            ("uv_interface_address_t", "phys_addr is_internal address netmask address.address6"),
            ("uv_cpu_info_t", "speed cpu_times cpu_times.irq"),
            ("uv_dirent_t", "type"),
            ("uv_passwd_t", "gid homedir"),
            ("uv_utsname_t", "machine"),
            ("uv_statfs_t", "f_spare"),
            ("uv_handle_t", "type close_cb u next_closing flags"),
            ("uv_timer_t", "timer_cb heap_node start_id"),
            ("uv_req_t", "type reserved"),
            ("uv_work_t", "loop after_work_cb work_req"),
            ("uv_stdio_container_t", "flags data"),
            ("uv_process_options_t", "exit_cb env cwd stdio_count stdio gid"),
        ],
        constants: "UV_TIMER UV_SIGNAL UV_HANDLE_TYPE_MAX UV_WORK UV_RUN_NOWAIT UV_DIRENT_LINK UV_INHERIT_STREAM",
    },
    Library {
        name: "zlib",
        header: "zlib.h",
        declarations: include_str!("headers/zlib.h"),
        types: &[
            (
                "z_stream",
                "next_in avail_in total_in next_out avail_out msg state zalloc opaque data_type adler reserved",
            ),
            ("gz_header", "time xflags extra extra_max name comment comm_max done"),
            ("uLong", ""),
            ("alloc_func", ""),
        ],
        constants: "Z_NO_FLUSH Z_FULL_FLUSH Z_FINISH Z_STREAM_END Z_DATA_ERROR Z_BUF_ERROR",
    },
    Library {
        name: "sqlite3",
        header: "sqlite3.h",
        declarations: include_str!("headers/sqlite3.h"),
        types: &[
            ("struct sqlite3_mem_methods", "xFree xRoundup pAppData"),
            ("sqlite3_vfs", "mxPathname pNext xOpen xDlSym xCurrentTimeInt64 xNextSystemCall"),
            ("sqlite3_module", "xCreate xColumn xUpdate xFindFunction xShadowName"),
            (
                "sqlite3_index_info",
                "aConstraint nOrderBy aOrderBy aConstraintUsage idxStr estimatedCost colUsed",
            ),
            ("struct sqlite3_index_constraint", "op usable iTermOffset"),
            ("struct sqlite3_index_constraint_usage", "omit"),
            ("sqlite3_vtab", "nRef zErrMsg"),
            ("sqlite3_uint64", ""),
        ],
        constants: "SQLITE_BUSY SQLITE_MISUSE SQLITE_DONE SQLITE_TEXT SQLITE_OPEN_CREATE",
    },
];

/// A machine that knows the declarations of a library.
fn machine(name: &str) -> Machine {
    let lib = LIBRARIES.iter().find(|l| l.name == name).expect("a library of this name");
    let mut m = Machine::new();
    assert_eq!(m.run(&format!("ffi.cdef({})", lua_quote(lib.declarations))), "", "{name}");
    m
}

#[test]
fn declarations_as_ffi_users_write_them_have_cs_layout_and_values() {
    for lib in LIBRARIES {
        let mut m = machine(lib.name);
        let mut c =
            format!("#include <{}>\n#include <stddef.h>\n#include <stdio.h>\nint main() {{\n", lib.header);
        let mut ours = String::new();
        for (ty, members) in lib.types {
            writeln!(c, "printf(\"{ty} %d %d\", (int)sizeof({ty}), (int)_Alignof({ty}));").expect("string");
            write!(ours, "{ty} ").expect("string");
            ours += &m.run(&format!("return ffi.sizeof('{ty}') .. ' ' .. ffi.alignof('{ty}')"));
            for member in members.split_whitespace() {
                writeln!(c, "printf(\" %d\", (int)offsetof({ty}, {member}));").expect("string");
                // An offset of a member of a member is a difference of addresses.
                let program = format!(
                    "local o = ffi.new('{ty}') local base = ffi.cast('char *', o)
                    return ' ' .. (ffi.cast('char *', o.{member}) - base)"
                );
                let direct = m.run(&format!("return ' ' .. ffi.offsetof('{ty}', '{member}')"));
                ours += &if member.contains('.') && direct.starts_with("error") {
                    let outer = member.split('.').next().expect("a name");
                    nested_offset(&mut m, ty, outer, member).unwrap_or_else(|| m.run(&program))
                } else {
                    direct
                };
            }
            writeln!(c, "printf(\"\\n\");").expect("string");
            ours.push('\n');
        }
        for k in lib.constants.split_whitespace() {
            writeln!(c, "printf(\"{k} %d\\n\", (int){k});").expect("string");
            ours += &m.run(&format!("return '{k} ' .. tonumber(ffi.C.{k}) .. '\\n'"));
        }
        c.push_str("return 0; }\n");
        match compiled(&format!("own-{}", lib.name), &c) {
            Some(want) => assert_eq!(ours, want, "{}", lib.name),
            None => eprintln!("skipped: {} cannot be compiled here", lib.header),
        }
    }
}

/// Offset of a member of a struct member: by the address of a pointer or number in it.
fn nested_offset(m: &mut Machine, ty: &str, outer: &str, path: &str) -> Option<String> {
    let inner = path.strip_prefix(outer)?.strip_prefix('.')?;
    let program = format!(
        "local o = ffi.new('{ty}') local i = o.{outer}
        return ' ' .. (ffi.offsetof('{ty}', '{outer}') + ffi.offsetof(ffi.typeof(i), '{inner}'))"
    );
    let found = m.run(&program);
    (!found.starts_with("error")).then_some(found)
}

/// What a program gives; `None` (and a word about it) where its library is not installed.
fn with_library(library: &str, file: &str, program: &str) -> Option<String> {
    let mut m = machine(library);
    let got = m.run(&format!(
        "local ok, lib = pcall(ffi.load, '{file}') if not ok then return 'missing' end\n{program}"
    ));
    if got == "missing" {
        eprintln!("skipped: {file} is not installed");
        return None;
    }
    Some(got)
}

#[test]
fn curl_reads_a_file_through_a_callback_and_variadic_options() {
    let path = std::env::temp_dir().join(format!("moonlit-curl-{}.txt", std::process::id()));
    let text = "line of text\n".repeat(5000);
    std::fs::write(&path, &text).expect("a temporary file");
    let program = format!(
        r#"
local parts, calls = {{}}, 0
local write = ffi.cast('curl_write_callback', function(p, size, n, data)
  calls = calls + 1
  parts[#parts + 1] = ffi.string(p, size * n)
  return size * n
end)
local url = 'file://{}'
local h = lib.curl_easy_init()
assert(h ~= nil)
assert(lib.curl_easy_setopt(h, 'CURLOPT_URL', url) == 'CURLE_OK')
assert(lib.curl_easy_setopt(h, ffi.C.CURLOPT_WRITEFUNCTION, write) == 0)
assert(lib.curl_easy_setopt(h, ffi.C.CURLOPT_TIMEOUT, ffi.new('long', 60)) == 0)
assert(lib.curl_easy_perform(h) == 0)
local size, effective, time = ffi.new('curl_off_t[1]'), ffi.new('char *[1]'), ffi.new('double[1]')
lib.curl_easy_getinfo(h, ffi.C.CURLINFO_SIZE_DOWNLOAD_T, size)
lib.curl_easy_getinfo(h, ffi.C.CURLINFO_EFFECTIVE_URL, effective)
lib.curl_easy_getinfo(h, ffi.C.CURLINFO_TOTAL_TIME, time)
-- The library's memory, until the next transfer.
local where = ffi.string(effective[0])
local all = table.concat(parts)
-- An error in the callback comes out of the call that runs it.
write:set(function() error('no more', 0) end)
local ok, e = pcall(lib.curl_easy_perform, h)
lib.curl_easy_setopt(h, ffi.C.CURLOPT_URL, url .. '.not-there')
local bad = lib.curl_easy_perform(h)
lib.curl_easy_cleanup(h)
write:free()
local list = lib.curl_slist_append(lib.curl_slist_append(nil, 'A: 1'), 'B: 2')
local second = ffi.string(list.next.data)
lib.curl_slist_free_all(list)
return #all, all:sub(-5, -2), calls > 0, tonumber(size[0]) == #all, where == url, time[0] > 0, ok, e,
  tonumber(bad), ffi.string(lib.curl_easy_strerror(bad)) ~= '', second,
  ffi.string(lib.curl_version_info('CURLVERSION_FOURTH').version):match('^%d+%.') ~= nil"#,
        path.display()
    );
    let got = with_library("curl", "libcurl.so.4", &program);
    let _ = std::fs::remove_file(&path);
    if let Some(got) = got {
        let want =
            format!("{}\ttext\ttrue\ttrue\ttrue\ttrue\tfalse\tno more\t37\ttrue\tB: 2\ttrue", text.len());
        assert_eq!(got, want);
    }
}

#[test]
fn libuv_runs_timers_and_walks_its_handles() {
    let program = r#"
local function own(size, ty) return ffi.cast(ty, ffi.gc(ffi.new('char[?]', tonumber(size)), nil)) end
local memory = ffi.new('char[?]', tonumber(lib.uv_loop_size()))
local loop = ffi.cast('uv_loop_t *', memory)
assert(lib.uv_loop_init(loop) == 0)
local a, b = ffi.new('uv_timer_t'), ffi.new('uv_timer_t')
local log = {}
local function closed() log[#log + 1] = 'closed' end
local close = ffi.cast('uv_close_cb', closed)
local tick
tick = ffi.cast('uv_timer_cb', function(t)
  local n = tonumber(ffi.cast('intptr_t', t.data)) + 1
  t.data = ffi.cast('void *', n)
  log[#log + 1] = (t == ffi.cast('uv_timer_t *', a) and 'a' or 'b') .. n
  if n == 3 then
    lib.uv_timer_stop(t)
    lib.uv_close(ffi.cast('uv_handle_t *', t), close)
  end
end)
for _, t in ipairs { a, b } do assert(lib.uv_timer_init(loop, t) == 0) t.data = nil end
assert(lib.uv_timer_start(a, tick, 0, 1) == 0)
assert(lib.uv_timer_start(b, tick, 0, 1) == 0)
local kinds = 0
local walk = ffi.cast('uv_walk_cb', function(h, arg) if h.type == 'UV_TIMER' then kinds = kinds + tonumber(ffi.cast('intptr_t', arg)) end end)
lib.uv_walk(loop, walk, ffi.cast('void *', 5))
lib.uv_run(loop, 'UV_RUN_DEFAULT')
local ended = lib.uv_loop_close(loop)
walk:free() tick:free() close:free()
table.sort(log)
local buf = lib.uv_buf_init(ffi.cast('char *', memory), 7)
local address, text = ffi.new('struct sockaddr_in'), ffi.new('char[32]')
assert(lib.uv_ip4_addr('127.0.0.1', 80, address) == 0)
lib.uv_ip4_name(address, text, 32)
local u = ffi.new('uv_utsname_t')
assert(lib.uv_os_uname(u) == 0)
return table.concat(log, ' '), kinds, ended, tonumber(buf.len), buf.base == ffi.cast('char *', memory), ffi.string(text),
  ffi.string(u.sysname), tonumber(lib.uv_handle_size('UV_TIMER')) == ffi.sizeof(a), lib.uv_hrtime() > 0ULL"#;
    if let Some(got) = with_library("libuv", "libuv.so.1", program) {
        assert_eq!(got, "a1 a2 a3 b1 b2 b3 closed closed\t10\t0\t7\ttrue\t127.0.0.1\tLinux\ttrue\ttrue");
    }
}

#[test]
fn zlib_packs_and_unpacks_whole_and_in_pieces() {
    let program = r#"
local text = ('moonlight '):rep(4000)
local n = ffi.new('uLong[1]', lib.compressBound(#text))
local packed = ffi.new('Bytef[?]', tonumber(n[0]))
assert(lib.compress2(packed, n, text, #text, 9) == ffi.C.Z_OK)
local size = tonumber(n[0])
local out = ffi.new('Bytef[?]', #text)
n[0] = #text
assert(lib.uncompress(out, n, packed, size) == 0)
local same = ffi.string(out, n[0]) == text
-- As gzip, in small steps, with the allocator of the library and then one of ours.
local function gzip(zalloc, zfree)
  local z = ffi.new('z_stream', { zalloc = zalloc, zfree = zfree })
  assert(lib.deflateInit2_(z, 6, 8, 31, 8, 0, lib.zlibVersion(), ffi.sizeof(z)) == 0)
  local parts, buf = {}, ffi.new('Bytef[64]')
  z.next_in, z.avail_in = text, #text
  repeat
    z.next_out, z.avail_out = buf, 64
    local r = lib.deflate(z, ffi.C.Z_FINISH)
    parts[#parts + 1] = ffi.string(buf, 64 - z.avail_out)
  until r == ffi.C.Z_STREAM_END
  assert(lib.deflateEnd(z) == 0)
  return table.concat(parts), tonumber(z.total_in)
end
ffi.cdef 'void *malloc(size_t); void free(void *);'
local taken, given = 0, 0
local zalloc = ffi.cast('alloc_func', function(_, items, size) taken = taken + 1 return ffi.C.malloc(items * size) end)
local zfree = ffi.cast('free_func', function(_, p) given = given + 1 ffi.C.free(p) end)
local a, total = gzip()
local b = gzip(zalloc, zfree)
zalloc:free() zfree:free()
local bad = lib.uncompress(out, n, 'no zlib data', 12)
return same, size < 400, a == b, total == #text, a:byte(1), a:byte(2), taken > 0 and taken == given, bad, tonumber(lib.crc32(0, 'abc', 3))"#;
    if let Some(got) = with_library("zlib", "libz.so.1", program) {
        assert_eq!(got, "true\ttrue\ttrue\ttrue\t31\t139\ttrue\t-3\t891568578");
    }
}

#[test]
fn sqlite_calls_a_function_written_in_lua() {
    let program = r#"
local pdb, ps = ffi.new('sqlite3 *[1]'), ffi.new('sqlite3_stmt *[1]')
local flags = bit.bor(ffi.C.SQLITE_OPEN_READWRITE, ffi.C.SQLITE_OPEN_CREATE)
assert(lib.sqlite3_open_v2(':memory:', pdb, flags, nil) == 0)
local db = pdb[0]
local calls = 0
local double = ffi.cast('void (*)(sqlite3_context *, int, sqlite3_value **)', function(ctx, n, v)
  calls = calls + 1
  lib.sqlite3_result_int64(ctx, lib.sqlite3_value_int64(v[0]) * 2)
end)
assert(lib.sqlite3_create_function_v2(db, 'twice', 1, ffi.C.SQLITE_UTF8, nil, double, nil, nil, nil) == 0)
local sql = 'with recursive n(i) as (select 1 union all select i + 1 from n where i < 200) select sum(twice(i)), ?1, ?2 from n'
assert(lib.sqlite3_prepare_v2(db, sql, #sql, ps, nil) == 0)
local transient = ffi.cast('void (*)(void *)', -1)
assert(lib.sqlite3_bind_text(ps[0], 1, 'grüße', -1, transient) == 0)
assert(lib.sqlite3_bind_blob(ps[0], 2, '\0\1\2', 3, transient) == 0)
assert(lib.sqlite3_step(ps[0]) == ffi.C.SQLITE_ROW)
local sum, text = ffi.string(lib.sqlite3_column_text(ps[0], 0)), ffi.string(lib.sqlite3_column_text(ps[0], 1))
local kinds = lib.sqlite3_column_type(ps[0], 1) * 10 + lib.sqlite3_column_type(ps[0], 2)
lib.sqlite3_finalize(ps[0])
assert(lib.sqlite3_close_v2(db) == 0)
double:free()
return sum, text, kinds, calls"#;
    if let Some(got) = with_library("sqlite3", "libsqlite3.so.0", program) {
        assert_eq!(got, "40200\tgrüße\t34\t200");
    }
}
