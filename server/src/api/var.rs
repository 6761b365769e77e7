//! `ngx.var`.

use std::rc::Rc;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Raised, Table, Value, Vm};

use super::disabled;
use crate::lua::args::{set_field, string_or_nil, text_of};
use crate::lua::worker::{LuaWorker, here};
use crate::request::Request;
use crate::request::vars::{SetError, get, set};

/// Makes `ngx.var`.
pub fn install(_: &Rc<LuaWorker>, vm: &mut Vm, ngx: Gc<Table>) {
    let t = vm.heap.new_table(0, 0);
    super::ctx::meta(vm, t, index, newindex);
    set_field(vm, ngx, b"var", Value::obj(t));
}

fn request(vm: &mut Vm) -> Result<Rc<Request>, Raised> {
    let w = here();
    match w.request() {
        Some(r) => Ok(r),
        None => Err(disabled(vm, w.phase())),
    }
}

/// `ngx.var.NAME`: text or nil; `ngx.var[n]` is a capture.
fn index(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let Some(name) = text_of(vm, vm.arg(1)) else { return Err(vm.throw_str(b"bad variable name")) };
    let value = get(&req, &name);
    Ok(Outcome::one(string_or_nil(vm, value)))
}

/// `ngx.var.NAME = value`.
fn newindex(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let Some(name) = text_of(vm, vm.arg(1)) else { return Err(vm.throw_str(b"bad variable name")) };
    let v = vm.arg(2);
    let value = match v.type_name() {
        "nil" => None,
        "string" | "number" | "boolean" => Some(vm.raw_text(v)),
        other => {
            let text = format!("bad value type: string, number, or nil expected, got {other}");
            return Err(vm.throw_str(text.as_bytes()));
        }
    };
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
