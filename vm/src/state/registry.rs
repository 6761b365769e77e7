//! Natives become functions here, and functions become fields of tables. Calls nothing.

use crate::bytecode::instr::Instr;
use crate::bytecode::ops::Op;
use crate::cell::gc_ref::Gc;
use crate::function::closure::Func;
use crate::state::Vm;
use crate::state::native::NativeRow;
use crate::table::Table;
use crate::value::Value;

/// One header word for every op, so that a native's entry instruction has a stable address.
pub static HEADERS: [u32; Op::COUNT] = {
    let mut words = [0; Op::COUNT];
    let mut i = 0;
    while i < Op::COUNT {
        words[i] = Instr::ad(Op::ALL[i], 0, 0).0;
        i += 1;
    }
    words
};

impl Vm {
    /// A function object for a row, with upvalues. Its environment is the table of globals.
    pub fn new_native(&mut self, row: NativeRow, upvals: &[Value]) -> Gc<Func> {
        let id = self.natives.add(row);
        self.native_func(id, upvals)
    }

    /// Another function object for a row that is in the table already.
    pub fn native_func(&mut self, id: crate::index::NativeId, upvals: &[Value]) -> Gc<Func> {
        let row = self.natives.get(id);
        let pc = &HEADERS[row.op as usize] as *const u32;
        let fast = row.fast.map_or(std::ptr::null(), |h| h as *const ());
        let direct = row.sig.map_or(std::ptr::null(), |sig| sig.addr);
        let is_next = row.name == "next";
        let f = self.heap.new_native_func(id, self.globals, pc, upvals);
        if let Some(n) = f.as_native(&self.heap) {
            let n = n.get_mut(&mut self.heap);
            n.fast = fast;
            n.direct = direct;
        }
        if is_next && self.next_func.is_nil() {
            self.next_func = Value::obj(f);
        }
        f
    }

    /// Adds functions to a table, each under the last part of its name.
    pub fn register(&mut self, table: Gc<Table>, rows: &[NativeRow]) {
        for row in rows {
            let f = self.new_native(*row, &[]);
            let key = self.heap.str_intern(row.field().as_bytes());
            // A string key cannot be refused, and a library table does not reach any limit.
            let _ = table.sets(&mut self.heap, key, Value::obj(f));
        }
    }
}
