//! What the recorder sees of the running VM: instructions, stack slots, constants, objects. Reads only; this is
//! the one file below `lower` that follows raw pointers.

use moonlit_vm::bytecode::instr::Instr;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::{Func, LuaFunc};
use moonlit_vm::function::proto::Proto;
use moonlit_vm::function::upvalue::Upval;
use moonlit_vm::heap::Heap;
use moonlit_vm::state::Vm;
use moonlit_vm::table::{Node, Table};
use moonlit_vm::value::Value;

/// A position in running code: next instruction and frame, as the interpreter passed them.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The instruction about to be executed.
    pub pc: *const u32,
    /// The current frame.
    pub base: *mut Value,
}

impl At {
    /// The instruction `n` words from the current one.
    pub fn ins(self, n: isize) -> Instr {
        // SAFETY: the interpreter stands at `pc`; neighbours named by the bytecode's own operands and the
        // words around an instruction of a verified prototype belong to its code block.
        unsafe { Instr(*self.pc.offset(n)) }
    }

    /// Register `r`.
    pub fn reg(self, r: u32) -> Value {
        self.slot(r as isize)
    }

    /// Slot relative to the base; -2 is the function, -1 the frame link.
    pub fn slot(self, n: isize) -> Value {
        // SAFETY: registers of the current instruction lie inside the frame, which was grown at its header;
        // the two slots below the base always exist.
        unsafe { *self.base.offset(n) }
    }

    /// The function of the frame.
    pub fn func(self) -> Option<Gc<Func>> {
        self.slot(-2).as_obj::<Func>()
    }

    /// The frame as a Lua function.
    pub fn lua_func(self, heap: &Heap) -> Option<Gc<LuaFunc>> {
        self.func()?.as_lua(heap)
    }

    /// The prototype of the frame's function.
    pub fn proto(self, heap: &Heap) -> Option<Gc<Proto>> {
        Some(self.lua_func(heap)?.get(heap).proto)
    }

    /// Number constant `i`.
    pub fn knum(self, heap: &Heap, i: u32) -> Value {
        let p = self.proto(heap).expect("the recorder follows Lua frames only");
        // SAFETY: the operand of a verified instruction is below `nknum`.
        unsafe { *p.get(heap).k.add(i as usize) }
    }

    /// Gc constant `i`.
    pub fn kgc(self, heap: &Heap, i: u32) -> Value {
        self.proto(heap).and_then(|p| p.get(heap).kgc(i)).unwrap_or(Value::NIL)
    }

    /// Upvalue object `i` of the frame's function.
    pub fn upval(self, heap: &Heap, i: u32) -> Option<Gc<Upval>> {
        self.lua_func(heap)?.get(heap).upvals().get(i as usize).copied()
    }
}

/// The value of an upvalue.
pub fn upval_value(heap: &Heap, u: Gc<Upval>) -> Value {
    // SAFETY: an upvalue points to its own closed value or to a live slot of a stack.
    unsafe { *u.get(heap).v }
}

/// Registers at or above `base` that open upvalues of the running coroutine refer to.
pub fn open_slots(vm: &Vm, base: *mut Value) -> Vec<usize> {
    let mut out = Vec::new();
    let mut u = vm.cur.get(&vm.heap).open;
    while let Some(x) = u {
        let v = x.get(&vm.heap);
        if v.v < base {
            break;
        }
        out.push((v.v as usize - base as usize) / 8);
        u = v.next;
    }
    out
}

/// Where a table keeps a key: in its array part, in a node (with its number), or nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Array slot.
    Array,
    /// Node of the hash part.
    Node(u32),
    /// Not there.
    Absent,
}

/// Finds a canonical key (long strings as their interned twins); place and value.
pub fn lookup(heap: &Heap, t: Gc<Table>, key: Value) -> (Place, Value) {
    let tab = t.get(heap);
    let p = tab.find(key);
    if p.is_null() {
        return (Place::Absent, Value::NIL);
    }
    // SAFETY: `find` gave a slot of this table.
    let v = unsafe { *p };
    let off = (p as usize).wrapping_sub(tab.node as usize);
    if off < (tab.hmask as usize + 1) * size_of::<Node>() {
        (Place::Node((off / size_of::<Node>()) as u32), v)
    } else {
        (Place::Array, v)
    }
}

/// Replaces the instruction at `pc` (patched loop and function headers).
pub fn patch(pc: usize, ins: Instr) {
    // SAFETY: `pc` is an instruction of a live prototype: the engine forgets addresses when a prototype dies.
    unsafe { *(pc as *mut u32) = ins.0 }
}

/// The instruction at an address the engine remembers.
pub fn ins_at(pc: usize) -> Instr {
    // SAFETY: as in `patch`.
    unsafe { Instr(*(pc as *const u32)) }
}
