//! What processes need of the system and std does not offer: fork, signals, accounts, limits.
//!
//! Safe functions over libc; the only file of `serve` with `unsafe`. It must not know
//! configuration or logs.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use libc::c_int;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The old process; the new one's id.
    Parent(u32),
    /// The new process.
    Child,
}

/// Splits the process in two.
///
/// # Safety
/// The process must have one thread only: the child goes on with a copy of this thread and of every
/// lock that another one held.
pub unsafe fn fork() -> io::Result<Fork> {
    // SAFETY: the caller vouches for a single thread; everything else that fork needs holds always.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as u32)),
    }
}

/// How many threads this process has.
pub fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count())
}

/// Leaves the terminal: a session of its own, standard input and output on `/dev/null`.
pub fn detach() -> io::Result<()> {
    // SAFETY: both calls take and touch no memory of ours.
    unsafe {
        check(libc::setsid())?;
        libc::umask(0);
    }
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for target in [libc::STDIN_FILENO, libc::STDOUT_FILENO] {
        replace_fd(null.as_raw_fd(), target)?;
    }
    Ok(())
}

/// Makes descriptor `target` another name of `source`.
fn replace_fd(source: RawFd, target: RawFd) -> io::Result<()> {
    // SAFETY: descriptors are numbers to the kernel; `target` is one of the standard three, which no
    // Rust object owns.
    check(unsafe { libc::dup2(source, target) }).map(|_| ())
}

/// Another name of a descriptor, one that a program started from here keeps.
pub fn inheritable(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: a number to the kernel; what it returns is new and belongs to nobody else.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::dup(fd.as_raw_fd()))?)) }
}

/// Takes over a descriptor that the program which started this one has left open, if it is a socket.
pub fn take_inherited(fd: RawFd) -> Option<OwnedFd> {
    let mut kind: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the pointers are to locals. A socket above the standard three that was open before anything
    // was opened here has no other owner.
    unsafe {
        let asked =
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut len);
        (asked == 0 && fd > libc::STDERR_FILENO).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// Sends standard error into a file.
pub fn redirect_stderr(file: &std::fs::File) -> io::Result<()> {
    replace_fd(file.as_raw_fd(), libc::STDERR_FILENO)
}

/// Sends a signal.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: takes two numbers.
    check(unsafe { libc::kill(pid, signal) }).map(|_| ())
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal; whether it left a core file.
    Signal(i32, bool),
}

/// A child that has ended, if any.
pub fn reap() -> Option<(u32, Ended)> {
    let mut status: c_int = 0;
    // SAFETY: the pointer is to a local.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let ended = if libc::WIFSIGNALED(status) {
        Ended::Signal(libc::WTERMSIG(status), libc::WCOREDUMP(status))
    } else {
        Ended::Code(libc::WEXITSTATUS(status))
    };
    Some((pid as u32, ended))
}

/// The process that made this one.
pub fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// Offset of local time from UTC in seconds at a moment.
pub fn zone_offset(unix_s: i64) -> i32 {
    // SAFETY: all zeroes is a valid `tm`; localtime_r fills it and takes pointers to two locals.
    unsafe {
        let mut fields: libc::tm = std::mem::zeroed();
        let moment: libc::time_t = unix_s;
        if libc::localtime_r(&moment, &mut fields).is_null() { 0 } else { fields.tm_gmtoff as i32 }
    }
}

/// Whether this process may do what only the superuser may.
pub fn is_superuser() -> bool {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A resolved account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    name: CString,
}

/// Looks a user and a group up. The error is the name of the call that failed.
pub fn account(user: &str, group: &str) -> Result<Account, String> {
    let name = CString::new(user).map_err(|_| format!("getpwnam(\"{user}\") failed"))?;
    let group_name = CString::new(group).map_err(|_| format!("getgrnam(\"{group}\") failed"))?;
    // SAFETY: both strings end in NUL; the records are read before any other look-up, on the only thread.
    unsafe {
        let record = libc::getpwnam(name.as_ptr());
        if record.is_null() {
            return Err(format!("getpwnam(\"{user}\") failed"));
        }
        let uid = (*record).pw_uid;
        let record = libc::getgrnam(group_name.as_ptr());
        if record.is_null() {
            return Err(format!("getgrnam(\"{group}\") failed"));
        }
        Ok(Account { uid, gid: (*record).gr_gid, name })
    }
}

/// Becomes another account for good. The error names the call that failed.
pub fn become_account(account: &Account) -> Result<(), (&'static str, io::Error)> {
    // SAFETY: numbers, and a string that ends in NUL.
    unsafe {
        check(libc::setgid(account.gid)).map_err(|error| ("setgid", error))?;
        check(libc::initgroups(account.name.as_ptr(), account.gid)).map_err(|error| ("initgroups", error))?;
        check(libc::setuid(account.uid)).map_err(|error| ("setuid", error))?;
    }
    Ok(())
}

/// Leaves of the environment only the named variables, and sets those that have a value.
///
/// # Safety
/// The process must have one thread only, and nobody may hold a pointer into the environment.
pub unsafe fn set_environment(kept: &[(std::ffi::OsString, Option<std::ffi::OsString>)]) {
    for (name, _) in std::env::vars_os() {
        if !kept.iter().any(|(known, _)| *known == name) {
            // SAFETY: the caller vouches for a single thread.
            unsafe { std::env::remove_var(name) };
        }
    }
    for (name, value) in kept {
        if let Some(value) = value {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

/// Removes a variable from the environment.
///
/// # Safety
/// The process must have one thread only, and nobody may hold a pointer into the environment.
pub unsafe fn forget_variable(name: &str) {
    // SAFETY: the caller vouches for a single thread.
    unsafe { std::env::remove_var(name) };
}

/// A limit of the kernel for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Open files.
    Files,
    /// Bytes of a core file.
    Core,
}

impl Limit {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Limit::Files => libc::RLIMIT_NOFILE,
            Limit::Core => libc::RLIMIT_CORE,
        }
    }
}

/// Sets both the soft and the hard limit.
pub fn set_limit(limit: Limit, value: u64) -> io::Result<()> {
    let both = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the pointer is to a local.
    check(unsafe { libc::setrlimit(limit.number(), &both) }).map(|_| ())
}

/// The soft and the hard limit.
pub fn limits(limit: Limit) -> (u64, u64) {
    let mut both = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local.
    unsafe { libc::getrlimit(limit.number(), &mut both) };
    (both.rlim_cur, both.rlim_max)
}

/// Name and release of the kernel.
pub fn kernel() -> String {
    // SAFETY: all zeroes is a valid `utsname`; uname fills it with NUL-terminated strings.
    unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        if libc::uname(&mut name) < 0 {
            return "unknown".to_owned();
        }
        let sysname = CStr::from_ptr(name.sysname.as_ptr()).to_string_lossy();
        let release = CStr::from_ptr(name.release.as_ptr()).to_string_lossy();
        format!("{sysname} {release}")
    }
}

/// Signals held back, until `restore`.
pub struct HeldSignals(libc::sigset_t);

/// Holds all signals back: across a fork, so that none reaches the child before its own handlers stand
/// (until then it has the parent's, which write into the parent's pipe).
pub fn hold_signals() -> HeldSignals {
    // SAFETY: all zeroes is a valid `sigset_t` to be filled; pointers are to locals.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        HeldSignals(before)
    }
}

impl HeldSignals {
    /// Lets signals through again; those held back arrive now.
    pub fn restore(self) {
        // SAFETY: the set was filled by `hold_signals`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Where the handler writes what it caught; -1 for nowhere.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

/// A signal that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Its number.
    pub signal: i32,
    /// Who sent it; 0 is the kernel.
    pub from: u32,
}

/// Bytes of a message from the handler: number and sender.
const MESSAGE_BYTES: usize = 8;

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let pipe = SIGNAL_PIPE.load(Ordering::Relaxed);
    // SAFETY: the kernel gives a valid `siginfo_t` to an SA_SIGINFO handler; write and errno are
    // async-signal-safe, and the buffer is a local.
    unsafe {
        let saved = *libc::__errno_location();
        let from = if info.is_null() { 0 } else { (*info).si_pid() };
        let mut message = [0; MESSAGE_BYTES];
        message[..4].copy_from_slice(&signal.to_ne_bytes());
        message[4..].copy_from_slice(&from.to_ne_bytes());
        libc::write(pipe, message.as_ptr().cast(), MESSAGE_BYTES);
        *libc::__errno_location() = saved;
    }
}

/// The signals of this process, as a stream of messages.
#[derive(Debug)]
pub struct Signals {
    reader: UnixStream,
    writer: UnixStream,
}

impl Signals {
    /// Catches the first signals from now on, ignores the second, and lets the kernel do what it does
    /// by default for the third. Replaces what a parent process had installed: to be called anew
    /// after a fork. With `restart`, system calls that a signal interrupts go on after it.
    pub fn install(caught: &[i32], ignored: &[i32], default: &[i32], restart: bool) -> io::Result<Signals> {
        let (reader, writer) = UnixStream::pair()?;
        writer.set_nonblocking(true)?;
        SIGNAL_PIPE.store(writer.as_raw_fd(), Ordering::Relaxed);
        // SAFETY: all zeroes is a valid `sigaction`; the handler has the signature that SA_SIGINFO
        // asks for and does only what is async-signal-safe; pointers are to locals.
        unsafe {
            for (signals, handler) in [
                (caught, on_signal as *const () as libc::sighandler_t),
                (ignored, libc::SIG_IGN),
                (default, libc::SIG_DFL),
            ] {
                for signal in signals {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    action.sa_sigaction = handler;
                    let plain = handler == libc::SIG_IGN || handler == libc::SIG_DFL;
                    let flags = if restart { libc::SA_SIGINFO | libc::SA_RESTART } else { libc::SA_SIGINFO };
                    action.sa_flags = if plain { 0 } else { flags };
                    libc::sigemptyset(&mut action.sa_mask);
                    check(libc::sigaction(*signal, &action, std::ptr::null_mut()))?;
                }
            }
        }
        Ok(Signals { reader, writer })
    }

    /// Waits for a signal, at most so long (for ever without a limit).
    pub fn wait(&mut self, limit: Option<Duration>) -> Option<Caught> {
        // A limit of zero would mean "for ever" to the socket.
        let limit = limit.map(|limit| limit.max(Duration::from_millis(1)));
        self.reader.set_read_timeout(limit).ok()?;
        let mut message = [0; MESSAGE_BYTES];
        self.reader.read_exact(&mut message).ok()?;
        Some(decode(message))
    }

    /// The reading end for a runtime; messages are `MESSAGE_BYTES` long, see `decode`.
    pub fn into_async(self) -> io::Result<AsyncSignals> {
        self.reader.set_nonblocking(true)?;
        Ok(AsyncSignals { reader: tokio::net::UnixStream::from_std(self.reader)?, _writer: self.writer })
    }
}

/// The signals of a process with a runtime.
#[derive(Debug)]
pub struct AsyncSignals {
    reader: tokio::net::UnixStream,
    _writer: UnixStream,
}

impl AsyncSignals {
    /// Waits for a signal.
    pub async fn wait(&mut self) -> Option<Caught> {
        use tokio::io::AsyncReadExt;
        let mut message = [0; MESSAGE_BYTES];
        self.reader.read_exact(&mut message).await.ok()?;
        Some(decode(message))
    }
}

fn decode(message: [u8; MESSAGE_BYTES]) -> Caught {
    let number =
        |at: usize| i32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
    Caught { signal: number(0), from: number(4) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_arrives_with_its_sender() {
        let mut signals = Signals::install(&[libc::SIGUSR2], &[], &[], true).expect("installs");
        kill(std::process::id(), libc::SIGUSR2).expect("sends");
        assert_eq!(
            signals.wait(Some(Duration::from_secs(5))),
            Some(Caught { signal: libc::SIGUSR2, from: std::process::id() })
        );
        assert_eq!(signals.wait(Some(Duration::from_millis(1))), None);
    }

    #[test]
    fn unknown_account_names_the_call() {
        assert_eq!(
            account("no_such_user", "root").expect_err("unknown"),
            "getpwnam(\"no_such_user\") failed"
        );
        assert_eq!(account("root", "root").map(|account| (account.uid, account.gid)), Ok((0, 0)));
    }
}
