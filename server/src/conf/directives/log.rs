//! `error_log`, `access_log`, `log_format`.

use std::sync::Arc;

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::Fail;
use crate::conf::model::{AccessLog, ErrorLog, Level as LogLevel, LogEscape, LogFormat};
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

/// The format that exists without being defined.
const COMBINED: &[u8] = b"$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// The predefined format.
pub fn combined(vars: &mut VarTable) -> Arc<LogFormat> {
    let script = Script::compile(COMBINED, vars).expect("the names in it are well formed");
    Arc::new(LogFormat { name: "combined".to_owned(), escape: LogEscape::Default, script })
}

fn refuse_device(path: &[u8]) -> Result<(), Fail> {
    for device in ["syslog:", "memory:"] {
        if path.starts_with(device.as_bytes()) {
            return Err(Fail::Message(format!("logging to \"{device}\" is not supported yet")));
        }
    }
    Ok(())
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
        return Err(Fail::parameter(more));
    }
    let log = ErrorLog { file: cx.log_file(path), level };
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
    if path.contains(&b'$') {
        return Err(Fail::Message("variables in the path of an access log are not supported yet".to_owned()));
    }
    let format = match node.args.get(1) {
        None => predefined(cx),
        Some(name) if **name == *b"combined" => predefined(cx),
        Some(name) => {
            let name = String::from_utf8_lossy(name);
            let format = cx.all.log_formats.get(&*name).cloned();
            format.ok_or_else(|| Fail::Message(format!("unknown log format \"{name}\"")))?
        }
    };
    let mut log =
        AccessLog { file: cx.log_file(path), format, buffer_bytes: 0, flush_ms: 0, condition: None };
    for arg in node.args.iter().skip(2) {
        let text = String::from_utf8_lossy(arg);
        let invalid = |what: &str| Fail::Message(format!("invalid {what} \"{text}\""));
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
            _ if text == "gzip" || text.starts_with("gzip=") => {
                return Err(Fail::Message("compressed access logs are not supported yet".to_owned()));
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
