//! What the handles need of a VM: calls with a traceback, host errors as Lua values, indexing with metamethods.

use std::collections::HashMap;

use super::error::Error;
use crate::bytecode::ops::Mm;
use crate::heap::roots::RootId;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome};
use crate::string::Str;
use crate::userdata::Userdata;
use crate::value::Value;

/// Rooted helpers of one VM, made at first use.
#[derive(Default)]
struct Helpers {
    made: HashMap<&'static str, RootId>,
    traceback: Vec<u8>,
}

fn helpers(vm: &mut Vm) -> &mut Helpers {
    if vm.app.get::<Helpers>().is_none() {
        vm.app.set(Helpers::default());
    }
    vm.app.get_mut().expect("stored above")
}

fn helper(vm: &mut Vm, name: &'static str, make: fn(&mut Vm) -> Value) -> Value {
    if let Some(&id) = helpers(vm).made.get(name) {
        return vm.heap.roots.get(id);
    }
    let v = make(vm);
    let id = vm.heap.roots.add(v);
    helpers(vm).made.insert(name, id);
    v
}

/// Message handler of a traced call: keeps the traceback aside and passes the error value on.
fn keep_traceback(vm: &mut Vm, _: Entry) -> NativeResult {
    let err = vm.arg(0);
    let tb = vm.traceback(vm.cur, None, 1);
    helpers(vm).traceback = tb;
    Ok(Outcome::one(err))
}

fn handler_helper(vm: &mut Vm) -> Value {
    Value::obj(vm.new_native(NativeRow::new("traceback", keep_traceback), &[]))
}

fn compiled(vm: &mut Vm, source: &str) -> Value {
    match vm.load(source.as_bytes(), b"=[host]", b"t", None) {
        Ok(f) => Value::obj(f),
        Err(_) => Value::NIL,
    }
}

fn error_to_text(vm: &mut Vm, _: Entry) -> NativeResult {
    let text = host_error(vm, vm.arg(0)).map(|e| e.to_string()).unwrap_or_default();
    Ok(Outcome::one(Value::obj(vm.heap.str(text.as_bytes()))))
}

fn error_metatable(vm: &mut Vm) -> Value {
    let f = vm.new_native(NativeRow::new("error.__tostring", error_to_text), &[]);
    let t = vm.heap.new_table(0, 1);
    let key = vm.mm_names[Mm::Tostring as usize];
    let _ = t.sets(&mut vm.heap, key, Value::obj(f));
    Value::obj(t)
}

/// `t[k]` with metamethods, as a function.
pub(super) fn index_function(vm: &mut Vm) -> Value {
    helper(vm, "index", |vm| compiled(vm, "local t, k = ... return t[k]"))
}

/// `t[k] = v` with metamethods, as a function.
pub(super) fn newindex_function(vm: &mut Vm) -> Value {
    helper(vm, "newindex", |vm| compiled(vm, "local t, k, v = ... t[k] = v"))
}

/// A host error as an error value: a userdata whose `__tostring` gives its text.
pub(super) fn error_value(vm: &mut Vm, e: Error) -> Value {
    let meta = helper(vm, "error", error_metatable).as_obj();
    vm.heap.new_udata(e, meta).value()
}

/// The host error in an error value, if it is one.
pub(super) fn host_error(vm: &Vm, v: Value) -> Option<Error> {
    v.as_obj::<Userdata>()?.downcast::<Error>(&vm.heap).cloned()
}

/// Message handler of a command line: a text, or what `__tostring` makes of an error object, with a traceback below.
/// Other objects pass as they are. May call Lua.
fn add_traceback(vm: &mut Vm, e: Entry) -> NativeResult {
    let is_text = |v: Value| v.is::<Str>() || v.is_num();
    let mut err = vm.arg(0);
    if e.label() == 0 && !is_text(err) {
        let mm = vm.metamethod(err, Mm::Tostring);
        if mm.is_nil() {
            return Ok(Outcome::one(err));
        }
        vm.prepare_call(mm);
        vm.push(err);
        return Ok(Outcome::call(1, 1));
    }
    if e.label() == 1 {
        err = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
        if !is_text(err) {
            return Ok(Outcome::one(err));
        }
    }
    let message = vm.raw_text(err);
    let text = vm.traceback(vm.cur, Some(&message), 1);
    Ok(Outcome::one(Value::obj(vm.heap.str(&text))))
}

/// The function of the host that a command line's chunks are called from: their tracebacks end with it.
fn host_frame(vm: &mut Vm, e: Entry) -> NativeResult {
    if e.label() == 0 {
        let n = e.count();
        vm.ensure_slots(n + 4)?;
        vm.prepare_call(vm.arg(0));
        for i in 1..n {
            vm.push(vm.arg(i));
        }
        return Ok(Outcome::call(n - 1, 1));
    }
    Ok(Outcome::top(e.count()))
}

impl Vm {
    /// A native that calls its first argument with the others: the `[C]` at the end of `luajit`'s tracebacks.
    pub fn host_frame(&mut self) -> Value {
        helper(self, "host", |vm| Value::obj(vm.new_native(NativeRow::new("=host", host_frame), &[])))
    }

    /// A message handler for [`Vm::call_handled`] that adds a traceback to the message, as `luajit` prints it.
    pub fn traceback_handler(&mut self) -> Value {
        helper(self, "report", |vm| Value::obj(vm.new_native(NativeRow::new("report", add_traceback), &[])))
    }

    /// Calls `f` as a nested run. An error comes with the traceback of the place where it was raised. A yield
    /// across this call is an error.
    pub fn call_traced(&mut self, f: Value, args: &[Value]) -> Result<Vec<Value>, (Value, Vec<u8>)> {
        let handler = helper(self, "handler", handler_helper);
        helpers(self).traceback.clear();
        self.call_handled(f, args, handler).map_err(|_| {
            let err = self.take_error();
            (err, std::mem::take(&mut helpers(self).traceback))
        })
    }

    /// An error value as text: strings and numbers as they are, an object through `__tostring`; `None` when there
    /// is no text.
    pub fn error_string(&mut self, err: Value) -> Option<Vec<u8>> {
        if err.is_num() || err.is::<Str>() {
            return Some(self.raw_text(err));
        }
        let mm = self.metamethod(err, Mm::Tostring);
        if mm.is_nil() {
            return None;
        }
        let out = self.call(mm, &[err]).ok()?;
        let text = out.first().copied()?;
        text.is::<Str>().then(|| self.raw_text(text))
    }

    /// The global variable `name`, raw.
    pub fn global(&self, name: &[u8]) -> Value {
        self.globals.get_bytes(&self.heap, name)
    }
}
