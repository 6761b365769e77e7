//! Returns. The results move to where the function was.

use crate::bytecode::instr::Instr;
use crate::interp::dispatch::{constants, next, op, put, tail};
use crate::interp::ret::return_slow;
use crate::thread::frame;
use crate::value::Value;

/// Returns `$n` values from `$base[$a]` on to a Lua caller.
macro_rules! ret {
    ($pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $n:expr) => {{
        let link = (*$base.sub(1)).0;
        let n: usize = $n;
        if !frame::is_lua(link) {
            tail!(return_slow, $pc, $base, $k, $vm, $a, n)
        }
        let pc = link as *const u32;
        let from = $base.add($a);
        let to = $base.sub(2);
        let at = pc.sub(1) as *const u8;
        let call_a = *at.add(1) as usize;
        let wanted = *at.add(3) as usize;
        let mut i = 0;
        while i < n {
            put(to.add(i), *from.add(i));
            i += 1;
        }
        if wanted == 0 {
            (*$vm).multres = n as u32 + 1;
        } else {
            while i + 1 < wanted {
                put(to.add(i), Value::NIL);
                i += 1;
            }
        }
        let base = to.sub(call_a);
        let k = constants(base);
        next!(pc, base, k, $vm)
    }};
}

op! { RET |pc, base, k, vm, a, d| {
    ret!(pc, base, k, vm, a, d - 1)
} }
op! { RETM |pc, base, k, vm, a, d| {
    ret!(pc, base, k, vm, a, d + (*vm).multres as usize - 1)
} }
op! { RET0 |pc, base, k, vm, a, d| {
    let link = (*base.sub(1)).0;
    if !frame::is_lua(link) {
        tail!(return_slow, pc, base, k, vm, a, 0)
    }
    let at = (link as *const u8).sub(4);
    if *at.add(3) != 1 {
        tail!(return_slow, pc, base, k, vm, a, 0)
    }
    let base = base.sub(2).sub(*at.add(1) as usize);
    let k = constants(base);
    next!(link as *const u32, base, k, vm)
} }
op! { RET1 |pc, base, k, vm, a, d| {
    let link = (*base.sub(1)).0;
    if !frame::is_lua(link) {
        tail!(return_slow, pc, base, k, vm, a, 1)
    }
    let at = (link as *const u8).sub(4);
    if *at.add(3) != 2 {
        tail!(return_slow, pc, base, k, vm, a, 1)
    }
    let to = base.sub(2);
    *to = *base.add(a);
    let base = to.sub(*at.add(1) as usize);
    let k = constants(base);
    next!(link as *const u32, base, k, vm)
} }

const _: () = assert!(std::mem::size_of::<Instr>() == 4);
