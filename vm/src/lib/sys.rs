//! What the libraries ask of the operating system beyond the standard library: C's clock and calendar.
//! Knows no VM.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A path from bytes; refuses NULs.
pub fn path(bytes: &[u8]) -> io::Result<PathBuf> {
    if bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// The system's text for an error, as `strerror` gives it.
pub fn error_text(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}

/// The error's number, 0 if it has none.
pub fn error_code(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(0)
}

/// Processor time used by this process, in seconds.
pub fn clock_seconds() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    // C's `clock` counts microseconds.
    (t.tv_sec as f64 * 1e6 + (t.tv_nsec / 1000) as f64) / 1e6
}

/// The processor time of one thread, for others to read.
#[derive(Clone, Copy, Debug)]
pub struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    /// The clock of the calling thread.
    pub fn of_this_thread() -> ThreadClock {
        let mut id: libc::clockid_t = libc::CLOCK_MONOTONIC;
        // SAFETY: the pointer is to a local the call fills in; where it fails the wall clock stands in.
        unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut id) };
        ThreadClock(id)
    }

    /// Its time, 0 when the thread is gone.
    pub fn nanoseconds(self) -> u64 {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a local the call fills in.
        unsafe { libc::clock_gettime(self.0, &mut t) };
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    }
}

/// Seconds since the epoch.
pub fn now_seconds() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// A seed nobody can guess.
pub fn entropy() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let mut h = std::collections::hash_map::RandomState::new().build_hasher();
    h.write_i64(now_seconds());
    (h.finish() >> 12) as f64
}

/// A broken-down time; fields as in C.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Calendar {
    pub sec: i32,
    pub min: i32,
    pub hour: i32,
    pub mday: i32,
    /// 0 to 11.
    pub mon: i32,
    /// Since 1900.
    pub year: i32,
    /// 0 is Sunday.
    pub wday: i32,
    /// From 0.
    pub yday: i32,
    /// Negative: unknown.
    pub isdst: i32,
}

fn empty_tm() -> libc::tm {
    // SAFETY: all-zero bytes are a valid `tm`: integers and a null zone name.
    unsafe { std::mem::zeroed() }
}

fn from_tm(t: &libc::tm) -> Calendar {
    Calendar {
        sec: t.tm_sec,
        min: t.tm_min,
        hour: t.tm_hour,
        mday: t.tm_mday,
        mon: t.tm_mon,
        year: t.tm_year,
        wday: t.tm_wday,
        yday: t.tm_yday,
        isdst: t.tm_isdst,
    }
}

fn tm_at(time: i64, utc: bool) -> Option<libc::tm> {
    let mut tm = empty_tm();
    let time = time as libc::time_t;
    // SAFETY: both pointers are to locals that outlive the call; the functions write only the `tm`.
    let r = unsafe { if utc { libc::gmtime_r(&time, &mut tm) } else { libc::localtime_r(&time, &mut tm) } };
    if r.is_null() { None } else { Some(tm) }
}

/// Calendar of a time; `None` where the year does not fit.
pub fn calendar(time: i64, utc: bool) -> Option<Calendar> {
    tm_at(time, utc).map(|t| from_tm(&t))
}

/// Time of a local calendar, normalising its fields; `None` if it cannot be represented.
pub fn make_time(c: &Calendar) -> Option<i64> {
    let mut tm = empty_tm();
    tm.tm_sec = c.sec;
    tm.tm_min = c.min;
    tm.tm_hour = c.hour;
    tm.tm_mday = c.mday;
    tm.tm_mon = c.mon;
    tm.tm_year = c.year;
    tm.tm_isdst = c.isdst;
    // SAFETY: the pointer is to a local, initialised `tm`.
    let t = unsafe { libc::mktime(&mut tm) };
    if t == -1 { None } else { Some(t) }
}

/// `strftime` of a time.
pub fn format_time(format: &[u8], time: i64, utc: bool) -> Option<Vec<u8>> {
    let tm = tm_at(time, utc)?;
    let Ok(fmt) = CString::new(format) else { return Some(Vec::new()) };
    if format.is_empty() {
        return Some(Vec::new());
    }
    let mut out = vec![0u8; format.len() * 30 + 64];
    // SAFETY: the buffer's length is passed; format and `tm` are locals that outlive the call.
    let n = unsafe { libc::strftime(out.as_mut_ptr().cast(), out.len(), fmt.as_ptr(), &tm) };
    out.truncate(n);
    Some(out)
}

/// A copy of `len` bytes at an address that a program got from the ffi. Like every access through a C pointer it
/// is only as good as the program's word that there are so many bytes.
pub(super) fn bytes_at(addr: u64, len: usize) -> Vec<u8> {
    if len == 0 {
        return Vec::new();
    }
    // SAFETY: the address is not null (the caller checked) and the program vouches for `len` readable bytes,
    // as it does when it dereferences the pointer itself.
    unsafe { std::slice::from_raw_parts(addr as *const u8, len) }.to_vec()
}

/// Sets the times of access and of modification of a file, in seconds; now for `None`.
pub fn set_file_times(path: &std::path::Path, times: Option<(f64, f64)>) -> io::Result<()> {
    let name =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::ENOENT))?;
    let spec = |t: f64| libc::timespec { tv_sec: t as i64, tv_nsec: 0 };
    let specs = times.map(|(a, m)| [spec(a), spec(m)]);
    let specs = specs.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
    // SAFETY: the name ends in a NUL; the times are null or two of them; both outlive the call.
    match unsafe { libc::utimensat(libc::AT_FDCWD, name.as_ptr(), specs, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a lock on a range of a file allows others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// Others may lock it `Shared` too.
    Shared,
    /// Nobody else may.
    Exclusive,
    /// The lock is taken away.
    None,
}

/// Locks `len` bytes (0: all that follow) of an open file from `start` on; does not wait.
pub fn lock_file(fd: i32, kind: LockKind, start: i64, len: i64) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `flock`.
    let mut l: libc::flock = unsafe { std::mem::zeroed() };
    l.l_type = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
        LockKind::None => libc::F_UNLCK,
    } as _;
    l.l_whence = libc::SEEK_SET as _;
    l.l_start = start;
    l.l_len = len;
    // SAFETY: the structure is initialised and outlives the call; a descriptor that is not open gives an error.
    match unsafe { libc::fcntl(fd, libc::F_SETLK, &l) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
