//! `sock:sslhandshake` and what else is about TLS.

use std::rc::Rc;
use std::sync::Arc;

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Userdata, Value, Vm};

use super::tcp::this;
use super::{Doing, log_error, log_failure, nil_error, raise, with_level};
use crate::conf::model::Level;
use crate::cosocket::error::SockError;
use crate::cosocket::tls::{Asked, TlsError};
use crate::lua::args::{fail, string, text_of};
use crate::lua::bridge::wait;
use crate::lua::worker::here;
use crate::tls::client::Refused;
use crate::tls::sessions::Session;

/// What the userdata of a session holds.
type Held = Rc<Arc<Session>>;

/// `sock:sslhandshake(session?, name?, verify?, status_request?)`: encrypts the connection. `session` is what an earlier call
/// returned, to go on with; `false` asks for none. `name` is told to the server and, with `verify`, compared with its
/// certificate, whose issuer must be trusted (`lua_ssl_trusted_certificate`).
///
/// Returns a session, or true when none was asked for. Else nil and `closed`, `timeout`, `handshake failed`, `certificate
/// host mismatch`, or OpenSSL's number and text for a wrong certificate (`20: unable to get local issuer certificate`);
/// the connection is closed then. Yields.
pub(super) fn sslhandshake(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if !(1..=5).contains(&n) {
        let text = format!(
            "ngx.socket sslhandshake: expecting 1 ~ 5 arguments (including the object), but seen {n}"
        );
        return Err(raise(vm, &text));
    }
    let s = this(vm)?;
    let given = vm.arg(1);
    let session = given.as_obj::<Userdata>().and_then(|u| u.downcast::<Held>(&vm.heap).cloned());
    let wants_session = given != Value::FALSE;
    let name = match vm.arg(2) {
        v if v.truthy() => text_of(vm, v).map(|t| String::from_utf8_lossy(&t).into_owned()),
        _ => None,
    };
    let verify = vm.arg(3).truthy();
    if vm.arg(4).truthy() {
        return fail(vm, "OCSP status requests are not supported yet");
    }
    if !s.socket.is_connected() {
        return fail(vm, "closed");
    }
    s.check_owner(vm)?;
    let client = with_level(|l| l.lua_tls.clone());
    let asked = Asked { client, name: name.clone(), session: session.map(|s| (*s).clone()), verify };
    let peer = s.socket.peer();
    wait(vm, s.socket.start_tls(asked), move |vm, r| {
        let text = match r {
            Ok(_) if !wants_session => return vec![Value::TRUE],
            Ok(session) => {
                let held: Held = Rc::new(session);
                return vec![vm.heap.new_udata(held, None).value()];
            }
            Err(TlsError::Socket(e)) => {
                if matches!(e, SockError::Timeout) {
                    log_error("lua ssl handshake timed out");
                } else {
                    log_failure("tcp", Doing::Connect, &e, &peer);
                }
                return nil_error(vm, &e);
            }
            Err(TlsError::Failed(why)) => {
                here().log(Level::Crit, format!("SSL_do_handshake() failed (SSL: {why})").as_bytes());
                "handshake failed".to_owned()
            }
            Err(TlsError::Refused(Refused::Name)) => {
                let name = name.as_deref().unwrap_or_default();
                log_error(&format!("lua ssl certificate does not match host \"{name}\""));
                "certificate host mismatch".to_owned()
            }
            Err(TlsError::Refused(Refused::Chain((number, text)))) => {
                log_error(&format!("lua ssl certificate verify error: ({number}: {text})"));
                format!("{number}: {text}")
            }
        };
        vec![Value::NIL, string(vm, text)]
    })
}

/// `sock:getsslsession()`: the session of the connection, or nil and `no session`.
pub(super) fn getsslsession(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = this(vm)?;
    match s.socket.session() {
        Ok(Some(session)) => {
            let held: Held = Rc::new(session);
            Ok(Outcome::one(vm.heap.new_udata(held, None).value()))
        }
        Ok(None) => fail(vm, "no session"),
        Err(e) => fail(vm, &e.text()),
    }
}

/// What needs a pointer of OpenSSL's (`getsslpointer`, `setclientcert` ...): nil and a text that says so.
pub(super) fn needs_pointers(vm: &mut Vm, _: Entry) -> NativeResult {
    this(vm)?;
    fail(vm, "pointers of OpenSSL are not supported")
}
