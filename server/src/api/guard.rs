//! The write guard of `_G`: the first write of a global outside `init*` is told, then it stands.
//!
//! All requests of a worker share one table of globals, so a forgotten `local` is a race.

use std::rc::Rc;

use moonlit_vm::host::native::{Entry, NativeResult, NativeRow, Outcome, Table, Value, Vm};

use crate::conf::model::Level;
use crate::lua::args::set_field;
use crate::lua::worker::{LuaWorker, here};
use crate::phase::Phase;

/// Puts the guard in place; to be called when `init_by_lua` is through. A metatable that a script
/// has given `_G` stays.
pub fn install(w: &Rc<LuaWorker>) {
    w.enter(|vm| {
        let globals = vm.globals;
        if vm.metatable_of(Value::obj(globals)).is_some() {
            return;
        }
        let meta = vm.heap.new_table(0, 1);
        let f = vm.new_native(NativeRow::new("__newindex", newindex), &[]);
        set_field(vm, meta, b"__newindex", Value::obj(f));
        vm.heap.set_metatable(globals, Some(meta));
    });
}

/// `__newindex` of `_G`: writes the global and warns, with the place.
fn newindex(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(globals) = vm.arg(0).as_obj::<Table>() else { return Ok(Outcome::none()) };
    let (key, value) = (vm.arg(1), vm.arg(2));
    if globals.setv(&mut vm.heap, key, value).is_err() {
        return Err(vm.throw_str(b"table overflow"));
    }
    let w = here();
    if matches!(w.phase(), Phase::Init | Phase::InitWorker) {
        return Ok(Outcome::none());
    }
    let mut line = b"[lua] _G write guard:12: __newindex(): writing a global Lua variable ('".to_vec();
    line.extend_from_slice(&vm.raw_text(key));
    line.extend_from_slice(
        b"') which may lead to race conditions between concurrent requests, so prefer the use of 'local' \
          variables\n",
    );
    line.extend_from_slice(&vm.traceback(vm.cur, None, 1));
    w.log(Level::Warn, &line);
    Ok(Outcome::none())
}
