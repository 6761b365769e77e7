//! `error_log`, `access_log`, `log_format`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::Fail;
use crate::conf::model::{
    AccessLog, ErrorLog, Level as LogLevel, ListenAddr, LogEscape, LogFile, LogFileId, LogFormat, Syslog,
};
use crate::conf::tree::Node;
use crate::conf::value;
use crate::conf::variables::{Script, VarTable};
use crate::phase::Contexts;

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);
const LEVELS_IF: Contexts = LEVELS.or(Contexts::LOCATION_IF).or(Contexts::LIMIT_EXCEPT);

/// The rows.
pub const ROWS: &[Row] = &[
    simple("error_log", LEVELS, Arity::AtLeast(1), error_log),
    simple("error_log", Contexts::MAIN, Arity::AtLeast(1), error_log),
    simple("access_log", LEVELS_IF, Arity::AtLeast(1), access_log),
    simple("log_format", Contexts::HTTP, Arity::AtLeast(2), log_format),
];

/// The buffer of a compressed log where none is given.
const GZIP_BUFFER_BYTES: usize = 64 << 10;

/// The format that exists without being defined.
const COMBINED: &[u8] = b"$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// The predefined format.
pub fn combined(vars: &mut VarTable) -> Arc<LogFormat> {
    let script = Script::compile(COMBINED, vars).expect("the names in it are well formed");
    Arc::new(LogFormat { name: "combined".to_owned(), escape: LogEscape::Default, script })
}

fn refuse_device(path: &[u8]) -> Result<(), Fail> {
    if path.starts_with(b"memory:") {
        return Err(Fail::Message("logging to \"memory:\" is not supported".to_owned()));
    }
    Ok(())
}

/// The number of a log: a file, standard error, or a syslog server.
fn target(cx: &mut Cx<'_>, path: &[u8]) -> Result<LogFileId, Fail> {
    let Some(parameters) = path.strip_prefix(b"syslog:") else { return Ok(cx.log_file(path)) };
    let syslog = syslog(&String::from_utf8_lossy(parameters))?;
    let files = &mut cx.all.log_files;
    let known = files.iter().position(|f| f.syslog.as_ref() == Some(&syslog));
    Ok(LogFileId(known.unwrap_or_else(|| {
        files.push(LogFile { path: PathBuf::new(), syslog: Some(syslog) });
        files.len() - 1
    })))
}

const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "intern", "lpr", "news", "uucp", "clock", "authpriv", "ftp",
    "ntp", "audit", "alert", "cron", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
const SEVERITIES: &[&str] = &["emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"];

fn syslog(text: &str) -> Result<Syslog, Fail> {
    let mut server = None;
    let mut log = Syslog {
        server: ListenAddr::Unix(PathBuf::new()),
        facility: 23,
        severity: 6,
        tag: "nginx".to_owned(),
        hostname: true,
    };
    let fail = |text: String| Err(Fail::Message(text));
    for word in text.split(',') {
        match word.split_once('=') {
            Some(("server", _)) if server.is_some() => {
                return fail("duplicate syslog \"server\"".to_owned());
            }
            Some(("server", "")) => return fail("no host in syslog server \"\"".to_owned()),
            Some(("server", addr)) => server = Some(syslog_server(addr)?),
            Some(("facility", name)) => match FACILITIES.iter().position(|f| *f == name) {
                Some(n) => log.facility = n as u8,
                None => return fail(format!("unknown syslog facility \"{name}\"")),
            },
            Some(("severity", name)) => match SEVERITIES.iter().position(|s| *s == name) {
                Some(n) => log.severity = n as u8,
                None => return fail(format!("unknown syslog severity \"{name}\"")),
            },
            Some(("tag", tag)) => {
                if tag.len() > 32 {
                    return fail("syslog tag length exceeds 32".to_owned());
                }
                if !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    return fail(
                        "syslog \"tag\" only allows alphanumeric characters and underscore".to_owned(),
                    );
                }
                log.tag = tag.to_owned();
            }
            None if word == "nohostname" => log.hostname = false,
            _ => return fail(format!("unknown syslog parameter \"{word}\"")),
        }
    }
    match server {
        Some(addr) => log.server = addr,
        None => return fail("no syslog server specified".to_owned()),
    }
    Ok(log)
}

fn syslog_server(text: &str) -> Result<ListenAddr, Fail> {
    const SYSLOG_PORT: u16 = 514;
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(ListenAddr::Unix(PathBuf::from(path)));
    }
    if let Ok(addr) = text.parse() {
        return Ok(ListenAddr::Inet(addr));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port.parse().unwrap_or(0)),
        _ => (text.trim_start_matches('[').trim_end_matches(']'), SYSLOG_PORT),
    };
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).ok().and_then(|mut a| a.next());
    found
        .map(ListenAddr::Inet)
        .ok_or_else(|| Fail::Message(format!("host not found in syslog server \"{text}\"")))
}

fn error_log(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let path = node.arg(0);
    refuse_device(path)?;
    let level = match node.args.get(1) {
        None => LogLevel::Error,
        Some(word) => LogLevel::of(word).ok_or_else(|| {
            Fail::Message(format!("invalid log level \"{}\"", String::from_utf8_lossy(word)))
        })?,
    };
    if let Some(more) = node.args.get(2) {
        let shown = String::from_utf8_lossy(more);
        return Err(Fail::Message(format!("invalid log level \"{shown}\"")));
    }
    let log = ErrorLog { file: target(cx, path)?, level };
    if cx.scope.context == Contexts::MAIN {
        cx.all.error_logs.push(log);
    } else {
        cx.scope.error_logs.push(log);
    }
    Ok(())
}

fn access_log(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let path = node.arg(0);
    if path == b"off" {
        if let Some(more) = node.args.get(1) {
            return Err(Fail::parameter(more));
        }
        cx.scope.access_logs.get_or_insert_default();
        return Ok(());
    }
    refuse_device(path)?;
    let format = match node.args.get(1) {
        None => predefined(cx),
        Some(name) if **name == *b"combined" => predefined(cx),
        Some(name) => {
            let name = String::from_utf8_lossy(name);
            let format = cx.all.log_formats.get(&*name).cloned();
            format.ok_or_else(|| Fail::Message(format!("unknown log format \"{name}\"")))?
        }
    };
    let variable = path.contains(&b'$') && !path.starts_with(b"syslog:");
    let mut log = AccessLog {
        file: if variable { LogFileId(usize::MAX) } else { target(cx, path)? },
        format,
        buffer_bytes: 0,
        flush_ms: 0,
        gzip_level: 0,
        path: if variable { Some(cx.path_script(path)?) } else { None },
        condition: None,
    };
    for arg in node.args.iter().skip(2) {
        let text = String::from_utf8_lossy(arg);
        let shown = text.split_once('=').map_or("", |(_, value)| value);
        let invalid = |what: &str| Fail::Message(format!("invalid {what} \"{shown}\""));
        match text.split_once('=') {
            Some(("buffer", size)) => {
                let bytes = value::size(size.as_bytes()).filter(|bytes| *bytes > 0);
                log.buffer_bytes = bytes
                    .and_then(|bytes| usize::try_from(bytes).ok())
                    .ok_or_else(|| invalid("buffer size"))?;
            }
            Some(("flush", time)) => {
                let time = value::time_ms(time.as_bytes()).filter(|time| *time > 0);
                log.flush_ms = time.ok_or_else(|| invalid("flush time"))?;
            }
            Some(("if", condition)) => log.condition = Some(cx.script(condition.as_bytes())?),
            _ if text == "gzip" => log.gzip_level = 1,
            Some(("gzip", level)) => {
                let level = value::number(level.as_bytes()).filter(|n| (1..=9).contains(n));
                log.gzip_level = level.ok_or_else(|| invalid("compression level"))? as u8;
            }
            _ => return Err(Fail::parameter(arg)),
        }
    }
    if log.flush_ms > 0 && log.buffer_bytes == 0 {
        return Err(Fail::Message(format!(
            "no buffer is defined for access_log \"{}\"",
            String::from_utf8_lossy(path)
        )));
    }
    if log.gzip_level > 0 && log.buffer_bytes == 0 {
        log.buffer_bytes = GZIP_BUFFER_BYTES;
    }
    if log.buffer_bytes > 0 && (variable || path.starts_with(b"syslog:")) {
        let why = if variable {
            "buffered logs cannot have variables in name"
        } else {
            "logs to syslog cannot be buffered"
        };
        return Err(Fail::Message(why.to_owned()));
    }
    cx.scope.access_logs.get_or_insert_default().push(log);
    Ok(())
}

fn predefined(cx: &mut Cx<'_>) -> Arc<LogFormat> {
    if let Some(known) = cx.all.log_formats.get("combined") {
        return known.clone();
    }
    let format = combined(&mut cx.all.vars);
    cx.all.log_formats.insert("combined".to_owned(), format.clone());
    format
}

fn log_format(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let name = node.text(0).into_owned();
    if name == "combined" || cx.all.log_formats.contains_key(&name) {
        return Err(Fail::Message(format!("duplicate \"log_format\" name \"{name}\"")));
    }
    let mut escape = LogEscape::Default;
    let mut texts = &node.args[1..];
    if let [first, rest @ ..] = texts
        && let Some(word) = first.strip_prefix(b"escape=")
    {
        escape = match word {
            b"default" => LogEscape::Default,
            b"json" => LogEscape::Json,
            b"none" => LogEscape::None,
            other => {
                let other = String::from_utf8_lossy(other);
                return Err(Fail::Message(format!("unknown log format escaping \"{other}\"")));
            }
        };
        texts = rest;
    }
    let mut script = Script::default();
    for text in texts {
        // Each argument by itself: a name does not go on in the next one.
        script.append(cx.script(text)?);
    }
    cx.all.log_formats.insert(name.clone(), Arc::new(LogFormat { name, escape, script }));
    Ok(())
}
