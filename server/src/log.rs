//! Log files: `error.log` in nginx's exact form, access logs with buffers and escapes.
//!
//! One `Logs` per process and configuration, shared by everything that logs. Lines go out with one
//! write each (files are opened for appending, so lines of several workers do not mix), or through a
//! buffer when `access_log` asks for one. Must not know: requests, Lua; whoever logs brings its text.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::conf::error::os_text;
use crate::conf::model::{AccessLog, Config, ErrorLog, Level, ListenAddr, LogEscape, LogFormat, Syslog};
use crate::conf::variables::{Part, Variables};

/// The process id that lines show; set anew after a fork.
static PID: AtomicU32 = AtomicU32::new(0);
/// Offset of local time in seconds; set by the process layer.
static ZONE_S: AtomicI32 = AtomicI32::new(0);

/// Tells which process this is, and the offset of its local time. To be called at start and after each fork.
pub fn set_process(pid: u32, zone_s: i32) {
    PID.store(pid, Ordering::Relaxed);
    ZONE_S.store(zone_s, Ordering::Relaxed);
}

/// The offset of local time in seconds, as told by `set_process`.
pub fn zone_offset_s() -> i32 {
    ZONE_S.load(Ordering::Relaxed)
}

/// The open log files of a configuration; `LogFileId` indexes them.
#[derive(Debug)]
pub struct Logs {
    files: Vec<OpenLog>,
    /// Lines kept for scripts (`lua_capture_error_log`).
    capture: Option<Mutex<Capture>>,
}

/// The newest lines of the error log, in a ring of fixed size.
///
/// A line takes its bytes and a header, lies in one piece, and pushes out the oldest ones that are in its way.
#[derive(Debug)]
pub struct Capture {
    size: usize,
    tail: usize,
    level: Level,
    lines: VecDeque<Captured>,
}

/// A kept line.
#[derive(Debug)]
pub struct Captured {
    at: usize,
    /// Its level.
    pub level: Level,
    /// When it was logged, in milliseconds since 1970.
    pub time_ms: u64,
    /// The line, without newline.
    pub text: Vec<u8>,
}

/// What a kept line takes besides its bytes.
const CAPTURE_HEADER_BYTES: usize = 16;

impl Capture {
    /// A ring of `size` bytes that takes every level.
    fn new(size: usize) -> Capture {
        Capture { size, tail: 0, level: Level::Debug, lines: VecDeque::new() }
    }

    /// Only lines of this level and graver ones are kept from now on.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    /// Takes the oldest line out.
    pub fn pop(&mut self) -> Option<Captured> {
        let line = self.lines.pop_front();
        if self.lines.is_empty() {
            self.tail = 0;
        }
        line
    }

    fn free(&self) -> usize {
        match self.lines.front() {
            None => self.size,
            Some(first) if self.tail > first.at => self.size - self.tail,
            Some(first) => first.at - self.tail,
        }
    }

    fn push(&mut self, level: Level, time_ms: u64, text: &[u8]) {
        let need = text.len() + CAPTURE_HEADER_BYTES;
        if level > self.level || need > self.size {
            return;
        }
        if self.free() < need && self.size - self.tail < need {
            // It does not fit in front of the end: what lies there goes, and the ring begins anew.
            while self.lines.front().is_some_and(|l| l.at >= self.tail) {
                self.lines.pop_front();
            }
            self.tail = 0;
        }
        while self.free() < need {
            self.pop();
        }
        self.lines.push_back(Captured { at: self.tail, level, time_ms, text: text.to_vec() });
        self.tail += need;
    }
}

#[derive(Debug)]
struct OpenLog {
    /// Empty for standard error and syslog.
    path: PathBuf,
    syslog: Option<Syslog>,
    state: Mutex<State>,
}

/// A socket to a syslog server.
#[derive(Debug)]
enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

#[derive(Debug, Default)]
struct State {
    /// `None` writes to standard error.
    file: Option<File>,
    /// The way to the syslog server, once it is there.
    socket: Option<Socket>,
    /// How well the buffer is compressed when it is written; 0 is not at all.
    gzip_level: u8,
    buffer: Vec<u8>,
    /// When the oldest line in the buffer has to go out.
    due: Option<Instant>,
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// nginx's words for a log that cannot be opened.
pub fn open_failed(path: &Path, error: &io::Error) -> String {
    format!("open() \"{}\" failed {}", path.display(), os_text(error))
}

impl Logs {
    /// Opens every log file of the configuration. The error is nginx's line.
    pub fn open(config: &Config) -> Result<Logs, String> {
        let mut files = Vec::with_capacity(config.log_files.len());
        for log in &config.log_files {
            let file = if log.path.as_os_str().is_empty() || log.syslog.is_some() {
                None
            } else {
                Some(open(&log.path).map_err(|error| open_failed(&log.path, &error))?)
            };
            let state = Mutex::new(State { file, ..State::default() });
            files.push(OpenLog { path: log.path.clone(), syslog: log.syslog.clone(), state });
        }
        let capture = config.http.as_ref().map_or(0, |h| h.lua.settings.lua_capture_error_log);
        let capture =
            (capture > 0).then(|| Mutex::new(Capture::new(usize::try_from(capture).unwrap_or(usize::MAX))));
        Ok(Logs { files, capture })
    }

    /// The lines kept for scripts, if any are.
    pub fn captured<R>(&self, f: impl FnOnce(&mut Capture) -> R) -> Option<R> {
        let capture = self.capture.as_ref()?;
        Some(f(&mut capture.lock().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }

    /// Logs that write nowhere but to standard error; for tests and before there is a configuration.
    pub fn stderr() -> Logs {
        let file = OpenLog { path: PathBuf::new(), syslog: None, state: Mutex::default() };
        Logs { files: vec![file], capture: None }
    }

    /// Opens every file anew, as after USR1. Files that cannot be opened stay as they are; the
    /// errors are returned in nginx's words.
    pub fn reopen(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for log in &self.files {
            log.flush();
            if log.path.as_os_str().is_empty() {
                continue;
            }
            match open(&log.path) {
                Ok(file) => log.lock().file = Some(file),
                Err(error) => errors.push(open_failed(&log.path, &error)),
            }
        }
        errors
    }

    /// The paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|log| &*log.path).filter(|path| !path.as_os_str().is_empty())
    }

    /// Whether a message of this level would be written anywhere.
    pub fn enabled(&self, logs: &[ErrorLog], level: Level) -> bool {
        logs.iter().any(|log| level <= log.level)
    }

    /// Writes a message to every log that takes its level. `connection` is the number behind `*`.
    pub fn error(&self, logs: &[ErrorLog], level: Level, connection: Option<u64>, message: &[u8]) {
        if !self.enabled(logs, level) {
            return;
        }
        let line = error_line(level, connection, message);
        self.captured(|c| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            c.push(level, u64::try_from(now.as_millis()).unwrap_or(0), &line[..line.len() - 1]);
        });
        for (at, log) in logs.iter().enumerate() {
            // The same file named twice gets a line once.
            if level <= log.level
                && !logs[..at].iter().any(|other| other.file == log.file && level <= other.level)
            {
                self.write(log.file.0, level, &line);
            }
        }
    }

    fn write(&self, at: usize, level: Level, line: &[u8]) {
        let Some(log) = self.files.get(at) else { return };
        match &log.syslog {
            Some(to) => log.lock().send(to, (level as u8).clamp(1, 8) - 1, line),
            None => log.lock().write(line),
        }
    }

    /// Writes a finished access log line (a newline is added).
    pub fn access(&self, log: &AccessLog, line: &mut Vec<u8>) {
        let Some(file) = self.files.get(log.file.0) else { return };
        if let Some(to) = &file.syslog {
            file.lock().send(to, to.severity, line);
            return;
        }
        line.push(b'\n');
        let mut state = file.lock();
        state.gzip_level = log.gzip_level;
        if log.buffer_bytes == 0 {
            state.write(line);
            return;
        }
        if state.buffer.len() + line.len() > log.buffer_bytes {
            state.flush();
        }
        if line.len() > log.buffer_bytes {
            state.buffer.extend_from_slice(line);
            state.flush();
            return;
        }
        state.buffer.extend_from_slice(line);
        if log.flush_ms > 0 && state.due.is_none() {
            state.due = Some(Instant::now() + Duration::from_millis(log.flush_ms));
        }
    }

    /// Writes out buffers whose time has come. To be called now and then.
    pub fn flush_due(&self) {
        for log in &self.files {
            let mut state = log.lock();
            if state.due.is_some_and(|due| due <= Instant::now()) {
                state.flush();
            }
        }
    }

    /// Writes out every buffer.
    pub fn flush(&self) {
        self.files.iter().for_each(OpenLog::flush);
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.flush();
    }
}

impl OpenLog {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while a line was written leaves nothing half-done that matters.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn flush(&self) {
        self.lock().flush();
    }
}

impl State {
    fn write(&mut self, line: &[u8]) {
        // A log that cannot be written has nobody to be told.
        let _ = match &mut self.file {
            Some(file) => file.write_all(line),
            None => io::stderr().write_all(line),
        };
    }

    fn flush(&mut self) {
        self.due = None;
        if !self.buffer.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            if self.gzip_level > 0 {
                let packed = compressed(&buffer, self.gzip_level);
                self.write(&packed);
            } else {
                self.write(&buffer);
            }
            self.buffer = buffer;
            self.buffer.clear();
        }
    }
}

impl State {
    /// Sends a line to a syslog server. What cannot be sent is lost, as with any datagram.
    fn send(&mut self, to: &Syslog, severity: u8, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut packet = format!("<{}>", u32::from(to.facility) * 8 + u32::from(severity)).into_bytes();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let local_s = i64::try_from(now).unwrap_or(0) + i64::from(ZONE_S.load(Ordering::Relaxed));
        write_syslog_time(&mut packet, local_s);
        if to.hostname {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            packet.push(b' ');
            packet.extend_from_slice(host.trim().as_bytes());
        }
        let _ = write!(packet, " {}: ", to.tag);
        packet.extend_from_slice(line);
        if self.socket.is_none() {
            self.socket = connect(&to.server).ok();
        }
        let sent = match &self.socket {
            Some(Socket::Unix(s)) => s.send(&packet),
            Some(Socket::Udp(s)) => s.send(&packet),
            None => return,
        };
        if sent.is_err_and(|e| e.kind() != io::ErrorKind::WouldBlock) {
            // The server may have begun anew: the next line tries again.
            self.socket = None;
        }
    }
}

fn connect(server: &ListenAddr) -> io::Result<Socket> {
    match server {
        ListenAddr::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_nonblocking(true)?;
            Ok(Socket::Unix(socket))
        }
        ListenAddr::Inet(addr) => {
            let any: SocketAddr = if addr.is_ipv4() {
                (Ipv4Addr::UNSPECIFIED, 0).into()
            } else {
                (Ipv6Addr::UNSPECIFIED, 0).into()
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(addr)?;
            socket.set_nonblocking(true)?;
            Ok(Socket::Udp(socket))
        }
    }
}

/// The bytes as a gzip member of their own.
fn compressed(data: &[u8], level: u8) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(u32::from(level)));
    // Writing into memory cannot fail.
    let _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default()
}

/// Appends a line to a file that is opened for it alone.
pub fn append_to(path: &Path, line: &[u8]) -> Result<(), String> {
    open(path).and_then(|mut file| file.write_all(line)).map_err(|error| open_failed(path, &error))
}

/// `2026/11/23 14:38:09 [error] 7#7: *2 message`, with its newline.
pub fn error_line(level: Level, connection: Option<u64>, message: &[u8]) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let pid = PID.load(Ordering::Relaxed);
    let mut line = Vec::with_capacity(message.len() + 64);
    write_time(&mut line, i64::try_from(now).unwrap_or(0) + i64::from(ZONE_S.load(Ordering::Relaxed)));
    let _ = write!(line, " [{}] {pid}#{pid}: ", level.name());
    if let Some(connection) = connection {
        let _ = write!(line, "*{connection} ");
    }
    line.extend_from_slice(message);
    line.push(b'\n');
    line
}

/// `Nov 23 14:38:09` of a moment in local seconds.
fn write_syslog_time(out: &mut Vec<u8>, local_s: i64) {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut whole = Vec::new();
    write_time(&mut whole, local_s);
    let text = String::from_utf8_lossy(&whole).into_owned();
    // YYYY/MM/DD hh:mm:ss
    let month: usize = text.get(5..7).and_then(|m| m.parse().ok()).unwrap_or(1);
    let day: u32 = text.get(8..10).and_then(|d| d.parse().ok()).unwrap_or(1);
    let _ = write!(out, "{} {day:2} {}", MONTHS[(month - 1) % 12], text.get(11..).unwrap_or_default());
}

/// `2026/11/23 14:38:09` of a moment in local seconds.
fn write_time(out: &mut Vec<u8>, local_s: i64) {
    const DAY_S: i64 = 86_400;
    let (days, seconds) = (local_s.div_euclid(DAY_S), local_s.rem_euclid(DAY_S));
    // Days since 1 March of year 0, in eras of 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let _ = write!(
        out,
        "{year:04}/{month:02}/{day:02} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
}

/// Appends an access log line for a format, without newline. A variable that has no value is `-`
/// (nothing in JSON and unescaped formats).
pub fn access_line(format: &LogFormat, vars: &mut dyn Variables, out: &mut Vec<u8>) {
    let mut value = Vec::new();
    for part in format.script.parts() {
        value.clear();
        let found = match part {
            Part::Literal(bytes) => {
                out.extend_from_slice(bytes);
                continue;
            }
            Part::Var(id) => vars.variable(*id, &mut value),
            Part::Capture(n) => vars.capture(usize::from(*n), &mut value),
        };
        match (format.escape, found) {
            (LogEscape::Default, false) => out.push(b'-'),
            (LogEscape::Default, true) => escape_default(&value, out),
            (LogEscape::Json, _) => escape_json(&value, out),
            (LogEscape::None, _) => out.extend_from_slice(&value),
        }
    }
}

fn escape_default(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            _ => out.push(*byte),
        }
    }
}

fn escape_json(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            0..=0x1f => {
                let _ = write!(out, "\\u{byte:04X}");
            }
            _ => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::variables::{Script, VarId, VarTable};

    fn time(local_s: i64) -> String {
        let mut out = Vec::new();
        write_time(&mut out, local_s);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn time_in_calendar_fields() {
        assert_eq!(time(0), "1970/01/01 00:00:00");
        assert_eq!(time(951_782_399), "2000/02/28 23:59:59");
        assert_eq!(time(951_782_400), "2000/02/29 00:00:00");
        assert_eq!(time(1_795_444_689), "2026/11/23 14:38:09");
    }

    #[test]
    fn captured_lines_push_out_the_oldest() {
        let mut c = Capture::new(100);
        let texts = |c: &Capture| c.lines.iter().map(|l| l.text[0]).collect::<Vec<u8>>();
        for b in *b"abc" {
            c.push(Level::Error, 0, &[b; 14]);
        }
        assert_eq!(texts(&c), b"abc");
        c.push(Level::Error, 0, &[b'd'; 20]);
        assert_eq!(texts(&c), b"cd", "it lies where the first two lay");
        c.push(Level::Error, 0, &[b'e'; 90]);
        assert_eq!(texts(&c), b"cd", "too long for the ring");
        c.set_level(Level::Warn);
        c.push(Level::Info, 0, b"f");
        assert_eq!(c.pop().map(|l| l.text[0]), Some(b'c'));
        assert_eq!(c.pop().map(|l| l.text[0]), Some(b'd'));
        assert!(c.pop().is_none() && c.free() == 100);
    }

    #[test]
    fn error_line_has_level_process_and_connection() {
        let line = String::from_utf8(error_line(Level::Warn, Some(7), b"odd")).expect("ASCII");
        assert!(line.contains(" [warn] ") && line.ends_with(": *7 odd\n"), "{line}");
    }

    struct Fixed;

    impl Variables for Fixed {
        fn variable(&mut self, id: VarId, out: &mut Vec<u8>) -> bool {
            if id.index() == 1 {
                return false;
            }
            out.extend_from_slice(b"a\"\\\n\xe9");
            true
        }

        fn capture(&mut self, _: usize, _: &mut Vec<u8>) -> bool {
            false
        }
    }

    #[test]
    fn access_line_escapes_values_only() {
        let mut vars = VarTable::default();
        let script = Script::compile(b"\"$host\" $uri", &mut vars).expect("compiles");
        let line = |escape| {
            let format = LogFormat { name: String::new(), escape, script: script.clone() };
            let mut out = Vec::new();
            access_line(&format, &mut Fixed, &mut out);
            out
        };
        assert_eq!(line(LogEscape::Default), b"\"a\\x22\\x5C\\x0A\\xE9\" -");
        assert_eq!(line(LogEscape::Json), b"\"a\\\"\\\\\\n\xe9\" ");
        assert_eq!(line(LogEscape::None), b"\"a\"\\\n\xe9\" ");
    }
}
