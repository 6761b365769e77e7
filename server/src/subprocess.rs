//! Child processes of scripts: started with pipes, waited for without blocking, signalled.
//!
//! A child is spawned, never forked by hand: this process has threads. Must not know: requests, Lua.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::{Receiver, Sender};

/// Sends a signal to a process. Errors are the system's.
pub fn send_signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: plain numbers go in; no memory is involved.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a child is made of.
#[derive(Debug)]
pub struct Spec {
    /// Program and arguments; the program is looked up in `PATH`.
    pub argv: Vec<Vec<u8>>,
    /// `NAME=VALUE` lines that replace the environment.
    pub environ: Option<Vec<Vec<u8>>>,
    /// Whether standard error goes where standard output goes.
    pub merge_stderr: bool,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody can tell.
    Unknown,
}

/// A child and this side of its pipes. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: u32,
    /// What it reads.
    pub stdin: RefCell<Option<Sender>>,
    /// What it writes.
    pub stdout: RefCell<Option<Receiver>>,
    /// What it complains.
    pub stderr: RefCell<Option<Receiver>>,
    process: RefCell<Option<std::process::Child>>,
    watch: Option<AsyncFd<OwnedFd>>,
    ended: Cell<Option<Ended>>,
}

fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers go in; the kernel knows no flag that writes to memory here.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts a child. To be called inside the runtime. An error of `exec` comes back here too.
pub fn spawn(spec: &Spec) -> io::Result<Child> {
    let Some((program, args)) = spec.argv.split_first() else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let text = |b: &[u8]| OsString::from_vec(b.to_vec());
    let mut command = Command::new(text(program));
    command.args(args.iter().map(|a| text(a)));
    if let Some(lines) = &spec.environ {
        command.env_clear();
        for line in lines {
            let eq = memchr::memchr(b'=', line).unwrap_or(line.len());
            command.env(text(&line[..eq]), text(line.get(eq + 1..).unwrap_or_default()));
        }
    }
    command.stdin(Stdio::piped());
    let merged = if spec.merge_stderr {
        let (reader, writer) = io::pipe()?;
        command.stderr(writer.try_clone()?).stdout(writer);
        Some(reader)
    } else {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        None
    };
    let mut process = command.spawn()?;
    // The command still holds the write ends.
    drop(command);
    let pid = process.id();
    let stdin = process.stdin.take().map(OwnedFd::from);
    let stdout = merged.map(OwnedFd::from).or_else(|| process.stdout.take().map(OwnedFd::from));
    let stderr = process.stderr.take().map(OwnedFd::from);
    let pidfd = open_pidfd(pid)?;
    // SAFETY: `OwnedFd` names the same open descriptor as long as it lives, and it lives inside.
    let watch = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    let child = Child {
        pid,
        stdin: RefCell::new(stdin.map(Sender::from_owned_fd).transpose()?),
        stdout: RefCell::new(stdout.map(Receiver::from_owned_fd).transpose()?),
        stderr: RefCell::new(stderr.map(Receiver::from_owned_fd).transpose()?),
        process: RefCell::new(Some(process)),
        watch: Some(watch),
        ended: Cell::new(None),
    };
    Ok(child)
}

impl Child {
    /// A child that could not run its program: it has ended with code 1.
    pub fn stillborn() -> Child {
        Child {
            pid: 0,
            stdin: RefCell::new(None),
            stdout: RefCell::new(None),
            stderr: RefCell::new(None),
            process: RefCell::new(None),
            watch: None,
            ended: Cell::new(Some(Ended::Code(1))),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        if self.ended.get().is_none()
            && let Some(p) = &mut *self.process.borrow_mut()
        {
            match p.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => self.ended.set(Some(how(status))),
                Err(_) => self.ended.set(Some(Ended::Unknown)),
            }
        }
        self.ended.get()
    }

    /// Ready when it has ended.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if let Some(e) = self.ended() {
                return Poll::Ready(e);
            }
            let Some(watch) = &self.watch else { return Poll::Ready(Ended::Unknown) };
            match watch.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Ended::Unknown),
                Poll::Ready(Ok(mut ready)) => {
                    if self.ended().is_none() {
                        ready.clear_ready();
                    }
                }
            }
        }
    }

    /// Sends it a signal. The error of one that has ended is ESRCH.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        if self.ended().is_some() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        send_signal(self.pid, signal)
    }

    /// Closes all pipes.
    pub fn close(&self) {
        self.stdin.take();
        self.stdout.take();
        self.stderr.take();
    }
}

fn how(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(c), _) => Ended::Code(c),
        (None, Some(s)) => Ended::Signal(s),
        (None, None) => Ended::Unknown,
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // It is ours until it is reaped, so the number cannot mean anybody else.
        let _ = send_signal(self.pid, libc::SIGKILL);
        let (Some(mut process), Some(watch)) = (self.process.take(), self.watch.take()) else { return };
        if tokio::runtime::Handle::try_current().is_ok() {
            tokio::spawn(async move {
                let _ = watch.readable().await;
                let _ = process.try_wait();
            });
        } else {
            let _ = process.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;

    fn spec(argv: &[&str]) -> Spec {
        Spec {
            argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
            environ: None,
            merge_stderr: false,
        }
    }

    async fn text(r: &RefCell<Option<Receiver>>) -> String {
        use tokio::io::AsyncReadExt;
        let mut pipe = r.take().expect("a pipe");
        let mut out = String::new();
        pipe.read_to_string(&mut out).await.expect("text");
        out
    }

    #[test]
    fn output_code_and_signal() {
        run(async {
            let c = spawn(&spec(&["sh", "-c", "echo out; echo err >&2; exit 3"])).expect("sh");
            assert_eq!(text(&c.stdout).await, "out\n");
            assert_eq!(text(&c.stderr).await, "err\n");
            assert_eq!(std::future::poll_fn(|cx| c.poll_ended(cx)).await, Ended::Code(3));
            assert!(c.kill(0).is_err(), "it has ended");
            let c = spawn(&spec(&["sleep", "100"])).expect("sleep");
            assert_eq!(c.ended(), None);
            c.kill(libc::SIGTERM).expect("it runs");
            assert_eq!(std::future::poll_fn(|cx| c.poll_ended(cx)).await, Ended::Signal(libc::SIGTERM));
        });
    }

    #[test]
    fn merged_output_and_environment() {
        run(async {
            let mut s = spec(&["sh", "-c", "echo $A; echo err >&2"]);
            s.merge_stderr = true;
            s.environ = Some(vec![b"A=b=c".to_vec(), b"PATH=/usr/bin:/bin".to_vec()]);
            let c = spawn(&s).expect("sh");
            assert!(c.stderr.borrow().is_none());
            assert_eq!(text(&c.stdout).await, "b=c\nerr\n");
        });
    }

    #[test]
    fn a_dropped_child_is_killed_and_reaped() {
        run(async {
            let c = spawn(&spec(&["sleep", "100"])).expect("sleep");
            let pid = c.pid;
            drop(c);
            for _ in 0..500 {
                if send_signal(pid, 0).is_err() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!("the child is still there");
        });
    }
}
