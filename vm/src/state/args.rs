//! What a native function sees of its frame: arguments, slots, results, checked access. Runs nothing.

use crate::cell::gc_ref::Gc;
use crate::error::messages as msg;
use crate::function::closure::{Func, NativeFunc};
use crate::index::NativeId;
use crate::state::Vm;
use crate::state::native::{NativeRow, Raised};
use crate::string::Str;
use crate::table::Table;
use crate::thread::frame::{CONT_SLOTS, raw};
use crate::userdata::Userdata;
use crate::value::Value;

impl Vm {
    /// Number of arguments of the running native (on re-entry: height of its frame below the results).
    #[inline(always)]
    pub fn nargs(&self) -> usize {
        self.native_nargs
    }

    /// Argument `i`, counted from 0; `nil` when absent.
    #[inline(always)]
    pub fn arg(&self, i: usize) -> Value {
        if i < self.native_nargs {
            // SAFETY: the arguments are the first `native_nargs` slots of the frame.
            unsafe { *self.base().add(i) }
        } else {
            Value::NIL
        }
    }

    /// Argument `i`; `None` when absent.
    #[inline(always)]
    pub fn arg_opt(&self, i: usize) -> Option<Value> {
        if i < self.native_nargs { Some(self.arg(i)) } else { None }
    }

    /// Makes the native one with `n` parameters: those without an argument are nil, not absent.
    pub(crate) fn fill_params(&mut self, n: usize) {
        if self.native_nargs < n {
            self.set_top(n);
            self.native_nargs = n;
        }
    }

    /// Height of the frame.
    #[inline(always)]
    pub fn top_count(&self) -> usize {
        let t = self.cur.get(&self.heap);
        (t.top as usize - t.base as usize) / std::mem::size_of::<Value>()
    }

    /// Slot `i` of the frame; `nil` above its top.
    #[inline(always)]
    pub fn slot(&self, i: usize) -> Value {
        if i < self.top_count() {
            // SAFETY: the slot lies below the top.
            unsafe { *self.base().add(i) }
        } else {
            Value::NIL
        }
    }

    /// Writes slot `i` of the frame, growing the frame to it.
    #[inline(always)]
    pub fn set_slot(&mut self, i: usize, v: Value) {
        if i >= self.top_count() {
            self.set_top(i + 1);
        }
        // SAFETY: the frame is higher than `i` now.
        unsafe { *self.base().add(i) = v };
    }

    /// Pushes a value. The stack grows as needed; natives that push without bound ask `ensure_slots` first.
    #[inline(always)]
    pub fn push(&mut self, v: Value) {
        let t = self.cur.get(&self.heap);
        // Half of the reserve above `maxstack` stays for the interpreter.
        if t.top >= t.maxstack.wrapping_add(crate::limits::NATIVE_SLOTS) {
            self.grow_for_push(1);
        }
        let t = self.cur.get_mut(&mut self.heap);
        // SAFETY: `top` is at most NATIVE_SLOTS above `maxstack`, which lies STACK_EXTRA below the end.
        unsafe { *t.top = v };
        t.top = t.top.wrapping_add(1);
    }

    #[cold]
    #[inline(never)]
    fn grow_for_push(&mut self, n: usize) {
        let t = self.cur.get(&self.heap);
        let want = t.top_index() + n + 2 * crate::limits::STACK_EXTRA;
        let size = (t.size as usize * 2).max(want);
        self.cur.resize_stack(&mut self.heap, size);
        self.sync_stack_limit();
    }

    /// Refreshes the copy of the running coroutine's limit after its stack moved or another one runs.
    #[inline(always)]
    pub(crate) fn sync_stack_limit(&mut self) {
        use std::sync::atomic::Ordering::Relaxed;
        let max = self.cur.get(&self.heap).maxstack;
        let set = self.flags.load(Relaxed) != 0;
        self.stack_limit.store(if set { std::ptr::null_mut() } else { max }, Relaxed);
    }

    /// Pops the topmost value; `nil` when the frame is empty.
    #[inline(always)]
    pub fn pop(&mut self) -> Value {
        let t = self.cur.get_mut(&mut self.heap);
        if t.top <= t.base {
            return Value::NIL;
        }
        t.top = t.top.wrapping_sub(1);
        // SAFETY: the slot was below the top.
        unsafe { *t.top }
    }

    /// The `i`-th of the `n` topmost values.
    #[inline(always)]
    pub fn top_value(&self, n: usize, i: usize) -> Value {
        let h = self.top_count();
        if n <= h && i < n { self.slot(h - n + i) } else { Value::NIL }
    }

    /// Sets the height of the frame; new slots are `nil`.
    pub fn set_top(&mut self, n: usize) {
        let h = self.top_count();
        if n > h {
            let t = self.cur.get(&self.heap);
            if t.top.wrapping_add(n - h) > t.maxstack {
                self.grow_for_push(n - h);
            }
            for i in h..n {
                // SAFETY: the stack has room for `n` slots above base.
                unsafe { *self.base().add(i) = Value::NIL };
            }
        }
        let base = self.base();
        self.set_top_ptr(base.wrapping_add(n));
    }

    /// Makes room for `n` more slots, or raises `stack overflow`.
    pub fn ensure_slots(&mut self, n: usize) -> Result<(), Raised> {
        let t = self.cur.get(&self.heap);
        let from = t.top_index();
        if from + n + crate::limits::STACK_EXTRA <= t.size as usize {
            return Ok(());
        }
        let r = self.cur.grow_stack(&mut self.heap, from, n);
        self.sync_stack_limit();
        r.map_err(|e| self.raise_stack(e))
    }

    /// Has the running stack less than `n` slots from `base` on, which lies in it?
    pub fn lacks_stack_room(&self, base: *mut Value, n: usize) -> bool {
        base.wrapping_add(n) > self.cur.get(&self.heap).maxstack
    }

    /// Makes room for `n` slots from `base` on, within the limit of programs. The stack may move: answers where `base` is.
    pub fn make_stack_room(&mut self, base: *mut Value, n: usize) -> *mut Value {
        let at = (base as usize - self.cur.get(&self.heap).stack as usize) / size_of::<Value>();
        if at + n + crate::limits::STACK_EXTRA <= crate::limits::STACK_MAX {
            // Within the limit it does not fail.
            let _ = self.cur.grow_stack(&mut self.heap, at, n);
            self.sync_stack_limit();
        }
        self.cur.get(&self.heap).stack.wrapping_add(at)
    }

    /// The function of the running frame.
    #[inline(always)]
    pub fn running_func(&self) -> Option<Gc<Func>> {
        // SAFETY: every frame has its function two slots below its base.
        unsafe { *self.base().sub(2) }.as_obj()
    }

    #[inline(always)]
    fn running_native_func(&self) -> Option<Gc<NativeFunc>> {
        self.running_func()?.as_native(&self.heap)
    }

    /// The running native. Meaningful inside a native only.
    pub fn running_native(&self) -> NativeId {
        self.running_native_func().map_or(NativeId::new(0), |f| f.get(&self.heap).id)
    }

    /// Row of the running native.
    pub fn running_row(&self) -> &NativeRow {
        self.natives.get(self.running_native())
    }

    /// Upvalue `i` of the running native; `nil` when there is none.
    #[inline]
    pub fn upvalue(&self, i: usize) -> Value {
        match self.running_native_func() {
            Some(f) => f.get(&self.heap).upvals().get(i).copied().unwrap_or(Value::NIL),
            None => Value::NIL,
        }
    }

    /// Sets upvalue `i` of the running native.
    pub fn set_upvalue(&mut self, i: usize, v: Value) {
        if let Some(f) = self.running_native_func() {
            if let Some(slot) = f.get_mut(&mut self.heap).upvals_mut().get_mut(i) {
                *slot = v;
            }
            self.heap.barrier::<Func>(f.cast());
        }
    }

    /// Begins a call of `f`: pushes the call header. Then push the arguments and return
    /// [`Outcome::call`](super::native::Outcome::call) or a relative.
    pub fn prepare_call(&mut self, f: Value) {
        const { assert!(CONT_SLOTS == 4) };
        self.push(raw(0));
        self.push(raw(0));
        self.push(f);
        self.push(raw(0));
    }

    /// Argument `i` as a number; strings are converted.
    #[inline]
    pub fn check_num(&mut self, i: usize) -> Result<f64, Raised> {
        let v = self.arg(i);
        match v.as_num() {
            Some(n) => Ok(n),
            None => match self.str_to_number(v) {
                Some(n) => Ok(n),
                None => Err(self.type_error(i, "number")),
            },
        }
    }

    /// Argument `i` as a number, `d` when absent or nil.
    #[inline]
    pub fn opt_num(&mut self, i: usize, d: f64) -> Result<f64, Raised> {
        if self.arg(i).is_nil() { Ok(d) } else { self.check_num(i) }
    }

    /// Argument `i` as a 32-bit integer: fractions are cut, what does not fit becomes the smallest integer.
    #[inline]
    pub fn check_int(&mut self, i: usize) -> Result<i32, Raised> {
        Ok(num_to_i32(self.check_num(i)?))
    }

    /// Argument `i` as a 32-bit integer, `d` when absent or nil.
    #[inline]
    pub fn opt_int(&mut self, i: usize, d: i32) -> Result<i32, Raised> {
        if self.arg(i).is_nil() { Ok(d) } else { self.check_int(i) }
    }

    /// Argument `i` as a string; numbers are converted, in the slot too.
    #[inline]
    pub fn check_str(&mut self, i: usize) -> Result<Gc<Str>, Raised> {
        let v = self.arg(i);
        if let Some(s) = v.as_obj::<Str>() {
            return Ok(s);
        }
        if v.is_num() {
            let s = self.tostring_raw(v);
            self.set_slot(i, Value::obj(s));
            return Ok(s);
        }
        Err(self.type_error(i, "string"))
    }

    /// Argument `i` as a string, `None` when absent or nil.
    #[inline]
    pub fn opt_str(&mut self, i: usize) -> Result<Option<Gc<Str>>, Raised> {
        if self.arg(i).is_nil() { Ok(None) } else { self.check_str(i).map(Some) }
    }

    /// Argument `i` as a table.
    #[inline]
    pub fn check_tab(&mut self, i: usize) -> Result<Gc<Table>, Raised> {
        match self.arg(i).as_obj() {
            Some(t) => Ok(t),
            None => Err(self.type_error(i, "table")),
        }
    }

    /// Argument `i` as a function.
    #[inline]
    pub fn check_func(&mut self, i: usize) -> Result<Gc<Func>, Raised> {
        match self.arg(i).as_obj() {
            Some(f) => Ok(f),
            None => Err(self.type_error(i, "function")),
        }
    }

    /// Argument `i`, which may be anything but absent.
    #[inline]
    pub fn check_any(&mut self, i: usize) -> Result<Value, Raised> {
        match self.arg_opt(i) {
            Some(v) => Ok(v),
            None => Err(self.arg_error(i, msg::NO_VALUE.as_bytes())),
        }
    }

    /// The number in a value, with Lua's conversion of strings.
    #[inline]
    pub fn to_number(&self, v: Value) -> Option<f64> {
        match v.as_num() {
            Some(n) => Some(n),
            None => self.str_to_number(v),
        }
    }

    /// The number a string spells.
    pub fn str_to_number(&self, v: Value) -> Option<f64> {
        let s = v.as_obj::<Str>()?;
        crate::value::number::parse(s.bytes(&self.heap))
    }

    /// Keeps a buffer for the next text to be made, unless it is large.
    #[inline]
    pub(crate) fn keep_buffer(&mut self, buf: Vec<u8>) {
        if buf.capacity() <= 1 << 16 {
            self.cat_buf = buf;
        }
    }

    /// Text of a value without metamethods, as a string object.
    pub fn tostring_raw(&mut self, v: Value) -> Gc<Str> {
        if let Some(s) = v.as_obj::<Str>() {
            return s;
        }
        if let Some(n) = v.as_num() {
            let mut text = std::mem::take(&mut self.cat_buf);
            text.clear();
            crate::value::number::write_number(n, &mut text);
            let s = self.heap.str(&text);
            self.keep_buffer(text);
            return s;
        }
        let text = self.raw_text(v);
        self.heap.str(&text)
    }

    /// Text of a value without metamethods.
    pub fn raw_text(&self, v: Value) -> Vec<u8> {
        use crate::value::tag;
        if let Some(n) = v.as_num() {
            return crate::value::number::to_text(n);
        }
        match v.tag() {
            tag::NIL => b"nil".to_vec(),
            tag::FALSE => b"false".to_vec(),
            tag::TRUE => b"true".to_vec(),
            tag::STR => match v.as_obj::<Str>() {
                Some(s) => s.bytes(&self.heap).to_vec(),
                None => Vec::new(),
            },
            tag::LIGHTUD => match self.lightud_addr(v) {
                0 => b"userdata: NULL".to_vec(),
                // Whole bytes, at least four.
                a => {
                    format!("userdata: 0x{a:0w$x}", w = 8.max((a.ilog2() as usize / 8 + 1) * 2)).into_bytes()
                }
            },
            tag::CDATA => match &self.cdata {
                Some(h) => h.tostring(self, v),
                None => format!("cdata: {:#x}", v.payload()).into_bytes(),
            },
            tag::FUNC => {
                if let Some(f) = v.as_obj::<Func>()
                    && let Some((id, row)) = self.native_row(f)
                    && row.is_builtin()
                    && row.lua_params().is_none()
                {
                    return format!("function: builtin#{}", id.get()).into_bytes();
                }
                format!("function: {:#x}", v.payload()).into_bytes()
            }
            // Of a userdata the address of what is in it, as C code sees it.
            tag::UDATA => format!("userdata: {:#x}", v.payload() + Userdata::DATA_OFFSET as u64).into_bytes(),
            _ => format!("{}: {:#x}", v.type_name(), v.payload()).into_bytes(),
        }
    }
}

/// The processor's conversion to 32 bits: cuts fractions; what does not fit becomes the smallest integer.
#[inline(always)]
pub fn num_to_i32(n: f64) -> i32 {
    if n > -2147483649.0 && n < 2147483648.0 { n as i32 } else { i32::MIN }
}
