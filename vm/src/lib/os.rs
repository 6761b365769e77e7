//! The os library.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;

use super::{check_option, push_failure, set_field, sys};
use crate::bytecode::ops::Mm;
use crate::heap::gc_ref::Gc;
use crate::limits::META_LOOP_MAX;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised, Takes};
use crate::table::Table;
use crate::value::Value;
use crate::value::number::to_i64;

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("os.clock", clock).plain(Takes::Values),
    NativeRow::new("os.date", date),
    NativeRow::new("os.difftime", difftime),
    NativeRow::new("os.execute", execute),
    NativeRow::new("os.exit", exit),
    NativeRow::new("os.getenv", getenv),
    NativeRow::new("os.remove", remove),
    NativeRow::new("os.rename", rename),
    NativeRow::new("os.setlocale", setlocale),
    NativeRow::new("os.time", time).plain(Takes::Values),
    NativeRow::new("os.tmpname", tmpname),
];

/// Opens the library.
pub fn open(vm: &mut Vm) {
    super::new_library(vm, "os", FNS);
}

/// `os.clock()`: processor seconds.
fn clock(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::num(sys::clock_seconds())))
}

/// `os.difftime(a, b)`.
fn difftime(vm: &mut Vm, _: Entry) -> NativeResult {
    let b = to_i64(vm.opt_num(1, 0.0)?);
    let a = to_i64(vm.check_num(0)?);
    let d = a as f64 - b as f64;
    Ok(Outcome::one(Value::num(d)))
}

/// `os.getenv(name)`.
fn getenv(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
        return Ok(Outcome::one(Value::NIL));
    }
    Ok(Outcome::one(match std::env::var_os(std::ffi::OsStr::from_bytes(&name)) {
        Some(v) => Value::obj(vm.heap.str(v.as_bytes())),
        None => Value::NIL,
    }))
}

/// `true`, or nil with `name: reason` and the error's number.
fn file_result(vm: &mut Vm, r: std::io::Result<()>, name: &[u8]) -> NativeResult {
    match r {
        Ok(()) => Ok(Outcome::one(Value::TRUE)),
        Err(e) => {
            let text = [name, b": ", sys::error_text(&e).as_bytes()].concat();
            push_failure(vm, &text, sys::error_code(&e))
        }
    }
}

/// `os.remove(path)`: a file or an empty directory.
fn remove(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let r = sys::path(&name).and_then(|p| match std::fs::symlink_metadata(&p) {
        Ok(m) if m.is_dir() => std::fs::remove_dir(&p),
        _ => std::fs::remove_file(&p),
    });
    file_result(vm, r, &name)
}

/// `os.rename(from, to)`.
fn rename(vm: &mut Vm, _: Entry) -> NativeResult {
    let from = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let to = vm.check_str(1)?.bytes(&vm.heap).to_vec();
    let r = sys::path(&from).and_then(|f| std::fs::rename(f, sys::path(&to)?));
    file_result(vm, r, &from)
}

/// `os.tmpname()`: a file of that name has been made. Raises `unable to generate a unique filename`.
fn tmpname(vm: &mut Vm, _: Entry) -> NativeResult {
    match make_temporary() {
        Ok((name, _)) => Ok(Outcome::one(Value::obj(vm.heap.str(name.as_bytes())))),
        Err(_) => Err(vm.throw_str(b"unable to generate a unique filename")),
    }
}

/// A new file in the directory for temporary ones, open for reading and writing.
pub(super) fn make_temporary() -> std::io::Result<(String, std::fs::File)> {
    const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut last = std::io::Error::from_raw_os_error(libc::EEXIST);
    for _ in 0..100 {
        let mut n = sys::entropy() as u64;
        let mut name = "/tmp/lua_".to_string();
        for _ in 0..6 {
            name.push(LETTERS[(n % 62) as usize] as char);
            n /= 62;
        }
        match std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&name) {
            Ok(f) => return Ok((name, f)),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// The results of a finished command in 5.2 mode: true or nil, `exit` or `signal`, the number.
pub(super) fn push_status(vm: &mut Vm, status: std::process::ExitStatus) -> NativeResult {
    let (what, n): (&[u8], i32) = match status.code() {
        Some(n) => (b"exit", n),
        None => (b"signal", status.signal().unwrap_or(0)),
    };
    let ok = what == b"exit" && n == 0;
    vm.push(if ok { Value::TRUE } else { Value::NIL });
    let s = vm.heap.str(what);
    vm.push(Value::obj(s));
    vm.push(Value::int(n));
    Ok(Outcome::top(3))
}

/// `os.execute(command)`: the raw status (5.1) or what `push_status` says; without a command whether there
/// is a shell.
fn execute(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(cmd) = vm.opt_str(0)? else {
        return Ok(Outcome::one(if vm.compat52 { Value::TRUE } else { Value::int(1) }));
    };
    let cmd = cmd.bytes(&vm.heap).to_vec();
    super::io::flush_standard(vm);
    let r = std::process::Command::new("/bin/sh").arg("-c").arg(std::ffi::OsStr::from_bytes(&cmd)).status();
    match r {
        Ok(status) if vm.compat52 => push_status(vm, status),
        Ok(status) => Ok(Outcome::one(Value::int(status.into_raw()))),
        Err(e) if vm.compat52 => push_failure(vm, sys::error_text(&e).as_bytes(), sys::error_code(&e)),
        Err(_) => Ok(Outcome::one(Value::int(-1))),
    }
}

/// `os.exit(code or boolean, close)`: ends the process after flushing the standard streams; with `close` the
/// finalizers that are left run before.
fn exit(vm: &mut Vm, _: Entry) -> NativeResult {
    let code = match vm.arg(0) {
        Value::TRUE | Value::NIL => 0,
        Value::FALSE => 1,
        _ => vm.check_int(0)?,
    };
    if vm.arg(1).truthy() {
        vm.close();
    }
    super::io::flush_standard(vm);
    std::process::exit(code)
}

/// `os.setlocale(locale, category)`: there is the C locale only.
fn setlocale(vm: &mut Vm, _: Entry) -> NativeResult {
    let wanted = vm.opt_str(0)?;
    check_option(vm, 1, Some(0), &["all", "collate", "ctype", "monetary", "numeric", "time"])?;
    let known = match wanted {
        None => true,
        Some(s) => matches!(s.bytes(&vm.heap), b"" | b"C" | b"POSIX"),
    };
    Ok(Outcome::one(if known { Value::obj(vm.heap.str(b"C")) } else { Value::NIL }))
}

/// `os.date(format, time)`: text, or a table for `*t`; `!` asks for UTC.
fn date(vm: &mut Vm, _: Entry) -> NativeResult {
    let mut format = match vm.opt_str(0)? {
        Some(s) => s.bytes(&vm.heap).to_vec(),
        None => b"%c".to_vec(),
    };
    let time = if vm.arg(1).is_nil() { sys::now_seconds() } else { to_i64(vm.check_num(1)?) };
    let utc = format.first() == Some(&b'!');
    if utc {
        format.remove(0);
    }
    // As in C, the text ends at a zero byte.
    format.truncate(memchr::memchr(0, &format).unwrap_or(format.len()));
    if format != b"*t" {
        return match sys::format_time(&format, time, utc) {
            Some(text) => Ok(Outcome::one(super::new_string(vm, &text)?)),
            None => Ok(Outcome::one(Value::NIL)),
        };
    }
    let Some(c) = sys::calendar(time, utc) else { return Ok(Outcome::one(Value::NIL)) };
    let t = vm.heap.new_table(0, 4);
    for (name, n) in [
        ("sec", c.sec),
        ("min", c.min),
        ("hour", c.hour),
        ("day", c.mday),
        ("month", c.mon + 1),
        ("year", c.year + 1900),
        ("wday", c.wday + 1),
        ("yday", c.yday + 1),
    ] {
        set_field(vm, t, name, Value::int(n));
    }
    if c.isdst >= 0 {
        set_field(vm, t, "isdst", Value::bool(c.isdst != 0));
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// A field of the table given to `os.time`, or of the tables that `__index` names.
fn date_field(vm: &mut Vm, mut t: Gc<Table>, name: &str) -> Value {
    for _ in 0..META_LOOP_MAX {
        let v = t.get_bytes(&vm.heap, name.as_bytes());
        let next = t.get(&vm.heap).meta.map(|mt| vm.meta_field(mt, Mm::Index));
        match next.and_then(|h| h.as_obj::<Table>()) {
            Some(h) if v.is_nil() => t = h,
            _ => return v,
        }
    }
    Value::NIL
}

/// A number of the table given to `os.time`.
fn time_field(vm: &mut Vm, t: Gc<Table>, name: &str, default: Option<i32>) -> Result<i32, Raised> {
    let v = date_field(vm, t, name);
    match (vm.to_number(v), default) {
        (Some(n), _) => Ok(to_i64(n) as i32),
        (None, Some(d)) => Ok(d),
        (None, None) => {
            let text = format!("field '{name}' missing in date table");
            Err(vm.throw_str(text.as_bytes()))
        }
    }
}

/// `os.time(table)`: seconds since the epoch. Raises `field 'day' missing in date table`.
fn time(vm: &mut Vm, _: Entry) -> NativeResult {
    if vm.arg(0).is_nil() {
        return Ok(Outcome::one(Value::num(sys::now_seconds() as f64)));
    }
    let t = vm.check_tab(0)?;
    let c = sys::Calendar {
        sec: time_field(vm, t, "sec", Some(0))?,
        min: time_field(vm, t, "min", Some(0))?,
        hour: time_field(vm, t, "hour", Some(12))?,
        mday: time_field(vm, t, "day", None)?,
        mon: time_field(vm, t, "month", None)?.wrapping_sub(1),
        year: time_field(vm, t, "year", None)?.wrapping_sub(1900),
        isdst: match date_field(vm, t, "isdst") {
            Value::NIL => -1,
            v => v.truthy() as i32,
        },
        ..sys::Calendar::default()
    };
    Ok(Outcome::one(sys::make_time(&c).map_or(Value::NIL, |n| Value::num(n as f64))))
}
