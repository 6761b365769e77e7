//! `ngx.socket.udp` and its methods.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Raised, Table, Userdata, Value, Vm};

use super::owner::{Owner, tie_datagrams};
use super::tcp::names;
use super::{
    Doing, Kind, configured_timeouts, log_error, log_failure, new_object, nil_error, payload, raise,
    timeout_arg, trace,
};
use crate::api::ApiFn;
use crate::cosocket::error::SockError;
use crate::cosocket::resolver::Names;
use crate::cosocket::target::{Target, literal, parse};
use crate::cosocket::udp::{DATAGRAM_BYTES_MAX, Datagrams};
use crate::lua::args::{fail, string};
use crate::lua::bridge::wait;
use crate::lua::worker::here;
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[ApiFn::yields("ngx.socket.udp", Phases::COSOCKET, udp)];

/// The methods.
pub const METHODS: &[ApiFn] = &[
    ApiFn::plain("udpsock.bind", Phases::ANY, bind),
    ApiFn::plain("udpsock.close", Phases::ANY, close),
    ApiFn::yields("udpsock.receive", Phases::COSOCKET, receive),
    ApiFn::plain("udpsock.send", Phases::ANY, send),
    ApiFn::yields("udpsock.setpeername", Phases::COSOCKET, setpeername),
    ApiFn::plain("udpsock.settimeout", Phases::ANY, settimeout),
];

/// What the userdata of a socket holds.
struct Handle {
    socket: Datagrams,
    owner: RefCell<Option<Owner>>,
    chosen_ms: Cell<Option<u32>>,
    local: Cell<Option<SocketAddr>>,
}

impl Handle {
    fn check_owner(&self, vm: &mut Vm) -> Result<(), Raised> {
        match &*self.owner.borrow() {
            Some(owner) if !owner.is_current() => Err(raise(vm, "bad request")),
            _ => Ok(()),
        }
    }

    fn tell_closed(&self, what: &str) {
        let described = match &*self.owner.borrow() {
            Some(_) => self.socket.describe(),
            None => "u:0000000000000000, c:0000000000000000".to_owned(),
        };
        log_error(&format!("attempt to {what} data on a closed socket: {described}"));
    }
}

/// `ngx.socket.udp()`: a datagram socket without a peer.
fn udp(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n > 0 {
        return Err(raise(vm, &format!("expecting zero arguments, but got {n}")));
    }
    let handle = Rc::new(Handle {
        socket: Datagrams::new(configured_timeouts().read_ms, trace()),
        owner: RefCell::new(None),
        chosen_ms: Cell::new(None),
        local: Cell::new(None),
    });
    let cell = vm.heap.new_udata(handle, None);
    let s = new_object(vm, Kind::Udp, cell.value());
    Ok(Outcome::one(s))
}

fn this(vm: &mut Vm) -> Result<Rc<Handle>, Raised> {
    let v = vm.arg(0);
    let Some(t) = v.as_obj::<Table>() else { return Err(vm.type_error(0, "table")) };
    let cell = t.geti(&vm.heap, 1).as_obj::<Userdata>();
    match cell.and_then(|u| u.downcast::<Rc<Handle>>(&vm.heap).cloned()) {
        Some(h) => Ok(h),
        None => Err(raise(vm, "bad argument: a socket expected")),
    }
}

/// `sock:bind(address)`: the address to send from. Returns 1, or nil and `bad address`.
fn bind(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n != 2 {
        return Err(raise(vm, &format!("expecting 2 arguments, but got {n}")));
    }
    let s = this(vm)?;
    let text = vm.check_str(1)?.bytes(&vm.heap).to_vec();
    let Some(ip) = std::str::from_utf8(&text).ok().and_then(literal) else { return fail(vm, "bad address") };
    s.local.set(Some(SocketAddr::new(ip, 0)));
    here().debug(|| format!("lua udp socket bind ip: {ip}"));
    Ok(Outcome::one(Value::int(1)))
}

/// `sock:setpeername(host, port)` or `sock:setpeername("unix:path")`. Returns 1, or nil and an error text.
/// Yields while the host's name is looked up.
fn setpeername(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if !(2..=3).contains(&n) {
        let text = format!(
            "ngx.socket.udp setpeername: expecting 2 or 3 arguments (including the object), but seen {n}"
        );
        return Err(raise(vm, &text));
    }
    let s = this(vm)?;
    let host = vm.check_str(1)?.bytes(&vm.heap).to_vec();
    let mut port = 0;
    if n == 3 {
        let number = vm.check_int(2)?;
        let Ok(number) = u16::try_from(number) else {
            return fail(vm, &format!("bad port number: {number}"));
        };
        port = number;
    }
    s.check_owner(vm)?;
    let used_before = s.owner.borrow().is_some();
    if used_before {
        s.socket.set_trace(trace());
    }
    if let Err(e) = s.socket.prepare_peer() {
        return fail(vm, &e.text());
    }
    if used_before {
        here().debug(|| "lua reuse socket upstream ctx");
    }
    *s.owner.borrow_mut() = Owner::current();
    s.socket.set_read_timeout(s.chosen_ms.get().unwrap_or(configured_timeouts().read_ms));
    let shown = String::from_utf8_lossy(&host).into_owned();
    let to = match parse(&host, port) {
        Ok(to) => to,
        Err(text) => return fail(vm, &format!("failed to parse host name \"{shown}\": {text}")),
    };
    let names = if matches!(to, Target::Name(..)) { names() } else { Names::None };
    tie_datagrams(&s.socket);
    let socket = s.socket.clone();
    let setting = s.socket.set_peer(to, &shown, s.local.get(), &names);
    wait(vm, setting, move |vm, r| match r {
        Ok(()) => vec![Value::int(1)],
        Err(e) => {
            log_failure("udp", Doing::Connect, &e, &socket.peer());
            nil_error(vm, &e)
        }
    })
}

/// `sock:send(data)`: one datagram. Returns 1, or nil and an error text. Never yields.
fn send(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n != 2 {
        let text = format!("expecting 2 arguments (including the object), but got {n}");
        return Err(raise(vm, &text));
    }
    let s = this(vm)?;
    if !s.socket.is_connected() {
        s.tell_closed("send");
        return fail(vm, "closed");
    }
    s.check_owner(vm)?;
    let data = payload(vm, 1)?;
    match s.socket.send(&data) {
        Ok(()) => Ok(Outcome::one(Value::int(1))),
        Err(e) => {
            log_failure("udp", Doing::Write, &e, &s.socket.peer());
            fail(vm, &e.text())
        }
    }
}

/// `sock:receive(size?)`: one datagram, cut to `size` bytes; or nil and an error text.
fn receive(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if !(1..=2).contains(&n) {
        let text = format!("expecting 1 or 2 arguments (including the object), but got {n}");
        return Err(raise(vm, &text));
    }
    let s = this(vm)?;
    if !s.socket.is_connected() {
        s.tell_closed("receive");
        return fail(vm, "closed");
    }
    s.check_owner(vm)?;
    let size = if vm.arg(1).is_nil() { DATAGRAM_BYTES_MAX as f64 } else { vm.check_num(1)? };
    // Anything below zero is very large where sizes have no sign.
    let size = if size < 0.0 { DATAGRAM_BYTES_MAX } else { size as usize };
    let socket = s.socket.clone();
    wait(vm, s.socket.receive(size), move |vm, r| match r {
        Ok(data) => vec![string(vm, data)],
        Err(e) => {
            if !matches!(e, SockError::Closed) {
                log_failure("udp", Doing::Read, &e, &socket.peer());
            }
            nil_error(vm, &e)
        }
    })
}

/// `sock:settimeout(ms)`: how long `receive` waits; 0 means the configured limit.
fn settimeout(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n != 2 {
        let text =
            format!("ngx.socket settimeout: expecting 2 arguments (including the object) but seen {n}");
        return Err(raise(vm, &text));
    }
    let ms = timeout_arg(vm, 1)?;
    let s = this(vm)?;
    s.chosen_ms.set(ms);
    s.socket.set_read_timeout(ms.unwrap_or(configured_timeouts().read_ms));
    Ok(Outcome::none())
}

/// `sock:close()`: 1, or nil and `closed`, `socket busy`.
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
