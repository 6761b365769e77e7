//! `ndk.set_var`: the functions behind the `set_*` directives, for scripts.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use moonlit_vm::host::native::{Entry, NativeId, NativeResult, NativeRow, Outcome, Value, Vm};

use super::{request, subtable};
use crate::conf::directives::set_misc::{FUNCTIONS, SetFn, SetStep};
use crate::conf::variables::Script;
use crate::flow::set_misc::value;
use crate::lua::args::{set_field, string};
use crate::lua::worker::LuaWorker;

/// Makes `ndk.set_var`.
pub fn install(_: &Rc<LuaWorker>, vm: &mut Vm) {
    let globals = vm.globals;
    let ndk = subtable(vm, globals, "ndk");
    let t = vm.heap.new_table(0, 0);
    super::ctx::meta(vm, t, index, newindex);
    set_field(vm, ndk, b"set_var", Value::obj(t));
}

fn newindex(vm: &mut Vm, _: Entry) -> NativeResult {
    Err(vm.throw_str(b"not allowed"))
}

struct CallId(NativeId);

/// `ndk.set_var.NAME`: the function of a directive of one argument.
///
/// Raises `ndk.set_var: directive "NAME" not found or does not use ndk_set_var_value`.
fn index(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.raw_text(vm.arg(1));
    let found = FUNCTIONS.iter().position(|(n, _, from, to)| n.as_bytes() == name && (*from, *to) == (1, 2));
    let Some(at) = found else {
        let shown = String::from_utf8_lossy(&name).into_owned();
        let text = format!("ndk.set_var: directive \"{shown}\" not found or does not use ndk_set_var_value");
        return Err(vm.throw_str(text.as_bytes()));
    };
    let id = match vm.app.get::<CallId>() {
        Some(c) => c.0,
        None => {
            let id = vm.natives.add(NativeRow::new("ndk.set_var.function", call));
            vm.app.set(CallId(id));
            id
        }
    };
    Ok(Outcome::one(Value::obj(vm.native_func(id, &[Value::num(at as f64)]))))
}

/// The function: the value of its argument. Raises `calling directive NAME failed with code -1`.
fn call(vm: &mut Vm, _: Entry) -> NativeResult {
    let at = vm.upvalue(0).as_num().unwrap_or(0.0) as usize;
    let Some((name, function, ..)) = FUNCTIONS.get(at) else { return Ok(Outcome::one(Value::NIL)) };
    let req = request(vm)?;
    let arg = vm.raw_text(vm.arg(0));
    if matches!(function, SetFn::DecodeHex) && (arg.len() % 2 != 0 || !arg.iter().all(u8::is_ascii_hexdigit))
    {
        return Err(failed(vm, name));
    }
    let step = SetStep {
        function: *function,
        args: vec![Script::literal(&arg)],
        current: Arc::new(AtomicI64::new(i64::MIN)),
    };
    match value(&req, &step) {
        Ok(out) => Ok(Outcome::one(string(vm, out))),
        Err(()) => Err(failed(vm, name)),
    }
}

fn failed(vm: &mut Vm, name: &str) -> moonlit_vm::host::native::Raised {
    vm.throw_str(format!("calling directive {name} failed with code -1").as_bytes())
}
