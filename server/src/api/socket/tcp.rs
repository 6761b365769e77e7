//! `ngx.socket.tcp` and its methods.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Raised, Table, Userdata, Value, Vm};

use super::owner::{Owner, tie_stream};
use super::{
    Doing, Kept, Kind, configured_timeouts, integer_of, log_error, log_failure, new_object, nil_error,
    options, payload, raise, timeout_arg, tls, trace, with_level,
};
use crate::api::ApiFn;
use crate::cosocket::buffer::Until;
use crate::cosocket::error::{ReadError, SockError};
use crate::cosocket::resolver::Names;
use crate::cosocket::rw::Pattern;
use crate::cosocket::target::literal;
use crate::cosocket::tcp::{ConnectOptions, Socket, Timeouts};
use crate::lua::args::{fail, string, text_of};
use crate::lua::bridge::wait;
use crate::lua::worker::{Rooted, here};
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::yields("ngx.socket.tcp", Phases::COSOCKET, tcp),
    ApiFn::yields("ngx.socket.stream", Phases::COSOCKET, tcp),
    ApiFn::yields("ngx.socket.connect", Phases::COSOCKET, connect_new),
];

/// The methods.
pub const METHODS: &[ApiFn] = &[
    ApiFn::plain("tcpsock.bind", Phases::ANY, bind),
    ApiFn::yields("tcpsock.connect", Phases::COSOCKET, connect),
    ApiFn::yields("tcpsock.send", Phases::COSOCKET, send),
    ApiFn::yields("tcpsock.receive", Phases::COSOCKET, receive),
    ApiFn::yields("tcpsock.receiveany", Phases::COSOCKET, receiveany),
    ApiFn::plain("tcpsock.receiveuntil", Phases::ANY, receiveuntil),
    ApiFn::plain("tcpsock.settimeout", Phases::ANY, settimeout),
    ApiFn::plain("tcpsock.settimeouts", Phases::ANY, settimeouts),
    ApiFn::plain("tcpsock.setoption", Phases::ANY, options::setoption),
    ApiFn::plain("tcpsock.getoption", Phases::ANY, options::getoption),
    ApiFn::plain("tcpsock.getfd", Phases::ANY, options::getfd),
    ApiFn::plain("tcpsock.setkeepalive", Phases::ANY, setkeepalive),
    ApiFn::plain("tcpsock.getreusedtimes", Phases::ANY, getreusedtimes),
    ApiFn::plain("tcpsock.close", Phases::ANY, close),
    ApiFn::yields("tcpsock.sslhandshake", Phases::COSOCKET, tls::sslhandshake),
    ApiFn::plain("tcpsock.setclientcert", Phases::ANY, tls::needs_pointers),
    ApiFn::plain("tcpsock.settrustedstore", Phases::ANY, tls::needs_pointers),
    ApiFn::plain("tcpsock.getsslpointer", Phases::ANY, tls::needs_pointers),
    ApiFn::plain("tcpsock.getsslctx", Phases::ANY, tls::needs_pointers),
    ApiFn::plain("tcpsock.getsslsession", Phases::ANY, tls::getsslsession),
];

/// The methods that sockets of a request have too.
pub(super) const BODY_METHODS: &[&str] = &[
    "getfd",
    "getoption",
    "receive",
    "receiveany",
    "receiveuntil",
    "setoption",
    "settimeout",
    "settimeouts",
];

/// What the userdata of a socket holds.
pub(super) struct Handle {
    pub(super) socket: Socket,
    /// Who connected it; nobody yet.
    pub(super) owner: RefCell<Option<Owner>>,
    /// The limits that the script has set, and those of the configuration for the others.
    chosen: Cell<[Option<u32>; 3]>,
    configured: Cell<Timeouts>,
    local: Cell<Option<SocketAddr>>,
}

impl Handle {
    pub(super) fn new(socket: Socket, owner: Option<Owner>) -> Rc<Handle> {
        let configured = socket.timeouts();
        Rc::new(Handle {
            socket,
            owner: RefCell::new(owner),
            chosen: Cell::default(),
            configured: Cell::new(configured),
            local: Cell::default(),
        })
    }

    fn apply_timeouts(&self) {
        let ([connect, send, read], d) = (self.chosen.get(), self.configured.get());
        self.socket.set_timeouts(Timeouts {
            connect_ms: connect.unwrap_or(d.connect_ms),
            send_ms: send.unwrap_or(d.send_ms),
            read_ms: read.unwrap_or(d.read_ms),
        });
    }

    /// Raises `bad request` when it belongs to somebody else.
    pub(super) fn check_owner(&self, vm: &mut Vm) -> Result<(), Raised> {
        match &*self.owner.borrow() {
            Some(owner) if !owner.is_current() => Err(raise(vm, "bad request")),
            _ => Ok(()),
        }
    }
}

/// Makes the object of a socket.
pub(super) fn object(vm: &mut Vm, kind: Kind, handle: Rc<Handle>) -> Value {
    let cell = vm.heap.new_udata(handle, None);
    new_object(vm, kind, cell.value())
}

fn new_socket(vm: &mut Vm) -> Value {
    let socket = Socket::new(configured_timeouts(), trace());
    object(vm, Kind::Tcp, Handle::new(socket, None))
}

/// `ngx.socket.tcp()`: an unconnected socket. Raises `expecting zero arguments, but got N`.
fn tcp(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n > 0 {
        return Err(raise(vm, &format!("expecting zero arguments, but got {n}")));
    }
    let s = new_socket(vm);
    Ok(Outcome::one(s))
}

/// `ngx.socket.connect(host, port, options?)`: a connected socket, or nil and an error.
fn connect_new(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = new_socket(vm);
    let kept = Rooted::new(&here(), vm, s);
    let handle = handle_of(vm, s).expect("made above");
    start_connect(vm, &handle, 0, move |vm| vec![kept.get(vm)])
}

/// The handle in a socket's table.
pub(super) fn handle_of(vm: &Vm, v: Value) -> Option<Rc<Handle>> {
    let cell = v.as_obj::<Table>()?.geti(&vm.heap, 1);
    cell.as_obj::<Userdata>()?.downcast::<Rc<Handle>>(&vm.heap).cloned()
}

/// The socket that a method was called on.
pub(super) fn this(vm: &mut Vm) -> Result<Rc<Handle>, Raised> {
    let v = vm.arg(0);
    if !v.is::<Table>() {
        return Err(vm.type_error(0, "table"));
    }
    match handle_of(vm, v) {
        Some(h) => Ok(h),
        None => Err(raise(vm, "bad argument: a socket expected")),
    }
}

/// Raises when the number of arguments, the socket among them, is none of these.
fn count_args(vm: &mut Vm, allowed: std::ops::RangeInclusive<usize>, words: &str) -> Result<(), Raised> {
    let n = vm.nargs();
    if allowed.contains(&n) {
        return Ok(());
    }
    Err(raise(vm, &format!("expecting {words} (including the object), but got {n}")))
}

/// `sock:bind(address, port?)`: the address to connect from. Returns true, or nil and `bad address`.
fn bind(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if !(2..=3).contains(&n) {
        return Err(raise(vm, &format!("expecting 2 or 3 arguments, but got {n}")));
    }
    let s = this(vm)?;
    let mut port = 0;
    if n == 3 {
        let v = vm.arg(2);
        let Some(number) = integer_of(vm, v) else {
            let text = format!("expecting port to be anumber but got type: {}", v.type_name());
            return fail(vm, &text);
        };
        let Ok(number) = u16::try_from(number) else {
            return fail(vm, &format!("bad port number: {number}"));
        };
        port = number;
    }
    let text = vm.check_str(1)?.bytes(&vm.heap).to_vec();
    let Some(ip) = std::str::from_utf8(&text).ok().and_then(literal) else { return fail(vm, "bad address") };
    s.local.set(Some(SocketAddr::new(ip, port)));
    here().debug(|| format!("lua tcp socket bind ip: {ip}"));
    Ok(Outcome::one(Value::TRUE))
}

/// What `connect` was asked for.
struct Asked {
    host: Vec<u8>,
    port: u16,
    pool: Vec<u8>,
    pool_size: Option<usize>,
    backlog: Option<usize>,
}

/// Reads the arguments of `connect` from index `at` on. `Err(Ok(text))` is an error that the script gets
/// as a value.
fn connect_args(vm: &mut Vm, at: usize) -> Result<Asked, Result<&'static str, Raised>> {
    let mut n = vm.nargs() - at;
    let host = vm.check_str(at).map_err(Err)?.bytes(&vm.heap).to_vec();
    let mut asked = Asked { host, port: 0, pool: Vec::new(), pool_size: None, backlog: None };
    let mut named = false;
    let last = vm.arg(at + n - 1);
    if n > 1 && last.is::<Table>() {
        named = connect_options(vm, at + n - 1, &mut asked).map_err(Err)?;
        n -= 1;
    }
    // An argument behind the port that is no table says nothing.
    n = n.min(2);
    let second = if n > 1 { vm.arg(at + 1) } else { Value::NIL };
    match integer_of(vm, second) {
        Some(port) => {
            let Ok(number) = u16::try_from(port) else { return Err(Ok("bad port number")) };
            asked.port = number;
            if !named {
                asked.pool = asked.host.clone();
                asked.pool.push(b':');
                let text = text_of(vm, second).unwrap_or_default();
                asked.pool.extend_from_slice(&text);
            }
        }
        None if asked.host.len() >= 5 && asked.host[..5].eq_ignore_ascii_case(b"unix:") => {
            if !named {
                asked.pool.clone_from(&asked.host);
            }
        }
        None => return Err(Ok("missing the port number")),
    }
    Ok(asked)
}

/// Reads the options table at `i`; true when it names a pool.
fn connect_options(vm: &mut Vm, i: usize, asked: &mut Asked) -> Result<bool, Raised> {
    let Some(t) = vm.arg(i).as_obj::<Table>() else { return Ok(false) };
    let size = t.get_bytes(&vm.heap, b"pool_size");
    if let Some(n) = integer_of(vm, size) {
        if n <= 0 {
            return Err(vm.arg_error(i, format!("bad \"pool_size\" option value: {n}").as_bytes()));
        }
        asked.pool_size = Some(n as usize);
    } else if !size.is_nil() {
        let text = format!("bad \"pool_size\" option type: {}", size.type_name());
        return Err(vm.arg_error(i, text.as_bytes()));
    }
    let backlog = t.get_bytes(&vm.heap, b"backlog");
    if let Some(n) = integer_of(vm, backlog) {
        if n < 0 {
            return Err(vm.arg_error(i, format!("bad \"backlog\" option value: {n}").as_bytes()));
        }
        asked.backlog = Some(n as usize);
        if asked.pool_size.is_none() {
            asked.pool_size = Some(with_level(|l| l.lua_socket_pool_size) as usize);
        }
    }
    let pool = t.get_bytes(&vm.heap, b"pool");
    match pool.type_name() {
        "nil" => Ok(false),
        "string" | "number" => {
            asked.pool = text_of(vm, pool).unwrap_or_default();
            Ok(true)
        }
        other => Err(vm.arg_error(i, format!("bad \"pool\" option type: {other}").as_bytes())),
    }
}

/// Who resolves names for the running code.
pub(super) fn names() -> Names {
    let w = here();
    let (conf, timeout_ms) = with_level(|l| (l.resolver.clone(), l.resolver_timeout));
    match &conf {
        Some(line) => Names::Resolver(w.resolvers.of(line), timeout_ms),
        // Upstream has no names without a resolver; here they are the system's.
        None if !w.strict() => Names::Resolver(w.resolvers.system(), timeout_ms),
        None => Names::None,
    }
}

/// Begins to connect; the arguments stand at `at`. `done` makes the results of success.
fn start_connect(
    vm: &mut Vm,
    handle: &Rc<Handle>,
    at: usize,
    mut done: impl FnMut(&mut Vm) -> Vec<Value> + 'static,
) -> NativeResult {
    let asked = match connect_args(vm, at) {
        Ok(asked) => asked,
        Err(Ok("bad port number")) => {
            let v = vm.arg(at + 1);
            let n = integer_of(vm, v).unwrap_or(-1);
            return fail(vm, &format!("bad port number: {n}"));
        }
        Err(Ok(text)) => return fail(vm, text),
        Err(Err(raised)) => return Err(raised),
    };
    handle.check_owner(vm)?;
    let socket = handle.socket.clone();
    let used_before = handle.owner.borrow().is_some();
    if used_before {
        socket.set_trace(trace());
    }
    if let Err(e) = socket.prepare_connect() {
        return fail(vm, &e.text());
    }
    if used_before {
        here().debug(|| "lua reuse socket upstream ctx");
    }
    *handle.owner.borrow_mut() = Owner::current();
    handle.configured.set(configured_timeouts());
    handle.apply_timeouts();
    socket.set_buffer_size(with_level(|l| l.lua_socket_buffer_size) as usize);
    let options = ConnectOptions {
        pool: asked.pool,
        pool_size: asked.pool_size,
        backlog: asked.backlog,
        local: handle.local.get(),
        names: names(),
        nodelay: with_level(|l| l.tcp_nodelay),
    };
    tie_stream(&socket);
    let (host, port) = (String::from_utf8_lossy(&asked.host).into_owned(), asked.port);
    let connecting = socket.connect(&here().pools, &asked.host, asked.port, options);
    wait(vm, connecting, move |vm, r| match r {
        Ok(()) => done(vm),
        Err(e) => {
            let mut peer = socket.peer();
            if matches!(e, SockError::QueueTimeout) {
                (peer.host, peer.port) = (host.clone(), port);
            }
            log_failure("tcp", Doing::Connect, &e, &peer);
            nil_error(vm, &e)
        }
    })
}

/// `sock:connect(host, port, options?)` or `sock:connect("unix:path", options?)`.
///
/// Options: `pool` (its name), `pool_size`, `backlog`. Returns 1, or nil and an error text. Yields unless a
/// pooled connection is there. Raises `bad request` for a socket of another request.
fn connect(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if !(2..=4).contains(&n) {
        let text = format!(
            "ngx.socket connect: expecting 2, 3, or 4 arguments (including the object), but seen {n}"
        );
        return Err(raise(vm, &text));
    }
    let s = this(vm)?;
    start_connect(vm, &s, 1, |_| vec![Value::int(1)])
}

/// `sock:send(data)`: texts, numbers and nested arrays of them. Returns the number of bytes, or nil and
/// an error text.
fn send(vm: &mut Vm, _: Entry) -> NativeResult {
    count_args(vm, 2..=2, "2 arguments")?;
    let s = this(vm)?;
    if let Err(e) = s.socket.may_write() {
        if matches!(e, SockError::NotConnected) {
            tell_closed(&s, "send");
        } else {
            s.check_owner(vm)?;
        }
        return fail(vm, &e.text());
    }
    s.check_owner(vm)?;
    let data = payload(vm, 1)?;
    if data.is_empty() {
        return Ok(Outcome::one(Value::int(0)));
    }
    let socket = s.socket.clone();
    wait(vm, s.socket.send(data), move |vm, r| match r {
        Ok(n) => vec![Value::num(n as f64)],
        Err(e) => {
            log_failure("tcp", Doing::Write, &e, &socket.peer());
            nil_error(vm, &e)
        }
    })
}

/// nginx's line about a socket that was used while it was closed.
fn tell_closed(s: &Handle, what: &str) {
    let described = match &*s.owner.borrow() {
        Some(_) => s.socket.describe(),
        None => "u:0000000000000000, c:0000000000000000, ft:0 eof:0".to_owned(),
    };
    log_error(&format!("attempt to {what} data on a closed socket: {described}"));
}

/// What a read returns to the script.
fn received(vm: &mut Vm, socket: &Socket, r: Result<Option<Vec<u8>>, ReadError>) -> Vec<Value> {
    match r {
        Ok(Some(data)) => vec![string(vm, data)],
        Ok(None) => vec![Value::NIL, Value::NIL, Value::NIL],
        Err(ReadError { error: error @ (SockError::NotConnected | SockError::Busy(_)), .. }) => {
            nil_error(vm, &error)
        }
        Err(e) => {
            if matches!(e.error, SockError::Text("client aborted"))
                && let Some(run) = here().run()
            {
                // The script learns it from here.
                run.client_gone.set(true);
            }
            log_failure("tcp", Doing::Read, &e.error, &socket.peer());
            let text = string(vm, e.error.text());
            let partial = string(vm, e.partial);
            vec![Value::NIL, text, partial]
        }
    }
}

/// Whether a read may begin; the results of the refusal if not.
fn refuse_read(vm: &mut Vm, s: &Handle, tells: bool) -> Result<Option<NativeResult>, Raised> {
    match s.socket.may_read() {
        Err(e @ SockError::NotConnected) => {
            if tells {
                tell_closed(s, "receive");
            }
            Ok(Some(fail(vm, &e.text())))
        }
        other => {
            s.check_owner(vm)?;
            Ok(other.err().map(|e| fail(vm, &e.text())))
        }
    }
}

/// `sock:receive(pattern or size)`: data, or nil, error, partial data.
fn receive(vm: &mut Vm, _: Entry) -> NativeResult {
    count_args(vm, 1..=2, "1 or 2 arguments")?;
    let s = this(vm)?;
    if let Some(refusal) = refuse_read(vm, &s, true)? {
        return refusal;
    }
    let pattern = if vm.nargs() < 2 { Pattern::Line } else { pattern_arg(vm)? };
    if pattern == Pattern::Bytes(0) {
        let empty = string(vm, "");
        return Ok(Outcome::one(empty));
    }
    let socket = s.socket.clone();
    wait(vm, s.socket.receive(pattern), move |vm, r| received(vm, &socket, r))
}

fn pattern_arg(vm: &mut Vm) -> Result<Pattern, Raised> {
    let v = vm.arg(1);
    if let Some(n) = integer_of(vm, v) {
        return match usize::try_from(n) {
            Ok(n) => Ok(Pattern::Bytes(n)),
            Err(_) => Err(vm.arg_error(1, b"bad number argument")),
        };
    }
    let Some(text) = text_of(vm, v) else { return Err(vm.arg_error(1, b"bad argument")) };
    match &text[..] {
        b"*l" => Ok(Pattern::Line),
        b"*a" => Ok(Pattern::All),
        [b'*', _] => Err(vm.arg_error(1, b"bad pattern argument")),
        _ => {
            let mut words = b"bad pattern argument: ".to_vec();
            words.extend_from_slice(&text);
            Err(vm.arg_error(1, &words))
        }
    }
}

/// `sock:receiveany(max)`: whatever comes, at most `max` bytes.
fn receiveany(vm: &mut Vm, _: Entry) -> NativeResult {
    count_args(vm, 2..=2, "2 arguments")?;
    let s = this(vm)?;
    if let Some(refusal) = refuse_read(vm, &s, true)? {
        return refusal;
    }
    let v = vm.arg(1);
    let max = integer_of(vm, v).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let Some(max) = max else { return Err(vm.arg_error(1, b"bad max argument")) };
    here().debug(|| format!("lua tcp socket calling receiveany() method to read at most {max} bytes"));
    let socket = s.socket.clone();
    wait(vm, s.socket.receive(Pattern::Any(max)), move |vm, r| received(vm, &socket, r))
}

/// What a `receiveuntil` iterator works on.
struct UntilCell {
    handle: Rc<Handle>,
    until: Rc<RefCell<Until>>,
}

/// `sock:receiveuntil(pattern, options?)`: an iterator over the data in front of the pattern.
///
/// Option: `inclusive`. Returns nil and `pattern is empty`.
fn receiveuntil(vm: &mut Vm, _: Entry) -> NativeResult {
    count_args(vm, 2..=3, "2 or 3 arguments")?;
    let mut inclusive = false;
    if vm.nargs() == 3 {
        let Some(t) = vm.arg(2).as_obj::<Table>() else { return Err(vm.type_error(2, "table")) };
        let v = t.get_bytes(&vm.heap, b"inclusive");
        if !v.is_nil() && !v.is_bool() {
            let text = format!("bad \"inclusive\" option value type: {}", v.type_name());
            return Err(raise(vm, &text));
        }
        inclusive = v.truthy();
    }
    let handle = this(vm)?;
    let pattern = vm.check_str(1)?.bytes(&vm.heap).to_vec();
    if pattern.is_empty() {
        return fail(vm, "pattern is empty");
    }
    let until = Rc::new(RefCell::new(Until::new(&pattern, inclusive)));
    let cell = vm.heap.new_udata(UntilCell { handle, until }, None);
    let Some(id) = vm.app.get::<Kept>().map(|k| k.iterator) else {
        return Err(raise(vm, "sockets are not installed"));
    };
    let f = vm.native_func(id, &[cell.value()]);
    Ok(Outcome::one(Value::obj(f)))
}

/// One call of the iterator: data, three nils behind the last sized piece, or nil, error, partial data.
pub(super) fn until_step(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n > 1 {
        return Err(raise(vm, &format!("expecting 0 or 1 argument, but seen {n}")));
    }
    let size = if n == 1 { usize::try_from(vm.check_int(0)?).unwrap_or(0) } else { 0 };
    let found = vm.upvalue(0).as_obj::<Userdata>().and_then(|u| {
        let c = u.downcast::<UntilCell>(&vm.heap)?;
        Some((c.handle.clone(), c.until.clone()))
    });
    let Some((handle, until)) = found else { return Err(raise(vm, "iterator without a socket")) };
    if let Some(refusal) = refuse_read(vm, &handle, false)? {
        return refusal;
    }
    let reading = handle.socket.receive_until(&until, (size > 0).then_some(size));
    let socket = handle.socket.clone();
    wait(vm, reading, move |vm, r| received(vm, &socket, r))
}

/// `sock:settimeout(ms)`: all three limits; 0 means the configured ones. Raises `bad timeout value`.
fn settimeout(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n != 2 {
        let text =
            format!("ngx.socket settimeout: expecting 2 arguments (including the object) but seen {n}");
        return Err(raise(vm, &text));
    }
    let ms = timeout_arg(vm, 1)?;
    let s = this(vm)?;
    s.chosen.set([ms; 3]);
    s.apply_timeouts();
    Ok(Outcome::none())
}

/// `sock:settimeouts(connect_ms, send_ms, read_ms)`.
fn settimeouts(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n != 4 {
        let text =
            format!("ngx.socket settimeouts: expecting 4 arguments (including the object) but seen {n}");
        return Err(raise(vm, &text));
    }
    let chosen = [timeout_arg(vm, 1)?, timeout_arg(vm, 2)?, timeout_arg(vm, 3)?];
    let s = this(vm)?;
    s.chosen.set(chosen);
    s.apply_timeouts();
    Ok(Outcome::none())
}

/// `sock:setkeepalive(timeout_ms?, size?)`: puts the connection into its pool. Returns 1, or nil and
/// `closed`, `unread data in buffer`, `connection in dubious state`, `socket busy ...`.
fn setkeepalive(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if !(1..=3).contains(&n) {
        let text = format!("expecting 1 to 3 arguments (including the object), but got {n}");
        return Err(raise(vm, &text));
    }
    let s = this(vm)?;
    let (ttl, size) = with_level(|l| (l.lua_socket_keepalive_timeout, l.lua_socket_pool_size));
    let ttl = if vm.arg(1).is_nil() { ttl } else { u64::try_from(vm.check_int(1)?).unwrap_or(0) };
    let size = if vm.arg(2).is_nil() { size as i64 } else { i64::from(vm.check_int(2)?) };
    if !s.socket.is_connected() {
        return fail(vm, "closed");
    }
    s.check_owner(vm)?;
    if size <= 0 && !s.socket.is_counted() {
        let text = format!("bad \"pool_size\" option value: {size}");
        return Err(vm.arg_error(n - 1, text.as_bytes()));
    }
    let w = here();
    match s.socket.set_keepalive(&w.pools, ttl, size.max(1) as usize, w.exiting()) {
        Ok(()) => Ok(Outcome::one(Value::int(1))),
        Err(e) => fail(vm, &e.text()),
    }
}

/// `sock:getreusedtimes()`.
fn getreusedtimes(vm: &mut Vm, _: Entry) -> NativeResult {
    count_args(vm, 1..=1, "1 argument")?;
    match this(vm)?.socket.reused_times() {
        Ok(n) => Ok(Outcome::one(Value::num(f64::from(n)))),
        Err(e) => fail(vm, &e.text()),
    }
}

/// `sock:close()`: 1, or nil and `closed`, `socket busy ...`.
fn close(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n != 1 {
        let text = format!("expecting 1 argument (including the object) but seen {n}");
        return Err(raise(vm, &text));
    }
    let s = this(vm)?;
    if s.socket.is_connected() {
        s.check_owner(vm)?;
    }
    match s.socket.close() {
        Ok(()) => Ok(Outcome::one(Value::int(1))),
        Err(e) => fail(vm, &e.text()),
    }
}
