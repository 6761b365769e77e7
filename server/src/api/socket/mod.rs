//! `ngx.socket.*` and `ngx.req.socket` over the cosockets of `cosocket`.
//!
//! A socket is a table whose first element is the userdata with the handle, so
//! that libraries may hang fields of their own on it. It belongs to the request
//! (or timer) that connected it: another one that uses it gets `bad request`,
//! and it is closed with its owner.

pub mod options;
pub mod owner;
pub mod request;
pub mod tcp;
pub mod tls;
pub mod udp;

use std::rc::Rc;

use moonlit_vm::host::native::{Gc, NativeId, NativeRow, Raised, Str, Table, Value, Vm};

use super::{ApiFn, last_part, methods_metatable};
use crate::conf::model::{Level, Location};
use crate::cosocket::error::{Call, SockError, io_detail, is_usual};
use crate::cosocket::pool::PeerName;
use crate::cosocket::tcp::Timeouts;
use crate::cosocket::trace::Trace;
use crate::http1::write::write_decimal;
use crate::lua::args::{Nesting, NoText, string};
use crate::lua::worker::{LuaWorker, Rooted, here};

/// What the VM keeps for sockets: metatables by kind, and the iterator of `receiveuntil`.
struct Kept {
    tcp: Rooted,
    udp: Rooted,
    body: Rooted,
    raw: Rooted,
    iterator: NativeId,
}

/// The kinds of sockets, each with its methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `ngx.socket.tcp`.
    Tcp,
    /// `ngx.socket.udp`.
    Udp,
    /// `ngx.req.socket()`.
    Body,
    /// `ngx.req.socket(true)`.
    Raw,
}

/// Makes the metatables of sockets.
pub fn install(w: &Rc<LuaWorker>, vm: &mut Vm) {
    let tcp = metatable(w, vm, tcp::METHODS, |_| true);
    let udp = metatable(w, vm, udp::METHODS, |_| true);
    let body = metatable(w, vm, tcp::METHODS, |name| tcp::BODY_METHODS.contains(&name));
    let raw = metatable(w, vm, tcp::METHODS, |name| name == "send" || tcp::BODY_METHODS.contains(&name));
    let iterator = vm.natives.add(NativeRow::new("tcpsock.receiveuntil.iterator", tcp::until_step));
    vm.app.set(Kept { tcp, udp, body, raw, iterator });
    if w.debugging() {
        let to = w.clone();
        let sink: Rc<dyn Fn(&str)> = Rc::new(move |text| to.debug_plain(|| text.to_owned()));
        *w.pools.trace.borrow_mut() = Trace::to(sink);
    }
}

fn metatable(w: &Rc<LuaWorker>, vm: &mut Vm, rows: &[ApiFn], has: impl Fn(&str) -> bool) -> Rooted {
    let meta = methods_metatable(w, vm, rows.iter().filter(|r| has(last_part(r.name))));
    Rooted::new(w, vm, Value::obj(meta))
}

/// A new table with the metatable of a kind and the handle in it.
fn new_object(vm: &mut Vm, kind: Kind, cell: Value) -> Value {
    let t = vm.heap.new_table(2, 0);
    crate::lua::args::set_index(vm, t, 1, cell);
    let meta = vm.app.get::<Kept>().map(|k| {
        match kind {
            Kind::Tcp => &k.tcp,
            Kind::Udp => &k.udp,
            Kind::Body => &k.body,
            Kind::Raw => &k.raw,
        }
        .get(vm)
    });
    vm.heap.set_metatable(t, meta.and_then(|m| m.as_obj()));
    Value::obj(t)
}

/// Where the debug lines of the running code's sockets go.
fn trace() -> Trace {
    let w = here();
    if !w.debugging() {
        return Trace::default();
    }
    Trace::to(match w.request() {
        Some(req) => {
            // The socket may outlive the request: it must not keep it.
            let req = Rc::downgrade(&req);
            Rc::new(move |text: &str| {
                if let Some(req) = req.upgrade() {
                    req.log(Level::Debug, text.as_bytes());
                }
            })
        }
        None => Rc::new(move |text: &str| w.debug_plain(|| text.to_owned())),
    })
}

/// Runs `f` with the settings of the running code's location.
fn with_level<R>(f: impl FnOnce(&Location) -> R) -> R {
    let w = here();
    match w.request() {
        Some(req) => f(&req.location()),
        None => f(&w.http().level),
    }
}

/// The time limits of the configuration.
fn configured_timeouts() -> Timeouts {
    let ms = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    with_level(|l| Timeouts {
        connect_ms: ms(l.lua_socket_connect_timeout),
        send_ms: ms(l.lua_socket_send_timeout),
        read_ms: ms(l.lua_socket_read_timeout),
    })
}

/// Raises an error with a position in front.
fn raise(vm: &mut Vm, text: &str) -> Raised {
    vm.throw_str(text.as_bytes())
}

/// `nil, text` for a failed operation.
fn nil_error(vm: &mut Vm, e: &SockError) -> Vec<Value> {
    vec![Value::NIL, string(vm, e.text())]
}

/// Logs a line at level error, if failures of sockets are to be logged.
fn log_error(text: &str) {
    if with_level(|l| l.lua_socket_log_errors) {
        here().log(Level::Error, text.as_bytes());
    }
}

/// Which operation a failure belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Connect,
    Read,
    Write,
}

/// Writes the line that nginx writes for a failure. `proto` is `tcp` or `udp`.
fn log_failure(proto: &str, doing: Doing, e: &SockError, peer: &PeerName) {
    let what = match doing {
        Doing::Connect => "connect",
        Doing::Read => "read",
        Doing::Write => "write",
    };
    match e {
        SockError::Timeout => log_error(&format!("lua {proto} socket {what} timed out{}", peer.suffix())),
        SockError::QueueTimeout => log_error(&format!(
            "lua {proto} socket queued connect timed out, when trying to connect to {}:{}",
            peer.host, peer.port
        )),
        SockError::Connect { call: Call::Connect, error } if proto == "tcp" => {
            log_error(&format!("connect() failed ({})", io_detail(error)));
        }
        SockError::Connect { call, error } => {
            let call = match call {
                Call::Connect => "connect()".to_owned(),
                Call::ConnectTo(to) => format!("connect() to {to}"),
                Call::Bind(at) => format!("bind({at})"),
            };
            let level = if is_usual(error) { Level::Error } else { Level::Crit };
            let line = format!("{call} failed ({}){}", io_detail(error), peer.suffix());
            here().log(level, line.as_bytes());
        }
        SockError::Io(error) => {
            let call = if doing == Doing::Write { "send()" } else { "recv()" };
            let suffix = if proto == "udp" { peer.suffix() } else { String::new() };
            here().log(Level::Error, format!("{call} failed ({}){suffix}", io_detail(error)).as_bytes());
        }
        _ => {}
    }
}

/// The bytes of `send`'s argument: a text, number, boolean or nil, or an array of texts and numbers,
/// nested or not.
fn payload(vm: &mut Vm, i: usize) -> Result<Vec<u8>, Raised> {
    let v = vm.arg(i);
    let mut out = Vec::new();
    let wrong = match v.type_name() {
        "string" | "number" | "boolean" | "nil" => {
            append_scalar(vm, v, &mut out);
            None
        }
        "table" => append_array(vm, v, &mut Nesting::new(), &mut out).err(),
        other => Some(format!("string, number, boolean, nil, or array table expected, got {other}")),
    };
    match wrong {
        None => Ok(out),
        Some(text) => Err(vm.arg_error(i, text.as_bytes())),
    }
}

fn append_scalar(vm: &Vm, v: Value, out: &mut Vec<u8>) {
    match v.as_obj::<Str>() {
        Some(s) => out.extend_from_slice(s.bytes(&vm.heap)),
        None => match v.as_num() {
            // Lengths, mostly.
            Some(n) if f64::from(n as u32).to_bits() == n.to_bits() => write_decimal(out, n as u64),
            _ => out.extend_from_slice(&vm.raw_text(v)),
        },
    }
}

fn append_array(vm: &Vm, v: Value, nesting: &mut Nesting, out: &mut Vec<u8>) -> Result<(), String> {
    let Some(t) = v.as_obj::<Table>() else { return Ok(()) };
    if !nesting.enter() {
        return Err(NoText::NESTED.to_owned());
    }
    for i in 1..=array_length(vm, t)? {
        let item = t.geti(&vm.heap, i);
        if item.is::<Str>() || item.is_num() {
            append_scalar(vm, item, out);
        } else if item.is::<Table>() {
            append_array(vm, item, nesting, out)?;
        } else {
            return Err(format!("bad data type {} found", item.type_name()));
        }
    }
    nesting.leave();
    Ok(())
}

/// The largest index of a table that has nothing but indices.
fn array_length(vm: &Vm, t: Gc<Table>) -> Result<i64, String> {
    let table = t.get(&vm.heap);
    // The usual one: nothing but a list. Its first slot is that of index 0.
    if let (0, [Value::NIL, list @ ..]) = (table.hash_size(), table.array()) {
        return Ok(list.iter().rposition(|v| !v.is_nil()).map_or(0, |i| i as i64 + 1));
    }
    let (mut max, mut at) = (0.0f64, 0);
    while let Some((next, k, _)) = t.next_at(&vm.heap, at) {
        match k.as_num() {
            Some(n) if n >= 1.0 && n.fract() == 0.0 && n < 1e15 => max = max.max(n),
            _ => return Err("non-array table found".to_owned()),
        }
        at = next;
    }
    Ok(max as i64)
}

/// A number, or a text that is one, as an integer.
fn integer_of(vm: &Vm, v: Value) -> Option<i64> {
    let n = match v.as_num() {
        Some(n) => n,
        None => vm.str_to_number(v)?,
    };
    Some(n as i64)
}

/// Milliseconds of `settimeout`; `None` for zero, which means the configured limit.
fn timeout_arg(vm: &mut Vm, i: usize) -> Result<Option<u32>, Raised> {
    let v = vm.arg(i);
    let n = integer_of(vm, v).unwrap_or(0);
    match u32::try_from(n) {
        Ok(n) if n <= i32::MAX as u32 => Ok((n > 0).then_some(n)),
        _ => Err(raise(vm, "bad timeout value")),
    }
}
