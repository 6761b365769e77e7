//! Chunks become functions: source or bytecode in, a closure over a fresh prototype out.

use crate::bytecode::disasm;
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::{Mode, Op};
use crate::cell::gc_ref::Gc;
use crate::chunk::dump::{self, DumpOptions};
use crate::chunk::undump::{self, UndumpError};
use crate::compile::compile;
use crate::function::closure::Func;
use crate::function::proto::{HeapBuild, Proto};
use crate::index::TraceNo;
use crate::state::Vm;
use crate::syntax::{SyntaxOptions, skip_file_prelude};
use crate::table::Table;
use crate::value::Value;

/// First byte of bytecode.
const BYTECODE_ESCAPE: u8 = 0x1b;

impl Vm {
    /// A function made of a chunk. `mode` allows text with `t` and bytecode with `b`; `env` is the chunk's
    /// environment (the globals when `None`). The error is the whole message.
    ///
    /// Errors: LuaJIT's syntax errors; `attempt to load chunk with wrong mode`; `cannot load ... bytecode`.
    /// Runs no Lua code and collects nothing, unless something is attached to the event `bc`.
    pub fn load(
        &mut self,
        code: &[u8],
        name: &[u8],
        mode: &[u8],
        env: Option<Gc<Table>>,
    ) -> Result<Gc<Func>, Vec<u8>> {
        let proto = self.load_proto(code, name, mode)?;
        let nupvals = proto.get(&self.heap).nupvals;
        let env = env.unwrap_or(self.globals);
        // Bytecode may be that of a function with upvalues: they start as nil.
        let upvals: Vec<_> = (0..nupvals).map(|_| self.heap.new_upval_closed(Value::NIL)).collect();
        let f = self.heap.new_lua_func(proto, env, &upvals);
        if let Some(tell) = self.on_load {
            tell(self, f);
        }
        Ok(f)
    }

    /// The bytecode of a Lua function (`string.dump`); `None` for a native one.
    pub fn dump_function(&self, f: Gc<Func>, options: DumpOptions) -> Option<Vec<u8>> {
        let proto = f.as_lua(&self.heap)?.get(&self.heap).proto;
        let original = |_, word: u32| {
            let op = Op::from_u8(word as u8);
            if op.is_none_or(|op| op.info().cd != Mode::Trace) {
                return word;
            }
            let trace = TraceNo::new(Instr(word).d());
            self.traces.get(trace).map_or(word, |t| t.start_ins)
        };
        Some(dump::dump(&proto.to_def(&self.heap, &original), options))
    }

    /// The language this VM accepts.
    pub fn syntax_options(&self) -> SyntaxOptions {
        SyntaxOptions { compat52: self.compat52, ..SyntaxOptions::default() }
    }

    fn load_proto(&mut self, code: &[u8], name: &[u8], mode: &[u8]) -> Result<Gc<Proto>, Vec<u8>> {
        refuse_hidden_bytecode(code)?;
        let wanted = if is_bytecode(code) { b'b' } else { b't' };
        if !mode.contains(&wanted) {
            return Err(b"attempt to load chunk with wrong mode".to_vec());
        }
        if mode.contains(&b'W') {
            return Err(match is_bytecode(code) {
                true => UndumpError::Incompatible.message(name),
                false => b"mode 'W': there is no 32-bit form of this bytecode".to_vec(),
            });
        }
        if is_bytecode(code) {
            let def = undump::undump(code, name).map_err(|e| e.message(name))?;
            return Ok(self.heap.new_proto(&def));
        }
        let options = self.syntax_options();
        let mut build = HeapBuild::new(&mut self.heap, name);
        let made = self.workspace.compile(code, name, options, &mut build).map_err(|e| e.message)?;
        Ok(build.take(made))
    }

    /// The listing of a chunk's bytecode, as `-bl` prints it.
    pub fn list_bytecode(&mut self, code: &[u8], name: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
        refuse_hidden_bytecode(code)?;
        let def = if is_bytecode(code) {
            undump::undump(code, name).map_err(|e| e.message(name))?
        } else {
            compile(code, name, self.syntax_options()).map_err(|e| e.message)?
        };
        let mut out = Vec::new();
        disasm::list(&def, &mut out);
        Ok(out)
    }
}

/// Bytecode behind a byte order mark or a first line with `#` is none: who looks at the first byte to keep bytecode out
/// must not be deceived. The message does not echo the name either.
fn refuse_hidden_bytecode(code: &[u8]) -> Result<(), Vec<u8>> {
    let marked = code.strip_prefix(b"\xef\xbb\xbf").unwrap_or(code);
    let body = match (skip_file_prelude(code), marked.first()) {
        ([b'\n', b'\r', rest @ ..] | [b'\r', b'\n', rest @ ..] | [b'\n' | b'\r', rest @ ..], Some(b'#')) => {
            rest
        }
        (body, _) => body,
    };
    if body.len() < code.len() && is_bytecode(body) {
        return Err(b"cannot load malformed bytecode".to_vec());
    }
    Ok(())
}

fn is_bytecode(code: &[u8]) -> bool {
    code.first() == Some(&BYTECODE_ESCAPE)
}
