//! Names of signals, and the sentence that the log has for each that came in.

use super::os::Caught;

/// The signal's name, `SIGHUP`.
pub fn name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGWINCH => "SIGWINCH",
        libc::SIGTERM => "SIGTERM",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGALRM => "SIGALRM",
        libc::SIGINT => "SIGINT",
        libc::SIGIO => "SIGIO",
        libc::SIGCHLD => "SIGCHLD",
        _ => "signal",
    }
}

/// `signal 1 (SIGHUP) received from 42, reconfiguring`.
pub fn received(caught: Caught, what: &str) -> String {
    let (signal, from) = (caught.signal, caught.from);
    let action = if what.is_empty() { String::new() } else { format!(", {what}") };
    format!("signal {signal} ({}) received from {from}{action}", name(signal))
}

/// The signal of `-s NAME`.
pub fn of_command(command: &str) -> Option<i32> {
    match command {
        "stop" => Some(libc::SIGTERM),
        "quit" => Some(libc::SIGQUIT),
        "reopen" => Some(libc::SIGUSR1),
        "reload" => Some(libc::SIGHUP),
        _ => None,
    }
}
