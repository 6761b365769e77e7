//! `os.getenv` while `init_by_lua*` runs: the `env` directives hold there already, as they will in the workers.

use std::rc::Rc;

use moonlit_vm::host::native::{Entry, NativeResult, NativeRow, Outcome, Table, Value, Vm};

use crate::lua::args::{set_field, string};
use crate::lua::worker::{LuaWorker, here};
use crate::phase::Phase;

/// Puts an `os.getenv` in place that knows the configuration; it goes when a worker first calls it.
pub fn install(_: &Rc<LuaWorker>, vm: &mut Vm) {
    let Some(os) = vm.global(b"os").as_obj::<Table>() else { return };
    let plain = os.get_bytes(&vm.heap, b"getenv");
    let f = vm.new_native(NativeRow::new("os.getenv", getenv), &[plain]);
    set_field(vm, os, b"getenv", Value::obj(f));
}

fn getenv(vm: &mut Vm, _: Entry) -> NativeResult {
    let (plain, name) = (vm.upvalue(0), vm.arg(0));
    let w = here();
    if w.phase() == Phase::Init {
        let wanted = vm.raw_text(name);
        let given = w.config.env.iter().rev().find(|(n, _)| *n == wanted).and_then(|(_, v)| v.clone());
        if let Some(v) = given {
            return Ok(Outcome::one(string(vm, v)));
        }
    } else if let Some(os) = vm.global(b"os").as_obj::<Table>() {
        // From now on the process's environment is what the configuration made it.
        set_field(vm, os, b"getenv", plain);
    }
    vm.prepare_call(plain);
    vm.push(name);
    Ok(Outcome::tail_call(1))
}
