//! Function objects: Lua closures and native closures. Both keep their entry instruction at the same offset,
//! so that a call dispatches on it without asking which kind it is.

use super::proto::Proto;
use super::upvalue::Upval;
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, funcflags};
use crate::heap::Heap;
use crate::heap::arena::Group;
use crate::index::NativeId;
use crate::table::Table;
use crate::value::{Object, Value, tag};

/// What all functions have in common.
#[repr(C)]
pub struct Func {
    /// Header: `flags` [`funcflags`], `aux` number of upvalues.
    pub hdr: Header,
    /// Entry instruction: the prototype's header, or the VM's `FUNCC`-like word of a native.
    pub pc: *const u32,
    /// Environment.
    pub env: Gc<Table>,
}

/// A Lua closure; `hdr.aux` upvalue handles follow the struct.
#[repr(C)]
pub struct LuaFunc {
    /// Common part.
    pub func: Func,
    /// Prototype.
    pub proto: Gc<Proto>,
}

/// A native closure; `hdr.aux` values follow the struct.
#[repr(C)]
pub struct NativeFunc {
    /// Common part.
    pub func: Func,
    /// Row in the VM's table of natives.
    pub id: NativeId,
    /// Address of the interpreter's own handler of this function, null when it has none: see
    /// [`crate::state::native::NativeRow::fast`].
    pub fast: *const (),
    /// Address of its typed form, null when it has none.
    pub direct: *const (),
}

// SAFETY: `Func` is `repr(C)` and starts with its header of kind `Func`; the two forms below are told
// apart by `funcflags::NATIVE` before a cast.
unsafe impl Object for Func {
    const TAG: tag::Tag = tag::FUNC;
}

impl Func {
    /// Is it a native closure?
    #[inline(always)]
    pub fn is_native(&self) -> bool {
        self.hdr.flags & funcflags::NATIVE != 0
    }

    /// Number of upvalues.
    #[inline(always)]
    pub fn nupvals(&self) -> usize {
        self.hdr.aux as usize
    }
}

impl Gc<Func> {
    /// As a Lua closure, if it is one.
    #[inline(always)]
    pub fn as_lua(self, heap: &Heap) -> Option<Gc<LuaFunc>> {
        if self.get(heap).is_native() { None } else { Some(self.cast()) }
    }

    /// As a native closure, if it is one.
    #[inline(always)]
    pub fn as_native(self, heap: &Heap) -> Option<Gc<NativeFunc>> {
        if self.get(heap).is_native() { Some(self.cast()) } else { None }
    }
}

impl LuaFunc {
    /// Offset of the first upvalue handle.
    pub const UPVALS_OFFSET: usize = std::mem::size_of::<LuaFunc>();

    /// Upvalue objects.
    #[inline(always)]
    pub fn upvals(&self) -> &[Gc<Upval>] {
        // SAFETY: the allocator placed `nupvals` initialised handles behind the struct.
        unsafe {
            std::slice::from_raw_parts(
                (self as *const LuaFunc as *const u8).add(LuaFunc::UPVALS_OFFSET) as *const Gc<Upval>,
                self.func.nupvals(),
            )
        }
    }

    /// Upvalue objects, to replace (`debug.upvaluejoin`); the caller runs the write barrier.
    #[inline(always)]
    pub fn upvals_mut(&mut self) -> &mut [Gc<Upval>] {
        // SAFETY: as for `upvals`, and the borrow is exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(
                (self as *mut LuaFunc as *mut u8).add(LuaFunc::UPVALS_OFFSET) as *mut Gc<Upval>,
                self.func.nupvals(),
            )
        }
    }
}

impl NativeFunc {
    /// Offset of the first upvalue.
    pub const UPVALS_OFFSET: usize = std::mem::size_of::<NativeFunc>();

    /// Upvalues.
    #[inline(always)]
    pub fn upvals(&self) -> &[Value] {
        // SAFETY: the allocator placed `nupvals` initialised values behind the struct.
        unsafe {
            std::slice::from_raw_parts(
                (self as *const NativeFunc as *const u8).add(NativeFunc::UPVALS_OFFSET) as *const Value,
                self.func.nupvals(),
            )
        }
    }

    /// Upvalues, to write; the caller runs the write barrier.
    #[inline(always)]
    pub fn upvals_mut(&mut self) -> &mut [Value] {
        // SAFETY: as for `upvals`, and the borrow is exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(
                (self as *mut NativeFunc as *mut u8).add(NativeFunc::UPVALS_OFFSET) as *mut Value,
                self.func.nupvals(),
            )
        }
    }
}

impl Heap {
    /// A Lua closure.
    #[inline]
    pub fn new_lua_func(&mut self, proto: Gc<Proto>, env: Gc<Table>, upvals: &[Gc<Upval>]) -> Gc<Func> {
        let f = self.new_lua_func_uninit(proto, env, upvals.len());
        // SAFETY: the object has room for this many handles, and nobody else has seen it.
        unsafe {
            let p = (f.as_ptr() as *mut u8).add(LuaFunc::UPVALS_OFFSET) as *mut Gc<Upval>;
            std::ptr::copy_nonoverlapping(upvals.as_ptr(), p, upvals.len());
        }
        f.cast()
    }

    /// As [`Heap::new_lua_func`]; the caller writes the `n` upvalue handles at
    /// [`LuaFunc::UPVALS_OFFSET`] before anything else reads them or collects.
    #[inline]
    pub fn new_lua_func_uninit(&mut self, proto: Gc<Proto>, env: Gc<Table>, n: usize) -> Gc<LuaFunc> {
        let (p, large) = self.alloc(Group::Obj, LuaFunc::UPVALS_OFFSET + n * 8);
        let hdr = Header { kind: Kind::Func as u8, gc: large, flags: 0, extra: 0, aux: n as u32 };
        let pc = proto.get(self).code as *const u32;
        // SAFETY: the allocation has room for the struct.
        unsafe { (p as *mut LuaFunc).write(LuaFunc { func: Func { hdr, pc, env }, proto }) };
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    /// A native closure; `pc` is the address of its entry instruction.
    pub fn new_native_func(
        &mut self,
        id: NativeId,
        env: Gc<Table>,
        pc: *const u32,
        upvals: &[Value],
    ) -> Gc<Func> {
        let (p, large) = self.alloc(Group::Obj, NativeFunc::UPVALS_OFFSET + upvals.len() * 8);
        let hdr = Header {
            kind: Kind::Func as u8,
            gc: large,
            flags: funcflags::NATIVE,
            extra: 0,
            aux: upvals.len() as u32,
        };
        // SAFETY: the allocation has room for the struct and the values.
        unsafe {
            (p as *mut NativeFunc).write(NativeFunc {
                func: Func { hdr, pc, env },
                id,
                fast: std::ptr::null(),
                direct: std::ptr::null(),
            });
            let u = p.add(NativeFunc::UPVALS_OFFSET) as *mut Value;
            std::ptr::copy_nonoverlapping(upvals.as_ptr(), u, upvals.len());
        }
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }
}

const _: () = {
    assert!(std::mem::size_of::<LuaFunc>() == 32 && std::mem::size_of::<NativeFunc>() == 48);
};
