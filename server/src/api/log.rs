//! `ngx.log` and `print`.

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Raised, Value, Vm};

use super::ApiFn;
use crate::conf::model::Level;
use crate::lua::args::is_null;
use crate::lua::worker::here;
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[ApiFn::plain("ngx.log", Phases::ANY, log)];

/// The global `print`.
pub const PRINT: ApiFn = ApiFn::plain("print", Phases::ANY, print);

/// `ngx.log(level, ...)`: a line of the error log, with the position of the caller.
///
/// Raises `bad log level: N`.
fn log(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.check_int(0)?;
    let Some(level) = Level::from_number(i64::from(n)) else {
        return Err(vm.arg_error(0, format!("bad log level: {n}").as_bytes()));
    };
    write(vm, level, 1)
}

/// `print(...)`: the same at level notice.
fn print(vm: &mut Vm, _: Entry) -> NativeResult {
    write(vm, Level::Notice, 0)
}

fn write(vm: &mut Vm, level: Level, from: usize) -> NativeResult {
    let w = here();
    let logs = super::errlog::logs_here(&w);
    if !w.logs.enabled(&logs, level) {
        return Ok(Outcome::none());
    }
    let mut line = b"[lua] ".to_vec();
    line.extend_from_slice(&place(vm));
    for i in from..vm.nargs() {
        let v = vm.arg(i);
        // The level is not counted.
        append(vm, i - from, v, &mut line)?;
    }
    w.log(level, &line);
    Ok(Outcome::none())
}

/// `file.lua:12: handler(): ` of the caller.
fn place(vm: &Vm) -> Vec<u8> {
    let at = vm.position(1);
    let text = at.strip_suffix(b" ").unwrap_or(&at);
    let base = memchr::memrchr(b'/', text).map_or(0, |n| n + 1);
    // A chunk of the configuration is called `content_by_lua(nginx.conf:5)`: there the slash is no directory's.
    let base = if text[..base].contains(&b'(') { 0 } else { base };
    let mut out = text[base..].to_vec();
    if out.is_empty() {
        // Whoever calls is no Lua code: `pcall(ngx.log, ...)`.
        return b"[C]:-1: ".to_vec();
    }
    out.push(b' ');
    if let Some(f) = vm.frame_at(vm.cur, 1)
        && let Some((_, name)) = vm.frame_name(f)
    {
        out.extend_from_slice(&name);
        out.extend_from_slice(b"(): ");
    }
    out
}

fn append(vm: &mut Vm, i: usize, v: Value, out: &mut Vec<u8>) -> Result<(), Raised> {
    match v.type_name() {
        "string" | "number" | "nil" | "boolean" => out.extend_from_slice(&vm.raw_text(v)),
        _ if is_null(vm, v) => out.extend_from_slice(b"null"),
        other => match vm.error_string(v) {
            Some(t) => out.extend_from_slice(&t),
            None => {
                let text = format!("expected table to have __tostring metamethod");
                let text = if other == "table" {
                    text
                } else {
                    format!("string, number, boolean, or nil expected, got {other}")
                };
                return Err(vm.arg_error(i, text.as_bytes()));
            }
        },
    }
    Ok(())
}
