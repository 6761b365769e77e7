//! `ngx.balancer`: a script chooses the server of a request; `ngx.upstream`: what groups there are.
//!
//! Both are modules that `require` finds. The choice is left in the request, where whoever passes it on
//! looks for it.

use std::rc::Rc;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, NativeRow, Outcome, Raised, Table, Value, Vm};

use super::{ApiFn, fill_with, request};
use crate::conf::upstream::Upstream;
use crate::conf::url;
use crate::lua::args::{fail, set_field, set_index, string, text_of};
use crate::lua::worker::{LuaWorker, here};
use crate::phase::{Phase, Phases};
use crate::request::upstream::{BalancerKeepalive, BalancerState, LastFailure};
use crate::upstream::Group;
use crate::upstream::peer::Peer;

/// The functions of `ngx.balancer`; the phase is theirs to look at, as upstream returns an error value.
const BALANCER: &[ApiFn] = &[
    ApiFn::plain("ngx.balancer.bind_to_local_addr", Phases::ANY, bind_to_local_addr),
    ApiFn::plain("ngx.balancer.enable_keepalive", Phases::ANY, enable_keepalive),
    ApiFn::plain("ngx.balancer.get_last_failure", Phases::ANY, get_last_failure),
    ApiFn::plain("ngx.balancer.recreate_request", Phases::ANY, recreate_request),
    ApiFn::plain("ngx.balancer.set_current_peer", Phases::ANY, set_current_peer),
    ApiFn::plain("ngx.balancer.set_more_tries", Phases::ANY, set_more_tries),
    ApiFn::plain("ngx.balancer.set_timeouts", Phases::ANY, set_timeouts),
    ApiFn::plain("ngx.balancer.set_upstream_tls", Phases::ANY, set_upstream_tls),
];

/// The functions of `ngx.upstream`.
const UPSTREAM: &[ApiFn] = &[
    ApiFn::plain("ngx.upstream.current_upstream_name", Phases::ANY, current_upstream_name),
    ApiFn::plain("ngx.upstream.get_backup_peers", Phases::ANY, get_backup_peers),
    ApiFn::plain("ngx.upstream.get_primary_peers", Phases::ANY, get_primary_peers),
    ApiFn::plain("ngx.upstream.get_servers", Phases::ANY, get_servers),
    ApiFn::plain("ngx.upstream.get_upstreams", Phases::ANY, get_upstreams),
    ApiFn::plain("ngx.upstream.set_peer_down", Phases::ANY, set_peer_down),
];

/// Makes both modules known to `require`.
pub fn install(_w: &Rc<LuaWorker>, vm: &mut Vm) {
    let globals = vm.globals;
    let preload = super::subtable(vm, globals, "package.preload");
    for (name, loader) in [
        ("ngx.balancer", NativeRow::new("ngx.balancer.load", load_balancer)),
        ("ngx.upstream", NativeRow::new("ngx.upstream.load", load_upstream)),
    ] {
        let f = vm.new_native(loader, &[]);
        set_field(vm, preload, name.as_bytes(), Value::obj(f));
    }
}

fn module(vm: &mut Vm, rows: &[ApiFn]) -> Gc<Table> {
    let w = here();
    let t = vm.heap.new_table(0, 4);
    fill_with(&w, vm, t, rows);
    t
}

fn load_balancer(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = module(vm, BALANCER);
    let version = string(vm, "0.1.32");
    set_field(vm, t, b"version", version);
    Ok(Outcome::one(Value::obj(t)))
}

fn load_upstream(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = module(vm, UPSTREAM);
    Ok(Outcome::one(Value::obj(t)))
}

/// Runs `f` on the state of the request's balancer; the text of the error when there is none.
fn with_state<R>(
    vm: &mut Vm,
    f: impl FnOnce(&mut BalancerState) -> R,
) -> Result<Result<R, &'static str>, Raised> {
    let req = request(vm)?;
    let mut info = req.upstream.borrow_mut();
    let Some(info) = &mut *info else { return Ok(Err("no upstream found")) };
    if here().phase() != Phase::Balancer || !info.balancer.running {
        return Ok(Err("API disabled in the current context"));
    }
    Ok(Ok(f(&mut info.balancer)))
}

/// `true`, or nil and the error.
fn done(vm: &mut Vm, r: Result<(), &str>) -> NativeResult {
    match r {
        Ok(()) => Ok(Outcome::one(Value::bool(true))),
        Err(e) => fail(vm, e),
    }
}

/// `set_current_peer(addr, port?, host?)`: the server to be asked; `addr` is an address or `unix:` path.
///
/// Returns true, or nil and `no host allowed`, `invalid port`, ... Raises on arguments of other types.
fn set_current_peer(vm: &mut Vm, _: Entry) -> NativeResult {
    let addr = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let port = vm.arg(1);
    let port = if port.is_nil() { 0.0 } else { vm.to_number(port).unwrap_or(0.0) };
    let host = vm.arg(2);
    if !host.is_nil() && host.type_name() != "string" {
        let text =
            format!("bad argument #3 to 'set_current_peer' (string expected, got {})", host.type_name());
        return Err(vm.throw_str(text.as_bytes()));
    }
    let host = text_of(vm, host).filter(|h| !h.is_empty());
    let port = if (0.0..=65535.0).contains(&port) { port as u16 } else { 0 };
    let peer = match url::parse(&addr, port) {
        Ok(url) if !url.uri.is_empty() && !url.is_unix() => Err("invalid host"),
        Ok(url) => url.addr.ok_or("no host allowed"),
        Err(why) => Err(why),
    };
    let set = with_state(vm, |b| match peer {
        Ok(peer) => {
            b.peer = Some(peer);
            b.host = host;
            Ok(())
        }
        Err(why) => Err(why),
    })?;
    done(vm, set.and_then(|r| r))
}

/// `set_more_tries(count)`: how many more servers may be asked if this one fails.
///
/// Returns true, with `reduced tries due to limit` when `proxy_next_upstream_tries` allows fewer.
fn set_more_tries(vm: &mut Vm, _: Entry) -> NativeResult {
    let count = u64::try_from(vm.check_int(0)?).unwrap_or(0);
    let req = request(vm)?;
    let max = req.location().proxy.proxy_next_upstream_tries;
    let set = with_state(vm, |b| {
        let total = b.total_tries + b.tries_left.saturating_sub(1);
        let reduced = max > 0 && total + count > max;
        b.more_tries = if reduced { max.saturating_sub(total) } else { count };
        reduced
    })?;
    match set {
        Ok(true) => {
            let text = string(vm, "reduced tries due to limit");
            crate::lua::args::results(vm, &[Value::bool(true), text])
        }
        Ok(false) => done(vm, Ok(())),
        Err(why) => fail(vm, why),
    }
}

/// `get_last_failure()`: nil on the first try; else `next` or `failed`, and the status of that try.
fn get_last_failure(vm: &mut Vm, _: Entry) -> NativeResult {
    match with_state(vm, |b| (b.last_failure, b.last_status))? {
        Ok((LastFailure::None, _)) => Ok(Outcome::one(Value::NIL)),
        Ok((last, status)) => {
            let name = string(vm, if last == LastFailure::Next { "next" } else { "failed" });
            crate::lua::args::results(vm, &[name, Value::int(i32::from(status))])
        }
        Err(why) => {
            let why = string(vm, why);
            crate::lua::args::results(vm, &[Value::NIL, Value::NIL, why])
        }
    }
}

/// Seconds of a positive number; `None` when the argument is nil or false.
fn seconds(vm: &mut Vm, n: usize, what: &str) -> Result<Option<u64>, Raised> {
    let v = vm.arg(n);
    if !v.truthy() {
        return Ok(None);
    }
    match v.as_num().or_else(|| if v.type_name() == "number" { vm.to_number(v) } else { None }) {
        Some(s) if s > 0.0 => Ok(Some((s * 1000.0) as u64).filter(|ms| *ms > 0)),
        _ => Err(vm.throw_str(format!("bad {what} timeout").as_bytes())),
    }
}

/// `set_timeouts(connect?, send?, read?)`, in seconds, for this request.
fn set_timeouts(vm: &mut Vm, _: Entry) -> NativeResult {
    let connect = seconds(vm, 0, "connect")?;
    let send = seconds(vm, 1, "send")?;
    let read = seconds(vm, 2, "read")?;
    let set = with_state(vm, |b| {
        b.connect_timeout_ms = connect.or(b.connect_timeout_ms);
        b.send_timeout_ms = send.or(b.send_timeout_ms);
        b.read_timeout_ms = read.or(b.read_timeout_ms);
    })?;
    match set {
        Ok(()) => done(vm, Ok(())),
        Err(why) => {
            let why = string(vm, why);
            crate::lua::args::results(vm, &[Value::bool(false), why])
        }
    }
}

/// `recreate_request()`: the request is made anew, with the headers and body it has now.
fn recreate_request(vm: &mut Vm, _: Entry) -> NativeResult {
    let set = with_state(vm, |b| b.recreate_request = true)?;
    done(vm, set)
}

/// A number that is not negative, or the default for nil and false.
fn count_arg(vm: &mut Vm, n: usize, default: f64) -> Result<f64, Raised> {
    let v = vm.arg(n);
    if !v.truthy() {
        return Ok(default);
    }
    let number = if v.type_name() == "number" { vm.to_number(v) } else { None };
    let text = match number {
        Some(x) if x >= 0.0 => return Ok(x),
        Some(_) => format!("bad argument #{} to 'enable_keepalive' (expected >= 0)", n + 1),
        None => {
            let got = v.type_name();
            format!("bad argument #{} to 'enable_keepalive' (number expected, got {got})", n + 1)
        }
    };
    Err(vm.throw_str(text.as_bytes()))
}

/// `enable_keepalive(idle_timeout?, max_requests?)`: the connection is kept after the request; 60 seconds
/// and 100 requests by default, 0 is no limit.
fn enable_keepalive(vm: &mut Vm, _: Entry) -> NativeResult {
    let idle = count_arg(vm, 0, 60.0)?;
    let requests = count_arg(vm, 1, 100.0)?;
    let set = with_state(vm, |b| {
        if b.peer.is_none() {
            return Err("no current peer set");
        }
        b.keepalive = Some(BalancerKeepalive {
            idle_timeout_ms: (idle * 1000.0) as u64,
            max_requests: requests as u64,
        });
        Ok(())
    })?;
    done(vm, set.and_then(|r| r))
}

/// `bind_to_local_addr(addr)`: where the connection comes from, `127.0.0.2` or `127.0.0.2:81`.
fn bind_to_local_addr(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.arg(0);
    if v.type_name() != "string" {
        let text =
            format!("bad argument #1 to 'bind_to_local_addr' (string expected, got {})", v.type_name());
        return Err(vm.throw_str(text.as_bytes()));
    }
    let text = String::from_utf8_lossy(&text_of(vm, v).unwrap_or_default()).into_owned();
    let local = crate::conf::proxy::bind_address(&text);
    let set = with_state(vm, |b| match local {
        Some(local) => {
            b.local = Some(local);
            true
        }
        None => false,
    })?;
    match set {
        Ok(true) => done(vm, Ok(())),
        Ok(false) => fail(vm, &format!("invalid addr {text}")),
        Err(why) => fail(vm, why),
    }
}

/// `set_upstream_tls(on)`: there is no TLS to servers, so only `false` succeeds.
fn set_upstream_tls(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.arg(0);
    let off = v.as_num() == Some(0.0) || (v.type_name() == "boolean" && !v.truthy());
    let set = with_state(vm, |_| ())?;
    let set = if off { set } else { set.and(Err("TLS to upstream servers is not supported")) };
    done(vm, set)
}

fn name_of(group: &Upstream) -> String {
    if group.port == 0 { group.name.clone() } else { format!("{}:{}", group.name, group.port) }
}

/// `get_upstreams()`: the names of all groups.
fn get_upstreams(vm: &mut Vm, _: Entry) -> NativeResult {
    if vm.nargs() != 0 {
        return Err(vm.throw_str(b"no argument expected"));
    }
    let w = here();
    let t = vm.heap.new_table(0, 0);
    for (at, group) in w.http().upstreams.iter().enumerate() {
        let name = string(vm, name_of(group));
        set_index(vm, t, at + 1, name);
    }
    Ok(Outcome::one(Value::obj(t)))
}

fn find(name: &[u8]) -> Option<usize> {
    let w = here();
    let name = String::from_utf8_lossy(name);
    let groups = &w.http().upstreams;
    groups
        .iter()
        .position(|g| g.port == 0 && *g.name == *name)
        .or_else(|| groups.iter().position(|g| name_of(g) == *name))
}

fn group(vm: &mut Vm, n: usize) -> Result<Option<Rc<Group>>, Raised> {
    let name = vm.check_str(n)?.bytes(&vm.heap).to_vec();
    let w = here();
    let Some(at) = find(&name) else { return Ok(None) };
    Ok(w.upstreams.get().and_then(|u| u.iter().nth(at).cloned()))
}

/// `get_servers(name)`: the `server` lines of a group, or nil and `upstream not found`.
fn get_servers(vm: &mut Vm, _: Entry) -> NativeResult {
    if vm.nargs() != 1 {
        return Err(vm.throw_str(b"exactly one argument expected"));
    }
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let Some(at) = find(&name) else { return fail(vm, "upstream not found") };
    let w = here();
    let list = vm.heap.new_table(0, 0);
    let group = &w.http().upstreams[at];
    for (n, server) in group.servers.iter().enumerate() {
        let t = vm.heap.new_table(0, 3);
        if group.explicit {
            let name = string(vm, &server.name);
            set_field(vm, t, b"name", name);
        }
        let addr = match server.addrs.as_slice() {
            [one] => string(vm, one.to_string()),
            many => {
                let addrs = vm.heap.new_table(0, 0);
                for (at, addr) in many.iter().enumerate() {
                    let addr = string(vm, addr.to_string());
                    set_index(vm, addrs, at + 1, addr);
                }
                Value::obj(addrs)
            }
        };
        set_field(vm, t, b"addr", addr);
        set_field(vm, t, b"weight", Value::num(server.weight as f64));
        set_field(vm, t, b"max_fails", Value::num(server.max_fails as f64));
        set_field(vm, t, b"fail_timeout", Value::num(server.fail_timeout_s as f64));
        if server.backup {
            set_field(vm, t, b"backup", Value::bool(true));
        }
        if server.down {
            set_field(vm, t, b"down", Value::bool(true));
        }
        set_index(vm, list, n + 1, Value::obj(t));
    }
    Ok(Outcome::one(Value::obj(list)))
}

fn peer_table(vm: &mut Vm, id: usize, peer: &Peer) -> Value {
    let t = vm.heap.new_table(0, 4);
    let name = string(vm, peer.name.as_bytes());
    set_field(vm, t, b"name", name);
    for (name, value) in [
        ("id", id as f64),
        ("weight", peer.weight as f64),
        ("current_weight", peer.current_weight as f64),
        ("effective_weight", peer.effective_weight as f64),
        ("conns", peer.conns as f64),
        ("fails", peer.fails as f64),
        ("max_fails", peer.max_fails as f64),
        ("fail_timeout", peer.fail_timeout_s as f64),
    ] {
        set_field(vm, t, name.as_bytes(), Value::num(value));
    }
    if peer.accessed_s > 0 {
        set_field(vm, t, b"accessed", Value::num(peer.accessed_s as f64));
    }
    if peer.checked_s > 0 {
        set_field(vm, t, b"checked", Value::num(peer.checked_s as f64));
    }
    if peer.down {
        set_field(vm, t, b"down", Value::bool(true));
    }
    Value::obj(t)
}

fn peers(vm: &mut Vm, backup: bool) -> NativeResult {
    if vm.nargs() != 1 {
        return Err(vm.throw_str(b"exactly one argument expected"));
    }
    let Some(group) = group(vm, 0)? else { return fail(vm, "upstream not found") };
    let list = vm.heap.new_table(0, 0);
    // Copied: nothing that makes objects runs while other workers wait for the list.
    let from = group.peers.view().of(backup).clone();
    for (n, (id, peer)) in from.iter().enumerate().filter(|(_, peer)| !peer.gone).enumerate() {
        let t = peer_table(vm, id, peer);
        set_index(vm, list, n + 1, t);
    }
    Ok(Outcome::one(Value::obj(list)))
}

/// `get_primary_peers(name)`: the ordinary servers of a group and how they stand.
fn get_primary_peers(vm: &mut Vm, _: Entry) -> NativeResult {
    peers(vm, false)
}

/// `get_backup_peers(name)`: the same for the backup servers.
fn get_backup_peers(vm: &mut Vm, _: Entry) -> NativeResult {
    peers(vm, true)
}

/// `set_peer_down(name, is_backup, id, down)`: in this worker, or in all of them where the group has a zone. Returns true, or nil and `bad peer id`.
fn set_peer_down(vm: &mut Vm, _: Entry) -> NativeResult {
    if vm.nargs() != 4 {
        return Err(vm.throw_str(b"exactly 4 arguments expected"));
    }
    let Some(group) = group(vm, 0)? else { return fail(vm, "upstream not found") };
    let (backup, down) = (vm.arg(1).truthy(), vm.arg(3).truthy());
    let id = usize::try_from(vm.check_int(2)?).ok();
    let mut view = group.peers.view();
    let Some(peer) = id.and_then(|id| view.of(backup).get_mut(id)).filter(|peer| !peer.gone) else {
        drop(view);
        return fail(vm, "bad peer id");
    };
    peer.down = down;
    if !down {
        peer.fails = 0;
    }
    Ok(Outcome::one(Value::bool(true)))
}

/// `current_upstream_name()`: the group that the request was passed on to; nil before that.
fn current_upstream_name(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let name = req.upstream.borrow().as_ref().and_then(|info| info.group.as_deref().map(name_of));
    let name = crate::lua::args::string_or_nil(vm, name);
    Ok(Outcome::one(name))
}
