//! Walking the frames of a coroutine, for errors, tracebacks and `debug`. Changes nothing.

use crate::bytecode::instr::Instr;
use crate::bytecode::ops::{Mm, Op};
use crate::cell::gc_ref::Gc;
use crate::error::traceback::{Line, short_source};
use crate::error::varname::{NameKind, slot_name};
use crate::function::closure::{Func, LuaFunc};
use crate::function::proto::Proto;
use crate::index::NativeId;
use crate::state::Vm;
use crate::state::native::NativeRow;
use crate::thread::Thread;
use crate::thread::frame::{self, FIRST_BASE};
use crate::value::Value;

/// A frame of a coroutine, as indices into its stack (they survive a move of the stack).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRef {
    /// The coroutine.
    pub thread: Gc<Thread>,
    /// Index of its first slot.
    pub base: usize,
    /// Base index of the frame it called, 0 for the innermost frame.
    pub next: usize,
    /// End of its slots.
    pub limit: usize,
}

impl Vm {
    /// The word in a stack slot.
    #[inline]
    fn word(&self, th: Gc<Thread>, index: usize) -> Value {
        let t = th.get(&self.heap);
        debug_assert!(index < t.size as usize);
        // SAFETY: indices come from frame links of this stack and lie inside it.
        unsafe { *t.stack.add(index) }
    }

    /// Base index of the frame below; `None` at the bottom.
    pub fn prev_base(&self, th: Gc<Thread>, base: usize) -> Option<usize> {
        th.prev_base(&self.heap, base)
    }

    /// The innermost frame of a coroutine; `None` when it has none.
    pub fn innermost(&self, th: Gc<Thread>) -> Option<FrameRef> {
        let t = th.get(&self.heap);
        let f = FrameRef { thread: th, base: t.base_index(), next: 0, limit: t.top_index() };
        self.settle_frame(f)
    }

    /// The frame that called this one.
    pub fn caller(&self, f: FrameRef) -> Option<FrameRef> {
        self.settle_frame(self.below(f)?)
    }

    /// The frame below, whether it has a function or not.
    fn below(&self, f: FrameRef) -> Option<FrameRef> {
        let mut base = f.base;
        // The frame proper of a vararg function carries no level of its own.
        if self.word(f.thread, base - 1).0 & 7 == frame::FrameType::Varg as u64 {
            base = self.prev_base(f.thread, base)?;
        }
        let prev = self.prev_base(f.thread, base)?;
        Some(FrameRef { thread: f.thread, base: prev, next: base, limit: base - 2 })
    }

    /// Does the frame belong to a function? Calls of values that are not functions do not, nor does the bottom of
    /// the main coroutine, nor a coroutine that was not started or has finished.
    fn is_proper(&self, f: FrameRef) -> bool {
        f.base >= FIRST_BASE
            && self.word(f.thread, f.base - 1).0 != 0
            && self.word(f.thread, f.base - 2).as_obj::<Func>().is_some()
    }

    /// This frame, or the next one below that belongs to a function.
    fn settle_frame(&self, f: FrameRef) -> Option<FrameRef> {
        let mut f = f;
        while !self.is_proper(f) {
            if f.base < FIRST_BASE || self.word(f.thread, f.base - 1).0 == 0 {
                return None;
            }
            f = self.below(f)?;
        }
        Some(f)
    }

    /// The frame at a level: 0 is the innermost one.
    pub fn frame_at(&self, th: Gc<Thread>, level: usize) -> Option<FrameRef> {
        let mut f = self.innermost(th)?;
        for _ in 0..level {
            f = self.caller(f)?;
        }
        Some(f)
    }

    /// Function of a frame.
    pub fn frame_func(&self, f: FrameRef) -> Option<Gc<Func>> {
        self.word(f.thread, f.base - 2).as_obj()
    }

    /// Number and row of a native function.
    pub fn native_row(&self, f: Gc<Func>) -> Option<(NativeId, &NativeRow)> {
        let id = f.as_native(&self.heap)?.get(&self.heap).id;
        Some((id, self.natives.get(id)))
    }

    /// Value in a slot of a frame; `None` above its end.
    pub fn frame_slot(&self, f: FrameRef, slot: usize) -> Option<Value> {
        if f.base + slot < f.limit { Some(self.word(f.thread, f.base + slot)) } else { None }
    }

    /// Writes a slot of a frame; does nothing above its end.
    pub fn set_frame_slot(&mut self, f: FrameRef, slot: usize, v: Value) {
        if f.base + slot < f.limit {
            let t = f.thread.get_mut(&mut self.heap);
            // SAFETY: the slot lies in a frame of this stack, below its end.
            unsafe { *t.stack.add(f.base + slot) = v };
            t.written();
        }
    }

    /// The extra arguments of a vararg function as slots of a frame of their own; `None` if it takes none.
    pub fn frame_varargs(&self, f: FrameRef) -> Option<FrameRef> {
        let link = self.word(f.thread, f.base - 1).0;
        let params = self.frame_proto(f)?.get(&self.heap).numparams as usize;
        if link & 7 != frame::FrameType::Varg as u64 {
            return None;
        }
        let first = self.prev_base(f.thread, f.base)? + params;
        let limit = f.base - 2;
        Some(FrameRef { base: first.min(limit), limit, ..f })
    }

    /// Prototype of a frame of a Lua function.
    pub fn frame_proto(&self, f: FrameRef) -> Option<Gc<Proto>> {
        let lf: Gc<LuaFunc> = self.frame_func(f)?.as_lua(&self.heap)?;
        Some(lf.get(&self.heap).proto)
    }

    /// Position of the current instruction of a frame of a Lua function.
    pub fn frame_pos(&self, f: FrameRef) -> Option<u32> {
        let pt = self.frame_proto(f)?.get(&self.heap);
        let pc = if f.next == 0 {
            if f.thread == self.cur { self.pc as u64 } else { f.thread.get(&self.heap).saved_pc as u64 }
        } else {
            let link = self.word(f.thread, f.next - 1).0;
            if frame::is_lua(link) {
                link
            } else if link & 7 == frame::FrameType::Cont as u64 {
                self.word(f.thread, f.next - 3).0
            } else {
                self.pc as u64
            }
        };
        let start = pt.code as u64;
        let pos = (pc.wrapping_sub(start) / 4).wrapping_sub(1);
        if pos < pt.ncode as u64 { Some(pos as u32) } else { None }
    }

    /// Current line of a frame of a Lua function.
    pub fn frame_line(&self, f: FrameRef) -> Option<u32> {
        let pos = self.frame_pos(f)?;
        self.frame_proto(f)?.get(&self.heap).line_at(pos)
    }

    /// `source:line:` of a frame of a Lua function, with a space behind; empty for others.
    pub fn frame_where(&self, f: FrameRef) -> Vec<u8> {
        let Some(pt) = self.frame_proto(f) else {
            let row = self.frame_func(f).and_then(|f| self.native_row(f)).map(|(_, row)| row);
            return match row.filter(|r| r.lua_params().is_some()) {
                Some(row) => format!("[builtin:{}]:0: ", row.field()).into_bytes(),
                None => Vec::new(),
            };
        };
        let mut out = short_source(pt.get(&self.heap).chunkname.bytes(&self.heap));
        match self.frame_line(f) {
            Some(line) => out.extend_from_slice(format!(":{line}: ").as_bytes()),
            // Stripped code has no lines.
            None => out.extend_from_slice(b":0: "),
        }
        out
    }

    /// Name under which a frame's function was called, as its caller's code shows it.
    pub fn frame_name(&self, f: FrameRef) -> Option<(NameKind, Vec<u8>)> {
        let caller = self.below(f)?;
        if !self.is_proper(caller) {
            return None;
        }
        let pt = self.frame_proto(caller)?;
        let pos = self.frame_pos(caller)?;
        let link = self.word(f.thread, caller.next - 1).0;
        if !(frame::is_lua(link) || link & 7 == frame::FrameType::Cont as u64) {
            return None;
        }
        let p = pt.get(&self.heap);
        let ins = Instr(p.code()[pos as usize]);
        let op = ins.op();
        let mm = op.info().mm;
        if mm == Mm::Call {
            let mut slot = ins.a();
            if matches!(op, Op::ITERC | Op::ITERN) {
                slot = slot.wrapping_sub(3);
            }
            return slot_name(&self.heap, p, pos, slot);
        }
        if mm == Mm::None {
            return None;
        }
        // An instruction's own fallback: `a <= b` may have asked for `__lt`.
        Some((NameKind::Metamethod, Mm::NAMES[mm as usize].as_bytes().to_vec()))
    }

    /// The levels of a traceback from `level` on.
    pub fn traceback_lines(&self, th: Gc<Thread>, level: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut at = self.frame_at(th, level);
        while let Some(f) = at {
            lines.push(self.traceback_line(f));
            at = self.caller(f);
        }
        lines
    }

    fn traceback_line(&self, f: FrameRef) -> Line {
        let name = self.frame_name(f).map(|(_, n)| n);
        match self.frame_proto(f) {
            Some(pt) => {
                let p = pt.get(&self.heap);
                Line {
                    source: short_source(p.chunkname.bytes(&self.heap)),
                    line: self.frame_line(f).unwrap_or(0),
                    main: p.firstline == 0 && p.lastline != 0 && name.is_none(),
                    name,
                    address: None,
                    defined: p.firstline as i32,
                }
            }
            None => {
                let func = self.frame_func(f);
                let row = func.and_then(|f| self.native_row(f));
                let lua = row.filter(|(_, row)| row.lua_params().is_some());
                let source = match row {
                    Some((_, row)) if lua.is_some() => format!("[builtin:{}]", row.field()),
                    Some((id, row)) if name.is_none() && row.is_builtin() => {
                        format!("[builtin#{}]", id.get())
                    }
                    _ => "[C]".to_string(),
                };
                let address = match name.is_some() || lua.is_some() {
                    true => None,
                    false => Some(func.map_or(0, |x| x.addr())),
                };
                Line { source: source.into_bytes(), line: 0, name, main: false, address, defined: -1 }
            }
        }
    }

    /// Text of a traceback of a coroutine from `level` on, below an optional message.
    pub fn traceback(&self, th: Gc<Thread>, message: Option<&[u8]>, level: usize) -> Vec<u8> {
        crate::error::traceback::render(message, &self.traceback_lines(th, level), level)
    }
}
