//! Returns. The results move to where the function was.

use crate::bytecode::instr::Instr;
use crate::interp::dispatch::{constants, next, op, put, tail};
use crate::interp::ret::return_far;
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

/// Link of a frame called by `pcall`.
const PCALL: u64 = frame::link(frame::PCALL_DELTA, frame::FrameType::Pcall);

/// `$d` values from `$from` go to `$to`, `$lead` of the results being there already; the caller is the Lua code behind
/// `$link`.
macro_rules! deliver {
    ($vm:ident, $link:ident, $to:expr, $lead:expr, $from:ident, $d:ident) => {{
        let to = $to;
        let at = ($link as *const u8).sub(4);
        let wanted = *at.add(3) as usize;
        let mut i = 0;
        while i < $d {
            put(to.add(i + $lead), *$from.add(i));
            i += 1;
        }
        i += $lead;
        if wanted == 0 {
            (*$vm).multres = i as u32 + 1;
        } else {
            while i + 1 < wanted {
                put(to.add(i), Value::NIL);
                i += 1;
            }
        }
        let base = to.sub(*at.add(1) as usize);
        let k = constants(base);
        next!($link as *const u32, base, k, $vm)
    }};
}

op! {
    /// Returns `d` values from register `a` on to whoever called this frame: to Lua code that wants another number of
    /// them, out of vararg functions, out of a `pcall` by Lua code, out of a metamethod whose result an instruction
    /// waits for. Anything else is a helper's.
    #[inline(never)]
    return_slow |pc, base, k, vm, a, d| {
        let from = base.add(a);
        let mut frame_base = base;
        let mut link = (*base.sub(1)).0;
        if link & 7 == frame::FrameType::Varg as u64 {
            frame_base = base.sub(frame::delta(link));
            link = (*frame_base.sub(1)).0;
        }
        if frame::is_lua(link) {
            deliver!(vm, link, frame_base.sub(2), 0, from, d)
        }
        if link == PCALL {
            let pcall = frame_base.sub(frame::PCALL_DELTA);
            let outer = (*pcall.sub(1)).0;
            if frame::is_lua(outer) {
                put(pcall.sub(2), Value::TRUE);
                deliver!(vm, outer, pcall.sub(2), 1, from, d)
            }
        } else if link & 7 == frame::FrameType::Cont as u64
            && (*frame_base.sub(4)).0 == frame::Cont::Ra as u64
        {
            let prev = frame_base.sub(frame::delta(link));
            let pc = (*frame_base.sub(3)).0 as *const u32;
            let at = pc.sub(1) as *const u8;
            *prev.add(*at.add(1) as usize) = if d > 0 { *from } else { Value::NIL };
            let k = constants(prev);
            next!(pc, prev, k, vm)
        }
        tail!(return_far, pc, base, k, vm, a, d)
    }
}

const _: () = assert!(std::mem::size_of::<Instr>() == 4);
