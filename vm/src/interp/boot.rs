//! Making a VM.

use std::sync::atomic::{AtomicPtr, AtomicU32};

use super::tables::{BACK_EDGES, PLAIN};
use crate::bytecode::ops::Mm;
use crate::heap::Heap;
use crate::limits::STACK_START;
use crate::state::hooks::TraceTable;
use crate::state::native::{Entry, NativeTable};
use crate::state::{AppData, HOT_SIZE, HookState, Vm};
use crate::thread::Status;
use crate::thread::frame::{FIRST_BASE, LINK_CORO, raw};
use crate::value::Value;

impl Default for Box<Vm> {
    fn default() -> Box<Vm> {
        Vm::new()
    }
}

impl Vm {
    /// A machine without libraries. Boxed: handlers and machine code hold its address.
    pub fn new() -> Box<Vm> {
        Vm::with_compat(false)
    }

    /// A machine without libraries; `compat52`: as LuaJIT built with `LUAJIT_ENABLE_LUA52COMPAT`.
    pub fn with_compat(compat52: bool) -> Box<Vm> {
        let mut heap = Heap::new();
        let registry = heap.new_table(0, 0);
        let globals = heap.new_table(0, 6);
        let main = heap.new_thread(globals, STACK_START * 4);
        let t = main.get_mut(&mut heap);
        // SAFETY: a fresh stack has these slots.
        unsafe {
            *t.stack = Value::NIL;
            *t.stack.add(1) = raw(LINK_CORO);
        }
        t.base = t.stack.wrapping_add(FIRST_BASE);
        t.top = t.base;
        t.set_status(Status::Running);
        let maxstack = t.maxstack;
        let mm_names =
            std::array::from_fn::<_, { Mm::COUNT }, _>(|i| heap.str_intern(Mm::NAMES[i].as_bytes()));
        Box::new(Vm {
            dispatch: PLAIN,
            hot: [u16::MAX; HOT_SIZE],
            cur: main,
            stack_limit: AtomicPtr::new(maxstack),
            flags: AtomicU32::new(0),
            resumed_at: std::ptr::null_mut(),
            multres: 1,
            pc: std::ptr::null(),
            call_nargs: 0,
            native_nargs: 0,
            ret_from: std::ptr::null_mut(),
            ret_count: 0,
            entry: Entry::first(0),
            err: Value::NIL,
            tmp: Value::NIL,
            index_name: Value::obj(mm_names[Mm::Index as usize]),
            recording: false,
            callbacks: 0,
            jit_word: 0,
            traces: TraceTable::default(),
            #[cfg(any(miri, feature = "loop"))]
            bounce: crate::state::Bounce {
                f: PLAIN[0],
                pc: std::ptr::null(),
                base: std::ptr::null_mut(),
                k: std::ptr::null(),
                a: 0,
                d: 0,
            },
            heap,
            natives: NativeTable::default(),
            jit: None,
            cdata: None,
            cdata_shapes: Default::default(),
            cdata_call: None,
            registry,
            globals,
            main,
            finalizer_thread: None,
            base_meta: [None; 16],
            mm_names,
            compat52,
            workspace: Default::default(),
            next_func: Value::NIL,
            joined: None,
            hook: HookState {
                func: Value::NIL,
                mask: 0,
                count: 0,
                left: 0,
                active: false,
                thread: 0,
                stage: 0,
                last_pc: std::ptr::null(),
                event_line: 0,
            },
            plain: &PLAIN,
            back_edges: &BACK_EDGES,
            jit_on: false,
            jit_held: false,
            exit_now: false,
            in_finalizer: false,
            nruns: 0,
            fuel: 0,
            deadline: None,
            deadline_skip: 0,
            interrupt: None,
            on_poke: None,
            on_exhausted: None,
            events: Default::default(),
            profile: Default::default(),
            no_handler: false,
            on_finalizer_error: None,
            on_load: None,
            suspend_token: 0,
            cat_buf: Vec::new(),
            lightud_segments: vec![0],
            app: AppData::default(),
        })
    }
}
