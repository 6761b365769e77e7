//! `ngx.on_abort`.

use moonlit_vm::host::native::{Entry, Func, NativeResult, Outcome, Value, Vm};

use super::{ApiFn, request};
use crate::lua::args::fail;
use crate::lua::worker::{Rooted, here};
use crate::phase::{Phase, Phases};

/// The functions.
pub const FNS: &[ApiFn] = &[ApiFn::plain("ngx.on_abort", IN_REQUESTS, on_abort)];

/// Wherever a client is waited for; a timer's refusal names it.
const IN_REQUESTS: Phases = Phases::REQUEST.without(Phases::of(Phase::Balancer));

/// `ngx.on_abort(f)`: calls `f` in a light thread when the client closes the connection before the handler
/// has ended.
///
/// Returns 1, or nil and `duplicate call`, `lua_check_client_abort is off`. Raises `Lua function expected`.
/// Source: lua-nginx-module README, "ngx.on_abort".
fn on_abort(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let w = here();
    let (Some(run), Some(light)) = (w.run(), w.light()) else {
        return Err(vm.throw_str(b"no request ctx found"));
    };
    if run.has_on_abort() {
        return fail(vm, "duplicate call");
    }
    if !req.location().lua_check_client_abort {
        return fail(vm, "lua_check_client_abort is off");
    }
    let f = vm.arg(0);
    if !f.as_obj::<Func>().is_some_and(|f| f.as_lua(&vm.heap).is_some()) {
        return Err(vm.arg_error(0, b"Lua function expected"));
    }
    run.set_on_abort(Rooted::new(&w, vm, f), light);
    Ok(Outcome::one(Value::int(1)))
}
