//! Offsets and sizes that machine code uses, in bytes, each from the type itself.

use std::mem::{offset_of, size_of};

use crate::cell::header::Header;
use crate::function::closure::{Func, LuaFunc, NativeFunc};
use crate::function::proto::Proto;
use crate::function::upvalue::Upval;
use crate::heap::Heap;
use crate::heap::accounting::Accounting;
use crate::state::Vm;
use crate::state::hooks::TraceEntry;
use crate::string::Str;
use crate::table::{Node, Table};
use crate::thread::Thread;
use crate::userdata::Userdata;
use crate::value::Value;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident = $ty:ident . $field:tt $(. $more:ident : $mty:ident)?;)*) => {
        $($(#[$doc])* pub const $name: i32 = (offset_of!($ty, $field) $(+ offset_of!($mty, $more))?) as i32;)*
    };
}

offsets! {
    /// Dispatch table; the VM starts with it.
    VM_DISPATCH = Vm.dispatch;
    /// Hot counters.
    VM_HOT = Vm.hot;
    /// Running coroutine.
    VM_CUR = Vm.cur;
    /// Limit of frames, or null to make function headers look at the flags.
    VM_STACK_LIMIT = Vm.stack_limit;
    /// Flag word, 32 bits, to poll at back edges.
    VM_FLAGS = Vm.flags;
    /// Values of the last multi-value instruction plus one, 32 bits.
    VM_MULTRES = Vm.multres;
    /// Instruction after the current one.
    VM_PC = Vm.pc;
    /// Free word of the JIT.
    VM_JIT_WORD = Vm.jit_word;
    /// The heap.
    VM_HEAP = Vm.heap;
    /// Collector due, 32 bits.
    VM_GC_DUE = Vm.heap.acct: Heap;
    /// First slot of the current frame.
    THREAD_BASE = Thread.base;
    /// First free slot.
    THREAD_TOP = Thread.top;
    /// Start of the stack.
    THREAD_STACK = Thread.stack;
    /// Last slot a frame may use.
    THREAD_MAXSTACK = Thread.maxstack;
    /// Open upvalues.
    THREAD_OPEN = Thread.open;
    /// Kind.
    HDR_KIND = Header.kind;
    /// Collector bits.
    HDR_GC = Header.gc;
    /// Flags by kind.
    HDR_FLAGS = Header.flags;
    /// Word by kind (what tables hash a string by, a function's number of upvalues).
    HDR_AUX = Header.aux;
    /// Bytes of a string.
    STR_LEN = Str.len;
    /// Array part.
    TAB_ARRAY = Table.array;
    /// Hash part.
    TAB_NODE = Table.node;
    /// Metatable.
    TAB_META = Table.meta;
    /// Array slots.
    TAB_ASIZE = Table.asize;
    /// Hash nodes minus one.
    TAB_HMASK = Table.hmask;
    /// Value of a node.
    NODE_VAL = Node.val;
    /// Key of a node.
    NODE_KEY = Node.key;
    /// Next node of the chain.
    NODE_NEXT = Node.next;
    /// Entry instruction of a function.
    FUNC_PC = Func.pc;
    /// Environment of a function.
    FUNC_ENV = Func.env;
    /// Prototype of a Lua function.
    FUNC_PROTO = LuaFunc.proto;
    /// Native id of a native function.
    FUNC_ID = NativeFunc.id;
    /// Constants.
    PROTO_K = Proto.k;
    /// Code.
    PROTO_CODE = Proto.code;
    /// Fixed parameters, 8 bits.
    PROTO_NUMPARAMS = Proto.numparams;
    /// Frame size, 8 bits.
    PROTO_FRAMESIZE = Proto.framesize;
    /// Where an upvalue's value is.
    UPVAL_V = Upval.v;
    /// The value of a closed upvalue.
    UPVAL_TV = Upval.tv;
    /// Metatable of a userdata.
    UDATA_META = Userdata.meta;
    /// Entry point of a trace.
    TRACE_ENTRY = TraceEntry.entry;
}

/// First byte of a string.
pub const STR_DATA: i32 = Str::DATA_OFFSET as i32;
/// First upvalue handle of a Lua function.
pub const FUNC_UPVALS: i32 = LuaFunc::UPVALS_OFFSET as i32;
/// First upvalue of a native function.
pub const NATIVE_UPVALS: i32 = NativeFunc::UPVALS_OFFSET as i32;
/// Payload of a userdata.
pub const UDATA_DATA: i32 = Userdata::DATA_OFFSET as i32;

const _: () = {
    assert!(VM_DISPATCH == 0);
    assert!(size_of::<Value>() == 8 && size_of::<Node>() == 24 && size_of::<TraceEntry>() == 16);
    assert!(offset_of!(Accounting, due) == 0 && VM_GC_DUE < i32::MAX);
};
