//! `ngx.socket.tcp` and its methods, over the cosockets of `cosocket`.
//!
//! A socket is a table whose first element is the userdata with the handle, so
//! that libraries may hang fields of their own on it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use moonlit_vm::host::native::{
    Entry, Gc, NativeId, NativeResult, NativeRow, Outcome, Raised, Str, Table, Userdata, Value, Vm,
};

use super::{ApiFn, function};
use crate::conf::model::Location;
use crate::cosocket::buffer::Until;
use crate::cosocket::tcp::{Address, ConnectOptions, Pattern, ReadError, SockError, Socket, Timeouts};
use crate::lua::args::{Loose, append_text, fail, results, set_field, set_index, string, text_of};
use crate::lua::bridge::wait;
use crate::lua::worker::{LuaWorker, Rooted, here};
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::yields("ngx.socket.tcp", Phases::COSOCKET, tcp),
    ApiFn::yields("ngx.socket.stream", Phases::COSOCKET, tcp),
    ApiFn::yields("ngx.socket.connect", Phases::COSOCKET, connect_new),
];

/// The methods.
pub const METHODS: &[ApiFn] = &[
    ApiFn::yields("tcpsock.connect", Phases::COSOCKET, connect),
    ApiFn::yields("tcpsock.send", Phases::COSOCKET, send),
    ApiFn::yields("tcpsock.receive", Phases::COSOCKET, receive),
    ApiFn::yields("tcpsock.receiveany", Phases::COSOCKET, receiveany),
    ApiFn::plain("tcpsock.receiveuntil", Phases::ANY, receiveuntil),
    ApiFn::plain("tcpsock.settimeout", Phases::ANY, settimeout),
    ApiFn::plain("tcpsock.settimeouts", Phases::ANY, settimeouts),
    ApiFn::plain("tcpsock.setoption", Phases::ANY, setoption),
    ApiFn::plain("tcpsock.setkeepalive", Phases::ANY, setkeepalive),
    ApiFn::plain("tcpsock.getreusedtimes", Phases::ANY, getreusedtimes),
    ApiFn::plain("tcpsock.close", Phases::ANY, close),
    ApiFn::plain("tcpsock.sslhandshake", Phases::ANY, sslhandshake),
];

/// What the VM keeps for sockets: their metatable, and the iterator of `receiveuntil`.
struct Kept {
    meta: Rooted,
    iterator: NativeId,
}

/// Makes the metatable of sockets.
pub fn install(w: &Rc<LuaWorker>, vm: &mut Vm) {
    let methods = vm.heap.new_table(0, 4);
    for row in METHODS {
        let f = function(w, vm, row);
        let name = row.name.rsplit('.').next().unwrap_or(row.name);
        set_field(vm, methods, name.as_bytes(), f);
    }
    let meta = vm.heap.new_table(0, 1);
    set_field(vm, meta, b"__index", Value::obj(methods));
    let iterator = vm.natives.add(NativeRow::new("tcpsock.receiveuntil.iterator", until_step));
    let meta = Rooted::new(w, vm, Value::obj(meta));
    vm.app.set(Kept { meta, iterator });
}

/// Runs `f` with the settings of the running code's location.
fn with_level<R>(f: impl FnOnce(&Location) -> R) -> R {
    let w = here();
    match w.request() {
        Some(req) => f(&req.location()),
        None => f(&w.http().level),
    }
}

fn default_timeouts() -> Timeouts {
    let ms = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    with_level(|l| Timeouts {
        connect_ms: ms(l.lua_socket_connect_timeout),
        send_ms: ms(l.lua_socket_send_timeout),
        read_ms: ms(l.lua_socket_read_timeout),
    })
}

/// Closes a socket that outlives the request (or timer) it was made in: the collector may be long in coming.
struct Tied(Socket);

impl Drop for Tied {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn new_socket(vm: &mut Vm) -> Value {
    let socket = Socket::new(default_timeouts());
    let w = here();
    let tied = Box::new(Tied(socket.clone()));
    match (w.request(), w.run()) {
        (Some(req), _) => req.at_end.borrow_mut().push(tied),
        (None, Some(run)) => run.at_end.borrow_mut().push(tied),
        (None, None) => {}
    }
    let cell = vm.heap.new_udata(socket, None);
    let t = vm.heap.new_table(2, 0);
    set_index(vm, t, 1, cell.value());
    let meta = vm.app.get::<Kept>().map(|k| k.meta.get(vm));
    vm.heap.set_metatable(t, meta.and_then(|m| m.as_obj()));
    Value::obj(t)
}

/// `ngx.socket.tcp()`: an unconnected socket.
fn tcp(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = new_socket(vm);
    Ok(Outcome::one(s))
}

/// `ngx.socket.connect(host, port)`: a connected socket, or nil and an error.
fn connect_new(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = new_socket(vm);
    let args: Vec<Value> = (0..vm.nargs()).map(|i| vm.arg(i)).collect();
    let (to, options) = connect_args(vm, &args)?;
    let handle = handle_of(vm, s).expect("made above");
    let kept = Rooted::new(&here(), vm, s);
    start_connect(vm, handle, to, options, move |vm, r| match r {
        Ok(()) => vec![kept.get(vm)],
        Err(e) => nil_error(vm, &e),
    })
}

fn handle_of(vm: &Vm, v: Value) -> Option<Socket> {
    let cell = v.as_obj::<Table>()?.geti(&vm.heap, 1);
    cell.as_obj::<Userdata>()?.downcast::<Socket>(&vm.heap).cloned()
}

fn this(vm: &mut Vm) -> Result<Socket, Raised> {
    match handle_of(vm, vm.arg(0)) {
        Some(s) => Ok(s),
        None => Err(vm.throw_str(b"bad argument: a socket expected (use \":\", not \".\")")),
    }
}

fn nil_error(vm: &mut Vm, e: &SockError) -> Vec<Value> {
    vec![Value::NIL, string(vm, e.text())]
}

fn log_failure(what: &str, e: &SockError) {
    if !with_level(|l| l.lua_socket_log_errors) {
        return;
    }
    let text = match e {
        SockError::Timeout => format!("lua tcp socket {what} timed out"),
        SockError::Io(io) if what == "connect" => format!("connect() failed ({})", io_detail(io)),
        _ => return,
    };
    here().log(crate::conf::model::Level::Error, text.as_bytes());
}

fn io_detail(e: &std::io::Error) -> String {
    let text = e.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    match e.raw_os_error() {
        Some(n) => format!("{n}: {}", &text[..end]),
        None => text,
    }
}

type Connects = (Address, ConnectOptions);

/// The arguments of `connect`, the socket not among them.
fn connect_args(vm: &mut Vm, args: &[Value]) -> Result<Connects, Raised> {
    let host = args.first().and_then(|v| text_of(vm, *v));
    let Some(host) = host else { return Err(vm.throw_str(b"bad host argument: string expected")) };
    let host = String::from_utf8_lossy(&host).into_owned();
    let second = args.get(1).copied().unwrap_or(Value::NIL);
    if let Some(path) = host.strip_prefix("unix:") {
        let options = if second.is::<Table>() { second } else { args.get(2).copied().unwrap_or(Value::NIL) };
        let options = connect_options(vm, options)?;
        return Ok((Address::Unix(PathBuf::from(path)), options));
    }
    if second.is_nil() {
        return Err(vm.throw_str(b"missing the port number"));
    }
    let Some(port) = vm.to_number(second) else {
        return Err(vm.throw_str(b"bad port number: number expected"));
    };
    if !(0.0..=65_535.0).contains(&port) {
        return Err(vm.throw_str(format!("bad port number: {port}").as_bytes()));
    }
    let options = connect_options(vm, args.get(2).copied().unwrap_or(Value::NIL))?;
    Ok((Address::Host(host, port as u16), options))
}

fn connect_options(vm: &mut Vm, v: Value) -> Result<ConnectOptions, Raised> {
    let Some(t) = v.as_obj::<Table>() else { return Ok(ConnectOptions::default()) };
    let pool = t.get_bytes(&vm.heap, b"pool");
    let pool = match pool.type_name() {
        "nil" => None,
        "string" | "number" => text_of(vm, pool),
        other => {
            let text = format!("bad \"pool\" option type: {other}");
            return Err(vm.throw_str(text.as_bytes()));
        }
    };
    let pool_size = size_option(vm, t, "pool_size", 1.0)?;
    let backlog = size_option(vm, t, "backlog", 0.0)?;
    Ok(ConnectOptions { pool, pool_size, backlog })
}

fn size_option(vm: &mut Vm, t: Gc<Table>, name: &str, min: f64) -> Result<Option<usize>, Raised> {
    let v = t.get_bytes(&vm.heap, name.as_bytes());
    if v.is_nil() {
        return Ok(None);
    }
    match v.as_num() {
        Some(n) if n >= min => Ok(Some(n as usize)),
        Some(n) => Err(vm.throw_str(format!("bad \"{name}\" option value: {n}").as_bytes())),
        None => {
            let text = format!("bad \"{name}\" option type: {}", v.type_name());
            Err(vm.throw_str(text.as_bytes()))
        }
    }
}

fn start_connect(
    vm: &mut Vm,
    s: Socket,
    to: Address,
    options: ConnectOptions,
    mut finish: impl FnMut(&mut Vm, Result<(), SockError>) -> Vec<Value> + 'static,
) -> NativeResult {
    let pool_size = with_level(|l| l.lua_socket_pool_size) as usize;
    let connecting = s.connect(&here().pools, to, options, pool_size);
    wait(vm, connecting, move |vm, r| {
        if let Err(e) = &r {
            log_failure("connect", e);
        }
        finish(vm, r)
    })
}

/// `sock:connect(host, port, options?)` or `sock:connect("unix:path", options?)`.
///
/// Returns 1, or nil and an error text. Yields unless a pooled connection is there.
fn connect(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    let args: Vec<Value> = (1..vm.nargs()).map(|i| vm.arg(i)).collect();
    let (to, options) = connect_args(vm, &args)?;
    start_connect(vm, s, to, options, |vm, r| match r {
        Ok(()) => vec![Value::int(1)],
        Err(e) => nil_error(vm, &e),
    })
}

/// `sock:send(data)`: texts, numbers and nested arrays of them. Returns the number of bytes.
fn send(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    let v = vm.arg(1);
    let mut data = Vec::new();
    if append_text(vm, v, Loose::Words, &mut data).is_err() {
        let text = format!("string, number, boolean, nil, or array table expected, got {}", v.type_name());
        return Err(vm.arg_error(1, text.as_bytes()));
    }
    wait(vm, s.send(data), |vm, r| match r {
        Ok(n) => vec![Value::num(n as f64)],
        Err(e) => {
            log_failure("write", &e);
            nil_error(vm, &e)
        }
    })
}

fn received(vm: &mut Vm, r: Result<Option<Vec<u8>>, ReadError>) -> Vec<Value> {
    match r {
        Ok(Some(data)) => vec![string(vm, data)],
        Ok(None) => vec![Value::NIL, Value::NIL, Value::NIL],
        Err(e) => {
            log_failure("read", &e.error);
            let text = string(vm, e.error.text());
            let partial = string(vm, e.partial);
            vec![Value::NIL, text, partial]
        }
    }
}

/// `sock:receive(pattern or size)`: data, or nil, error, partial data.
fn receive(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    let v = vm.arg(1);
    let pattern = match v.type_name() {
        "nil" => Pattern::Line,
        "number" => size_pattern(vm, v.as_num().unwrap_or(-1.0))?,
        "string" => {
            let text = text_of(vm, v).unwrap_or_default();
            match &text[..] {
                b"*l" => Pattern::Line,
                b"*a" => Pattern::All,
                _ => match vm.str_to_number(v) {
                    Some(n) => size_pattern(vm, n)?,
                    None => {
                        let text = format!("bad pattern argument: {}", String::from_utf8_lossy(&text));
                        return Err(vm.arg_error(1, text.as_bytes()));
                    }
                },
            }
        }
        other => {
            let text = format!("bad pattern argument: {other}");
            return Err(vm.arg_error(1, text.as_bytes()));
        }
    };
    if pattern == Pattern::Bytes(0) {
        let empty = string(vm, "");
        return Ok(Outcome::one(empty));
    }
    wait(vm, s.receive(pattern), received)
}

fn size_pattern(vm: &mut Vm, n: f64) -> Result<Pattern, Raised> {
    if n < 0.0 || n.is_nan() {
        return Err(vm.arg_error(1, b"bad pattern argument"));
    }
    Ok(Pattern::Bytes(n as usize))
}

/// `sock:receiveany(max)`: whatever comes, at most `max` bytes.
fn receiveany(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    let n = vm.check_num(1)?;
    if !(n > 0.0) {
        return Err(vm.arg_error(1, b"bad max argument"));
    }
    wait(vm, s.receive(Pattern::Any(n as usize)), |vm, r| {
        let mut out = received(vm, r);
        out.truncate(2);
        out
    })
}

/// What a `receiveuntil` iterator works on.
struct UntilCell {
    socket: Socket,
    until: Rc<RefCell<Until>>,
}

/// `sock:receiveuntil(pattern, options?)`: an iterator over the data in front of the pattern.
fn receiveuntil(vm: &mut Vm, _: Entry) -> NativeResult {
    let socket = this(vm)?;
    let pattern = vm.check_str(1)?.bytes(&vm.heap).to_vec();
    if pattern.is_empty() {
        return fail(vm, "pattern is empty");
    }
    let mut inclusive = false;
    if let Some(t) = vm.arg(2).as_obj::<Table>() {
        let v = t.get_bytes(&vm.heap, b"inclusive");
        if !v.is_nil() && !v.is_bool() {
            let text = format!("bad \"inclusive\" option value type: {}", v.type_name());
            return Err(vm.throw_str(text.as_bytes()));
        }
        inclusive = v.truthy();
    }
    let until = Rc::new(RefCell::new(Until::new(&pattern, inclusive)));
    let cell = vm.heap.new_udata(UntilCell { socket, until }, None);
    let Some(id) = vm.app.get::<Kept>().map(|k| k.iterator) else {
        return Err(vm.throw_str(b"sockets are not installed"));
    };
    let f = vm.native_func(id, &[cell.value()]);
    Ok(Outcome::one(Value::obj(f)))
}

fn until_step(vm: &mut Vm, _: Entry) -> NativeResult {
    let found = vm.upvalue(0).as_obj::<Userdata>().and_then(|u| {
        let c = u.downcast::<UntilCell>(&vm.heap)?;
        Some((c.socket.clone(), c.until.clone()))
    });
    let Some((socket, until)) = found else { return Err(vm.throw_str(b"iterator without a socket")) };
    let size = match vm.arg_opt(0) {
        None => None,
        Some(v) if v.is_nil() => None,
        Some(_) => {
            let n = vm.check_num(0)?;
            if n < 0.0 {
                return Err(vm.arg_error(0, b"bad size argument"));
            }
            if n == 0.0 { None } else { Some(n as usize) }
        }
    };
    let reading = socket.receive_until(&until, size);
    wait(vm, reading, received)
}

/// `sock:settimeout(ms)`: all three limits.
fn settimeout(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    let ms = timeout_arg(vm, 1)?;
    let d = default_timeouts();
    s.set_timeouts(Timeouts {
        connect_ms: ms.unwrap_or(d.connect_ms),
        send_ms: ms.unwrap_or(d.send_ms),
        read_ms: ms.unwrap_or(d.read_ms),
    });
    Ok(Outcome::none())
}

/// `sock:settimeouts(connect_ms, send_ms, read_ms)`.
fn settimeouts(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    let d = default_timeouts();
    s.set_timeouts(Timeouts {
        connect_ms: timeout_arg(vm, 1)?.unwrap_or(d.connect_ms),
        send_ms: timeout_arg(vm, 2)?.unwrap_or(d.send_ms),
        read_ms: timeout_arg(vm, 3)?.unwrap_or(d.read_ms),
    });
    Ok(Outcome::none())
}

/// Milliseconds; zero and nil mean the configured limit.
fn timeout_arg(vm: &mut Vm, i: usize) -> Result<Option<u32>, Raised> {
    if vm.arg(i).is_nil() {
        return Ok(None);
    }
    let n = vm.check_num(i)?;
    if !(0.0..=f64::from(i32::MAX)).contains(&n) {
        return Err(vm.throw_str(b"bad timeout value"));
    }
    Ok(if n == 0.0 { None } else { Some(n as u32) })
}

/// `sock:setoption(option, value)`: `keepalive`, `reuseaddr`, `tcp-nodelay`, `sndbuf`, `rcvbuf`.
fn setoption(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    let Some(name) = vm.arg(1).as_obj::<Str>().map(|x| x.bytes(&vm.heap).to_vec()) else {
        return fail(vm, "missing the \"option\" argument");
    };
    let v = vm.arg(2);
    if v.is_nil() {
        return fail(vm, "missing the \"value\" argument");
    }
    let on = if v.is_bool() { v.truthy() } else { vm.to_number(v).unwrap_or(0.0) != 0.0 };
    let size = vm.to_number(v).unwrap_or(0.0) as usize;
    let done = s.with_socket(|sock| match &name[..] {
        b"keepalive" => Some(sock.set_keepalive(on)),
        b"reuseaddr" => Some(sock.set_reuse_address(on)),
        b"tcp-nodelay" => Some(sock.set_tcp_nodelay(on)),
        b"sndbuf" => Some(sock.set_send_buffer_size(size)),
        b"rcvbuf" => Some(sock.set_recv_buffer_size(size)),
        _ => None,
    });
    match done {
        Err(e) => fail(vm, &e.text()),
        Ok(None) => fail(vm, &format!("unsupported option {}", String::from_utf8_lossy(&name))),
        Ok(Some(Err(e))) => fail(vm, &crate::cosocket::tcp::io_text(&e)),
        Ok(Some(Ok(()))) => Ok(Outcome::one(Value::TRUE)),
    }
}

/// `sock:setkeepalive(timeout_ms?, size?)`: puts the connection into its pool.
fn setkeepalive(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    let (ttl, size) = with_level(|l| (l.lua_socket_keepalive_timeout, l.lua_socket_pool_size));
    let ttl = if vm.arg(1).is_nil() { ttl } else { vm.check_num(1)?.max(0.0) as u64 };
    let size = if vm.arg(2).is_nil() { size as usize } else { vm.check_num(2)?.max(1.0) as usize };
    match s.set_keepalive(&here().pools, ttl, size) {
        Ok(()) => Ok(Outcome::one(Value::int(1))),
        Err(e) => fail(vm, &e.text()),
    }
}

/// `sock:getreusedtimes()`.
fn getreusedtimes(vm: &mut Vm, _: Entry) -> NativeResult {
    match this(vm)?.reused_times() {
        Ok(n) => Ok(Outcome::one(Value::num(f64::from(n)))),
        Err(e) => fail(vm, &e.text()),
    }
}

/// `sock:close()`.
fn close(vm: &mut Vm, _: Entry) -> NativeResult {
    match this(vm)?.close() {
        Ok(()) => Ok(Outcome::one(Value::int(1))),
        Err(e) => fail(vm, &e.text()),
    }
}

/// `sock:sslhandshake(...)`: there is no TLS in this build.
fn sslhandshake(vm: &mut Vm, _: Entry) -> NativeResult {
    this(vm)?;
    let text = string(vm, "sslhandshake is not supported yet");
    results(vm, &[Value::NIL, text])
}
