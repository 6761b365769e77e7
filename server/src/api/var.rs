//! `ngx.var`.

use std::rc::Rc;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Str, Table, Value, Vm};

use super::request;
use crate::lua::args::{set_field, string_or_nil, text_of};
use crate::lua::worker::LuaWorker;
use crate::request::vars::{SetError, get, set};

/// Makes `ngx.var`.
pub fn install(_: &Rc<LuaWorker>, vm: &mut Vm, ngx: Gc<Table>) {
    let t = vm.heap.new_table(0, 0);
    super::ctx::meta(vm, t, index, newindex);
    set_field(vm, ngx, b"var", Value::obj(t));
}

/// `ngx.var.NAME`: text or nil; `ngx.var[n]` is a capture.
fn index(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let Some(name) = text_of(vm, vm.arg(1)) else { return Err(vm.throw_str(b"bad variable name")) };
    if vm.arg(1).is_num() && !vm.arg(1).as_num().is_some_and(|n| n >= 1.0) {
        // The whole match is no capture.
        return Ok(Outcome::one(Value::NIL));
    }
    let value = get(&req, &name);
    Ok(Outcome::one(string_or_nil(vm, value)))
}

/// `ngx.var.NAME = value`.
fn newindex(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let Some(name) = vm.arg(1).as_obj::<Str>().map(|s| s.bytes(&vm.heap).to_vec()) else {
        return Err(vm.throw_str(b"bad variable name"));
    };
    let v = vm.arg(2);
    let value = (!v.is_nil()).then(|| vm.raw_text(v));
    let shown = String::from_utf8_lossy(&name).into_owned();
    match set(&req, &name, value.as_deref()) {
        Ok(()) => Ok(Outcome::none()),
        Err(SetError::ReadOnly) => {
            Err(vm.throw_str(format!("variable \"{shown}\" not changeable").as_bytes()))
        }
        Err(SetError::Unknown) => {
            let text = format!(
                "variable \"{shown}\" not found for writing; maybe it is a built-in variable that is not changeable \
                 or you forgot to use \"set ${shown} '';\" in the config file to define it first"
            );
            Err(vm.throw_str(text.as_bytes()))
        }
    }
}
