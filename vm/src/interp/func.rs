//! Making closures, closing upvalues.

use super::dispatch::{HelperResult, NEXT, enter_func, helper, next, resume, tail};
use super::index::barrier;
use super::meta::{current_ins, kstr, set_reg};
use crate::bytecode::protodef::{UV_IMMUTABLE, UV_INDEX, UV_LOCAL, UV_SLOT};
use crate::cell::gc_ref::Gc;
use crate::cell::header::Header;
use crate::function::closure::LuaFunc;
use crate::function::proto::Proto;
use crate::function::upvalue::Upval;
use crate::state::Vm;
use crate::value::Value;

helper!(close_slow = close);
helper!(new_closure = make_closure);

/// The barrier for the upvalue at `uv`; then the next instruction.
#[cold]
#[inline(never)]
pub(crate) unsafe extern "C" fn upval_barrier(
    pc: *const u32,
    base: *mut Value,
    k: *const Value,
    vm: *mut Vm,
    uv: usize,
    _d: usize,
) -> usize {
    // SAFETY: the handler passes the upvalue it has just written to.
    unsafe {
        barrier(vm, uv as *mut Header);
        next!(pc, base, k, vm)
    }
}

fn close(vm: &mut Vm, a: usize, _d: usize) -> HelperResult {
    let level = vm.base().wrapping_add(a);
    vm.cur.close_upvals(&mut vm.heap, level);
    let j = current_ins(vm).j();
    vm.pc = vm.pc.wrapping_offset(j as isize);
    Ok(NEXT)
}

fn make_closure(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    vm.gc_check()?;
    let Some(pt) = kstr(vm, d).as_obj::<Proto>() else { return Ok(NEXT) };
    let parent = vm.running_func().expect("an instruction runs in a function");
    let env = parent.get(&vm.heap).env;
    let parent: Gc<LuaFunc> = parent.cast();
    let (n, uv) = {
        let p = pt.get_mut(&mut vm.heap);
        p.closures = p.closures.wrapping_add(1);
        (p.nupvals as usize, p.uv)
    };
    // Nothing is collected before the closure is complete: the allocations below only add debt.
    let f = vm.heap.new_lua_func_uninit(pt, env, n);
    let to = (f.as_ptr() as *mut u8).wrapping_add(LuaFunc::UPVALS_OFFSET) as *mut Gc<Upval>;
    for i in 0..n {
        // SAFETY: the prototype has `nupvals` descriptions.
        let desc = unsafe { *uv.add(i) };
        let u = if desc & UV_LOCAL != 0 {
            let slot = vm.base().wrapping_add((desc & UV_SLOT) as usize);
            let u = vm.cur.find_upval(&mut vm.heap, slot);
            let h = &mut u.get_mut(&mut vm.heap).hdr;
            h.extra = (desc & UV_IMMUTABLE != 0) as u8;
            u
        } else {
            parent.get(&vm.heap).upvals()[(desc & UV_INDEX) as usize]
        };
        // SAFETY: the closure has room for `n` handles behind the struct.
        unsafe { to.add(i).write(u) };
    }
    set_reg(vm, a, Value::obj::<crate::function::closure::Func>(f.cast()));
    Ok(NEXT)
}
