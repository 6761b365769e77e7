//! Socket options, and what belongs to TLS, which cosockets do not have yet.

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Raised, Str, Value, Vm};

use super::tcp::this;
use super::{integer_of, raise};
use crate::cosocket::error::io_text;
use crate::lua::args::fail;

/// An option that scripts may set.
#[derive(Clone, Copy)]
enum Choice {
    Keepalive,
    ReuseAddr,
    NoDelay,
    SendBuffer,
    ReceiveBuffer,
    KeepInterval,
    KeepCount,
}

fn choice(name: &[u8]) -> Option<Choice> {
    Some(match name {
        b"keepalive" => Choice::Keepalive,
        b"reuseaddr" => Choice::ReuseAddr,
        b"tcp-nodelay" => Choice::NoDelay,
        b"sndbuf" => Choice::SendBuffer,
        b"rcvbuf" => Choice::ReceiveBuffer,
        b"keepintvl" => Choice::KeepInterval,
        b"keepcnt" => Choice::KeepCount,
        _ => return None,
    })
}

fn option_name(vm: &Vm) -> Option<Vec<u8>> {
    let v = vm.arg(1);
    if v.is_nil() {
        return None;
    }
    Some(v.as_obj::<Str>().map_or_else(|| vm.raw_text(v), |s| s.bytes(&vm.heap).to_vec()))
}

fn never_used(vm: &mut Vm) -> Raised {
    raise(vm, "socket is never created nor connected")
}

/// `sock:setoption(option, value)`: `keepalive`, `reuseaddr`, `tcp-nodelay`, `sndbuf`, `rcvbuf`,
/// `keepintvl`, `keepcnt`. Returns true, or nil and an error. Raises `socket is never created nor connected`.
pub(super) fn setoption(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    let Some(name) = option_name(vm) else { return fail(vm, "missing the \"option\" argument") };
    let v = vm.arg(2);
    if v.is_nil() {
        return fail(vm, "missing the \"value\" argument");
    }
    if s.owner.borrow().is_none() {
        return Err(never_used(vm));
    }
    let Some(which) = choice(&name) else {
        return fail(vm, &format!("unsupported option {}", String::from_utf8_lossy(&name)));
    };
    let n = if v.is_bool() { i64::from(v.truthy()) } else { integer_of(vm, v).unwrap_or(0) };
    let size = usize::try_from(n).unwrap_or(0).min(i32::MAX as usize);
    let seconds = std::time::Duration::from_secs(u64::try_from(n).unwrap_or(0));
    let done = s.socket.with_socket(|sock| match which {
        Choice::Keepalive => sock.set_keepalive(n != 0),
        Choice::ReuseAddr => sock.set_reuse_address(n != 0),
        Choice::NoDelay => sock.set_tcp_nodelay(n != 0),
        Choice::SendBuffer => sock.set_send_buffer_size(size),
        Choice::ReceiveBuffer => sock.set_recv_buffer_size(size),
        Choice::KeepInterval => sock.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_interval(seconds)),
        Choice::KeepCount => {
            let retries = u32::try_from(n).unwrap_or(0);
            sock.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_retries(retries))
        }
    });
    match done {
        Err(e) => fail(vm, &e.text()),
        Ok(Err(e)) => fail(vm, &io_text(&e)),
        Ok(Ok(())) => Ok(Outcome::one(Value::TRUE)),
    }
}

/// `sock:getoption(option)`: the value as a number, or nil and an error.
pub(super) fn getoption(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    if s.owner.borrow().is_none() {
        return Err(never_used(vm));
    }
    let Some(name) = option_name(vm) else { return fail(vm, "missing the \"option\" argument") };
    let Some(which) = choice(&name) else {
        return fail(vm, &format!("unsupported option {}", String::from_utf8_lossy(&name)));
    };
    let got = s.socket.with_socket(|sock| match which {
        Choice::Keepalive => sock.keepalive().map(u64::from),
        Choice::ReuseAddr => sock.reuse_address().map(u64::from),
        Choice::NoDelay => sock.tcp_nodelay().map(u64::from),
        Choice::SendBuffer => sock.send_buffer_size().map(|n| n as u64),
        Choice::ReceiveBuffer => sock.recv_buffer_size().map(|n| n as u64),
        Choice::KeepInterval => sock.tcp_keepalive_interval().map(|t| t.as_secs()),
        Choice::KeepCount => sock.tcp_keepalive_retries().map(u64::from),
    });
    match got {
        Err(e) => fail(vm, &e.text()),
        Ok(Err(e)) => fail(vm, &io_text(&e)),
        Ok(Ok(n)) => Ok(Outcome::one(Value::num(n as f64))),
    }
}

/// `sock:getfd()`: the number of the descriptor, or nil and `closed`.
pub(super) fn getfd(vm: &mut Vm, _: Entry) -> NativeResult {
    use std::os::fd::AsRawFd;
    let s = this(vm)?;
    match s.socket.with_socket(|sock| sock.as_raw_fd()) {
        Ok(fd) => Ok(Outcome::one(Value::int(fd))),
        Err(e) => fail(vm, &e.text()),
    }
}
