//! `ngx.ctx` and the other fields of `ngx` that are computed: `status`, `headers_sent`, `is_subrequest`, `arg`.

use std::rc::Rc;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, NativeRow, Outcome, Str, Table, Value, Vm};

use super::request;
use crate::conf::model::Level;
use crate::lua::args::{Loose, append_text, set_field, string};
use crate::lua::worker::{LuaWorker, Rooted, here};
use crate::phase::{CtxOwner, Phase};
use crate::request::Request;
use crate::request::response::HeadState;

/// The functions of the module `resty.core.ctx`.
pub const MODULE: &[super::ApiFn] =
    &[super::ApiFn::plain("resty.core.ctx.get_ctx_table", crate::phase::Phases::ANY, get_ctx_table)];

/// `get_ctx_table(t?)`: `ngx.ctx`; `t` becomes it if there is none yet.
fn get_ctx_table(vm: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    let fresh = vm.arg(0);
    let there = match w.request() {
        Some(req) => req.script_ctx.borrow().is_some(),
        None => w.run().is_some_and(|r| r.ctx.borrow().is_some()),
    };
    if fresh.is::<Table>() && !there {
        set_ctx(vm, fresh)?;
    }
    Ok(Outcome::one(ctx(vm)?))
}

/// Gives `ngx` its metatable, and `ngx.arg` its own.
pub fn install(_w: &Rc<LuaWorker>, vm: &mut Vm, ngx: Gc<Table>) {
    meta(vm, ngx, index, newindex);
    let arg = vm.heap.new_table(0, 0);
    meta(vm, arg, arg_index, arg_newindex);
    set_field(vm, ngx, b"arg", Value::obj(arg));
}

/// A metatable with these two functions.
pub fn meta(
    vm: &mut Vm,
    t: Gc<Table>,
    index: fn(&mut Vm, Entry) -> NativeResult,
    newindex: fn(&mut Vm, Entry) -> NativeResult,
) {
    let m = vm.heap.new_table(0, 1);
    let get = vm.new_native(NativeRow::new("__index", index), &[]);
    let set = vm.new_native(NativeRow::new("__newindex", newindex), &[]);
    set_field(vm, m, b"__index", Value::obj(get));
    set_field(vm, m, b"__newindex", Value::obj(set));
    vm.heap.set_metatable(t, Some(m));
}

fn key(vm: &Vm) -> Vec<u8> {
    vm.arg(1).as_obj::<Str>().map(|s| s.bytes(&vm.heap).to_vec()).unwrap_or_default()
}

fn index(vm: &mut Vm, _: Entry) -> NativeResult {
    let k = key(vm);
    let v = match &k[..] {
        b"ctx" => ctx(vm)?,
        b"status" => {
            let req = request(vm)?;
            let res = req.response.borrow();
            Value::int(i32::from(if req.err_status.get() != 0 { req.err_status.get() } else { res.status }))
        }
        b"headers_sent" => Value::bool(request(vm)?.response.borrow().head == HeadState::Sent),
        b"is_subrequest" => Value::bool(!request(vm)?.is_main()),
        _ => Value::NIL,
    };
    Ok(Outcome::one(v))
}

fn newindex(vm: &mut Vm, _: Entry) -> NativeResult {
    let (k, v) = (key(vm), vm.arg(2));
    match &k[..] {
        b"ctx" => set_ctx(vm, v)?,
        b"status" => {
            let req = request(vm)?;
            let Some(n) = vm.to_number(v) else {
                return Err(vm.throw_str(b"bad argument to ngx.status: number expected"));
            };
            // A header filter may still change it.
            if req.response.borrow().head == HeadState::Sent {
                req.log(Level::Error, b"attempt to set ngx.status after sending out response headers");
            } else {
                req.err_status.set(0);
                req.response.borrow_mut().status = n as u16;
            }
        }
        _ => {
            let (t, key) = (vm.arg(0), vm.arg(1));
            if let Some(t) = t.as_obj::<Table>()
                && let Err(e) = t.setv(&mut vm.heap, key, v)
            {
                return Err(vm.raise_table(e));
            }
        }
    }
    Ok(Outcome::none())
}

/// What a request keeps of `ngx.ctx`.
struct Kept {
    table: Rooted,
    worker: Rc<LuaWorker>,
}

impl Kept {
    fn new(vm: &mut Vm, v: Value) -> Box<Kept> {
        let worker = here();
        Box::new(Kept { table: Rooted::new(&worker, vm, v), worker })
    }

    /// Whether the table belongs to the running VM: with `lua_code_cache off` a request may see several.
    fn is_here(&self) -> bool {
        Rc::ptr_eq(&self.worker, &here())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let n = self.table.number();
        self.worker.debug_plain(|| format!("lua release ngx.ctx at ref {n}"));
    }
}

/// Makes a table the `ngx.ctx` of a request.
pub fn keep(vm: &mut Vm, req: &Request, v: Value) {
    *req.script_ctx.borrow_mut() = Some(Kept::new(vm, v));
}

fn of_request(vm: &Vm, req: &Request) -> Option<Value> {
    req.script_ctx.borrow().as_ref()?.downcast_ref::<Kept>().filter(|k| k.is_here()).map(|k| k.table.get(vm))
}

fn ctx(vm: &mut Vm) -> Result<Value, moonlit_vm::host::native::Raised> {
    let w = here();
    match w.phase().info().ctx {
        CtxOwner::Request => {
            let req = request(vm)?;
            if let Some(v) = of_request(vm, &req) {
                return Ok(v);
            }
            let v = Value::obj(vm.heap.new_table(0, 2));
            *req.script_ctx.borrow_mut() = Some(Kept::new(vm, v));
            Ok(v)
        }
        CtxOwner::Run => {
            let Some(run) = w.run() else { return Err(vm.throw_str(b"no request found")) };
            if let Some(r) = &*run.ctx.borrow() {
                return Ok(r.get(vm));
            }
            let v = Value::obj(vm.heap.new_table(0, 2));
            *run.ctx.borrow_mut() = Some(Rooted::new(&w, vm, v));
            Ok(v)
        }
        CtxOwner::None | CtxOwner::Connection => Err(vm.throw_str(b"no request found")),
    }
}

fn set_ctx(vm: &mut Vm, v: Value) -> Result<(), moonlit_vm::host::native::Raised> {
    let w = here();
    if !v.is::<Table>() {
        let text = format!("ctx should be a table while getting a {}", v.type_name());
        return Err(vm.throw_str(text.as_bytes()));
    }
    match w.phase().info().ctx {
        CtxOwner::Request => {
            let req = request(vm)?;
            *req.script_ctx.borrow_mut() = Some(Kept::new(vm, v));
        }
        _ => {
            if let Some(run) = w.run() {
                *run.ctx.borrow_mut() = Some(Rooted::new(&w, vm, v));
            }
        }
    }
    Ok(())
}

fn arg_number(vm: &mut Vm) -> Result<i32, moonlit_vm::host::native::Raised> {
    match vm.to_number(vm.arg(1)) {
        Some(n) => Ok(n as i32),
        None => {
            let text = format!("bad index: {}", String::from_utf8_lossy(&vm.raw_text(vm.arg(1))));
            Err(vm.throw_str(text.as_bytes()))
        }
    }
}

fn arg_index(vm: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    let n = arg_number(vm)?;
    let Some(run) = w.run() else { return Err(vm.throw_str(b"no request found")) };
    let v = match (w.phase(), n) {
        (Phase::BodyFilter, 1) => {
            let data = std::mem::take(&mut run.body_arg.borrow_mut().data);
            let v = string(vm, &data);
            run.body_arg.borrow_mut().data = data;
            v
        }
        (Phase::BodyFilter, 2) => Value::bool(run.body_arg.borrow().eof),
        (Phase::Set, n) if n >= 1 => {
            let text = run.set_args.borrow().get(n as usize - 1).cloned();
            crate::lua::args::string_or_nil(vm, text)
        }
        (Phase::BodyFilter | Phase::Set, n) => {
            return Err(vm.throw_str(format!("bad index: {n}").as_bytes()));
        }
        (phase, _) => return Err(super::disabled(vm, phase)),
    };
    Ok(Outcome::one(v))
}

fn arg_newindex(vm: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    if w.phase() != Phase::BodyFilter {
        return Err(super::disabled(vm, w.phase()));
    }
    let (n, v) = (arg_number(vm)?, vm.arg(2));
    let Some(run) = w.run() else { return Err(vm.throw_str(b"no request found")) };
    match n {
        1 => {
            let mut data = Vec::new();
            if !v.is_nil() && append_text(vm, v, Loose::Refused, &mut data).is_err() {
                let text = format!("bad chunk data type: {}", v.type_name());
                return Err(vm.throw_str(text.as_bytes()));
            }
            run.body_arg.borrow_mut().data = data;
        }
        2 => run.body_arg.borrow_mut().eof = v.truthy(),
        n => return Err(vm.throw_str(format!("bad index: {n}").as_bytes())),
    }
    Ok(Outcome::none())
}
