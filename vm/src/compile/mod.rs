//! Syntax tree to prototypes. Heap-free: functions are handed over to whoever keeps them ([`Build`]). One pass over the tree, with
//! expressions kept in descriptions until the place of their value is known.
//!
//! Every instruction gets the line of the last token before the point where a one-pass compiler
//! would have made it: [`Compiler::place`] follows the tokens.

mod call;
mod def;
mod emit;
mod expr;
mod fold;
mod jump;
mod operators;
mod regs;
mod scope;
mod stat;
mod table;

use crate::bytecode::build::{Build, Made, Parts, Text};
use crate::bytecode::instr::Instr;
use crate::bytecode::names::{self, Local};
use crate::bytecode::ops::Op;
use crate::bytecode::protodef::{KGc, ProtoDef, UV_IMMUTABLE, UV_LOCAL, protoflags};
use crate::syntax::SyntaxOptions;
use crate::syntax::ast::*;
use crate::syntax::error::SyntaxError;
use crate::syntax::hash::{FastMap, Seed};
use crate::syntax::parser::{self, Parsing};

use jump::JumpList;
use scope::{Captured, Scope, VarId, Variable};

/// How to compile.
pub type CompileOptions = SyntaxOptions;

type Result<T> = std::result::Result<T, Box<SyntaxError>>;

/// Number of an instruction in its function.
type Pc = u32;
/// A register.
type Reg = u32;

/// Compiles a chunk. A byte order mark is skipped; see [`crate::syntax::skip_file_prelude`] for `#`.
pub fn compile(
    source: &[u8],
    chunkname: &[u8],
    options: CompileOptions,
) -> std::result::Result<Box<ProtoDef>, Box<SyntaxError>> {
    let mut build = def::DefBuild::new(chunkname);
    let f = Workspace::default().compile(source, chunkname, options, &mut build)?;
    Ok(build.take(f))
}

/// So many nodes are parsed before they are compiled: what is written last is still in the cache then.
const BATCH_NODES: usize = 2048;
/// A workspace keeps no more than this between two chunks.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// States of functions that were longer than this are not kept.
const KEPT_CODE_MAX: usize = 4096;
/// So many states of functions are kept.
const KEPT_STATES_MAX: usize = 16;

/// The compiler's memory from one chunk to the next: fresh pages cost more than what is written to them.
#[derive(Default)]
pub struct Workspace {
    /// An empty tree.
    pools: Ast,
    spare: Vec<FuncState>,
    vars: Vec<Variable>,
    texts: Vec<Option<Text>>,
    scratch: Scratch,
    used: bool,
}

impl Workspace {
    /// Compiles a chunk; its functions go to `build`, the result is the outermost. See [`compile`].
    ///
    /// # Errors
    /// The first syntax error of the chunk. Functions before it were handed over already.
    pub fn compile(
        &mut self,
        source: &[u8],
        chunkname: &[u8],
        options: CompileOptions,
        build: &mut dyn Build,
    ) -> std::result::Result<Made, Box<SyntaxError>> {
        self.used = true;
        let mut tree = std::mem::take(&mut self.pools);
        let names = HiddenNames::intern(&mut tree.strings);
        let mut parsing = Parsing::start(source, chunkname, options, tree)?;
        let mut compiler = Compiler {
            ast: Ast::default(),
            source,
            chunkname,
            texts: std::mem::take(&mut self.texts),
            scratch: std::mem::take(&mut self.scratch),
            build,
            options,
            names,
            fs: FuncState::new(),
            outer: Vec::new(),
            spare: std::mem::take(&mut self.spare),
            vars: std::mem::take(&mut self.vars),
            any_const: false,
            entries: 0,
            place: 0,
            spine: Vec::new(),
            seed: Seed::default(),
        };
        let compiled = compiler.main(&mut parsing);
        (self.spare, self.vars) = (compiler.spare, compiler.vars);
        (self.texts, self.scratch) = (compiler.texts, compiler.scratch);
        self.pools = compiler.ast;
        self.clear();
        compiled
    }

    /// Forgets the chunk; what is kept is not large.
    fn clear(&mut self) {
        self.pools.clear();
        self.vars.clear();
        self.texts.clear();
        self.spare.retain(|fs| fs.code.capacity() <= KEPT_CODE_MAX);
        self.spare.truncate(KEPT_STATES_MAX);
        let lists = self.vars.capacity() * std::mem::size_of::<Variable>()
            + self.texts.capacity() * std::mem::size_of::<Option<Text>>()
            + self.scratch.names.capacity();
        if self.pools.capacity_bytes() + lists > KEPT_BYTES_MAX {
            *self = Workspace { used: true, ..Workspace::default() };
        }
    }

    /// Gives the memory back unless a chunk was compiled since the last call.
    pub fn release_unused(&mut self) {
        if !std::mem::take(&mut self.used) {
            *self = Workspace::default();
        }
    }
}

/// Names the compiler itself gives to variables.
struct HiddenNames {
    this: StrId,
    for_num: [StrId; 3],
    for_in: [StrId; 3],
    pairs: StrId,
    next: StrId,
}

impl HiddenNames {
    fn intern(pool: &mut StrPool) -> HiddenNames {
        HiddenNames {
            this: pool.intern(b"self"),
            for_num: [b"(for index)", b"(for limit)", b"(for step) "]
                .map(|n| pool.intern(n.trim_ascii_end())),
            for_in: [&b"(for generator)"[..], b"(for state)", b"(for control)"].map(|n| pool.intern(n)),
            pairs: pool.intern(b"pairs"),
            next: pool.intern(b"next"),
        }
    }
}

/// State of the function being compiled.
struct FuncState {
    code: Vec<Instr>,
    lines: Vec<u32>,
    /// Jumps to the next instruction to be emitted.
    pending: JumpList,
    links: Vec<jump::Link>,
    /// No instruction before this one may be merged with: something jumps here.
    last_target: Pc,
    /// First free register.
    free: Reg,
    framesize: u32,
    /// Registers below are active locals.
    nactive: u32,
    /// The variable in each register, then those declared but not yet active.
    slots: Vec<VarId>,
    /// All its locals in order of declaration.
    declared: Vec<VarId>,
    scopes: Vec<Scope>,
    /// Jumps that wait for their label, outermost scope first.
    gotos: Vec<scope::Goto>,
    /// How many of them wait for each name.
    waiting: FastMap<scope::LabelName, u32>,
    /// Written labels by depth of their scope.
    labels: FastMap<(usize, scope::LabelName), scope::Label>,
    /// Their names, outermost scope first.
    label_names: Vec<scope::LabelName>,
    knum: Vec<f64>,
    knum_index: FastMap<u64, u32>,
    kgc: Vec<KGc<Text, Made>>,
    kstr_index: FastMap<StrId, u32>,
    upvals: Vec<Captured>,
    /// The children's captures, one after the other, to be described once it is known which locals are assigned.
    child_upvals: Vec<Captured>,
    /// The children that have any, and how many.
    children: Vec<(Made, usize)>,
    numparams: u8,
    flags: u8,
    has_return: bool,
    /// A `return` came before the first closure: it gets its `UCLO` at the end.
    fixup_return: bool,
    /// What follows is unknown: labels may be missing.
    truncated: bool,
    firstline: u32,
}

impl FuncState {
    fn new() -> FuncState {
        FuncState {
            code: Vec::new(),
            lines: Vec::new(),
            pending: JumpList::NONE,
            links: Vec::new(),
            last_target: 0,
            free: 0,
            framesize: 1,
            nactive: 0,
            slots: Vec::new(),
            declared: Vec::new(),
            scopes: Vec::new(),
            gotos: Vec::new(),
            waiting: FastMap::default(),
            labels: FastMap::default(),
            label_names: Vec::new(),
            knum: Vec::new(),
            knum_index: FastMap::default(),
            kgc: Vec::new(),
            kstr_index: FastMap::default(),
            upvals: Vec::new(),
            child_upvals: Vec::new(),
            children: Vec::new(),
            numparams: 0,
            flags: 0,
            has_return: false,
            fixup_return: false,
            truncated: false,
            firstline: 0,
        }
    }

    /// As new for another function, with the memory of its lists.
    fn reset(&mut self, func: &Func) {
        self.code.clear();
        self.lines.clear();
        self.pending = JumpList::NONE;
        self.links.clear();
        self.last_target = 0;
        self.free = 0;
        self.framesize = 1;
        self.nactive = 0;
        self.slots.clear();
        self.declared.clear();
        self.scopes.clear();
        self.gotos.clear();
        self.waiting.clear();
        self.labels.clear();
        self.label_names.clear();
        self.knum.clear();
        self.knum_index.clear();
        self.kgc.clear();
        self.kstr_index.clear();
        self.upvals.clear();
        self.child_upvals.clear();
        self.children.clear();
        self.numparams = 0;
        self.flags = if func.is_vararg { protoflags::VARARG } else { 0 };
        self.has_return = false;
        self.fixup_return = false;
        self.truncated = func.truncated;
        self.firstline = func.line;
    }
}

/// Room for what is put together when a function is complete.
#[derive(Default)]
struct Scratch {
    names: Vec<u8>,
    descriptions: Vec<u16>,
}

/// The compiler of one chunk.
struct Compiler<'a> {
    /// The statements at hand.
    ast: Ast,
    source: &'a [u8],
    chunkname: &'a [u8],
    /// The chunk's strings as they were handed over, by [`StrId`].
    texts: Vec<Option<Text>>,
    scratch: Scratch,
    build: &'a mut dyn Build,
    options: SyntaxOptions,
    names: HiddenNames,
    /// The innermost function.
    fs: FuncState,
    /// The functions around it, outermost first.
    outer: Vec<FuncState>,
    /// States of finished functions, to be used again.
    spare: Vec<FuncState>,
    /// Variables of all functions.
    vars: Vec<Variable>,
    /// Some variable was declared by `const`.
    any_const: bool,
    /// Variables, labels and gotos of the functions being compiled.
    entries: usize,
    /// The last token consumed so far.
    place: Tok,
    /// Pending left-associative operations.
    spine: Vec<ExprId>,
    seed: Seed,
}

impl Compiler<'_> {
    fn main(&mut self, parsing: &mut Parsing) -> Result<Made> {
        self.fs.flags = protoflags::VARARG;
        self.scope_begin(scope::PLAIN);
        self.emit(Instr::ad(Op::FUNCV, 0, 0))?;
        self.fs.lines[0] = 1;
        loop {
            let batch = parsing.next(BATCH_NODES)?;
            self.ast = parsing.lend();
            self.fs.truncated = batch.failed.is_some();
            let compiled = self.block_body(batch.stats).and_then(|()| match batch.end {
                Some(end) => self.finish(self.ast.line(end)).map(Some),
                None => Ok(None),
            });
            // An error of the compiler before the place where the parser stopped is the first one. Labels that are
            // missing there may be missing because it stopped.
            match (compiled, batch.failed) {
                (Err(e), Some(failed)) => return Err(if e.truncated { failed } else { e }),
                (_, Some(failed)) => return Err(failed),
                (Err(e), None) => return Err(e),
                (Ok(Some(f)), None) => return Ok(f),
                (Ok(None), None) => parsing.give_back(std::mem::take(&mut self.ast)),
            }
        }
    }

    /// Compiles a nested function; the result is in its parent's constants. Leaves `place` at its
    /// last token and returns the index of the constant.
    fn nested(&mut self, id: FuncId) -> Result<u32> {
        let func = self.ast.func(id);
        let entries = self.entries;
        let first_var = self.vars.len();
        let mut fs = self.spare.pop().unwrap_or_else(FuncState::new);
        fs.reset(&func);
        let parent = std::mem::replace(&mut self.fs, fs);
        self.outer.push(parent);
        self.scope_begin(scope::PLAIN);
        let mut nparams = 0;
        if func.is_method {
            self.declare(0, self.names.this, false)?;
            nparams = 1;
        }
        // The names, with a comma between; `...` and the closing token follow.
        let names = func.params.len + func.is_vararg as u32;
        self.place = func.head_end.saturating_sub((2 * names).saturating_sub(1));
        for i in func.params.range() {
            self.declare(nparams, self.ast.name_lists[i], false)?;
            nparams += 1;
            self.place += 2;
        }
        self.place = func.head_end;
        self.fs.numparams = nparams as u8;
        self.activate(nparams);
        self.reserve(nparams)?;
        self.emit(Instr::ad(Op::FUNCF, 0, 0))?;
        self.block_body(func.body)?;
        self.place = func.end;
        let made = self.finish(self.ast.line(func.end))?;
        let parent = self.outer.pop().expect("pushed above");
        let child = std::mem::replace(&mut self.fs, parent);
        if !child.upvals.is_empty() {
            self.fs.child_upvals.extend_from_slice(&child.upvals);
            self.fs.children.push((made, child.upvals.len()));
        }
        self.fs.flags |= child.flags & protoflags::FFI;
        self.spare.push(child);
        // Nothing names its variables any more: what was captured is older.
        self.vars.truncate(first_var);
        self.entries = entries;
        let index = self.add_kgc(KGc::Proto(made))?;
        if self.fs.flags & protoflags::CHILD == 0 {
            self.fs.fixup_return |= self.fs.has_return;
            self.fs.flags |= protoflags::CHILD;
        }
        Ok(index)
    }

    /// Ends the innermost function and hands it over.
    fn finish(&mut self, lastline: u32) -> Result<Made> {
        self.final_return()?;
        let fs = &mut self.fs;
        let vararg = fs.flags & protoflags::VARARG != 0;
        let header = if vararg { Op::FUNCV } else { Op::FUNCF };
        fs.code[0] = Instr::ad(header, fs.framesize, 0);
        if fs.code.iter().any(|i| i.op_byte() == Op::UCLO as u8) {
            fs.flags |= protoflags::UCLO;
        }
        let mut from = fs.child_upvals.as_slice();
        for &(child, n) in &fs.children {
            let (captured, rest) = from.split_at(n);
            from = rest;
            self.scratch.descriptions.clear();
            self.scratch.descriptions.extend(captured.iter().map(|c| match c.from {
                scope::From::Upvalue(index) => index as u16,
                scope::From::Local(var) => {
                    let v = &self.vars[var.0 as usize];
                    v.slot as u16 | UV_LOCAL | if v.assigned { 0 } else { UV_IMMUTABLE }
                }
            }));
            self.build.describe_upvalues(child, &self.scratch.descriptions);
        }
        let strings = &self.ast.strings;
        let out = &mut self.scratch.names;
        out.clear();
        for c in &fs.upvals {
            names::put_upvalue(out, strings.get(self.vars[c.var.0 as usize].name));
        }
        for v in &fs.declared {
            let v = &self.vars[v.0 as usize];
            let (startpc, endpc) = (v.startpc, v.endpc);
            names::put_local(out, Local { name: strings.get(v.name), startpc, endpc, slot: v.slot });
        }
        Ok(self.build.function(Parts {
            code: &fs.code,
            lines: &fs.lines,
            knum: &fs.knum,
            kgc: &fs.kgc,
            nupvals: fs.upvals.len() as u8,
            numparams: fs.numparams,
            framesize: fs.framesize as u8,
            flags: fs.flags,
            firstline: fs.firstline,
            lastline,
            names: out,
        }))
    }

    /// A string as it was handed over.
    fn text(&mut self, id: StrId) -> Text {
        let i = id.0 as usize;
        if i >= self.texts.len() {
            self.texts.resize(i + 1, None);
        }
        *self.texts[i].get_or_insert_with(|| self.build.text(self.ast.strings.get(id)))
    }

    /// Emits the final return and gives early returns their `UCLO`.
    fn final_return(&mut self) -> Result<()> {
        let end = self.pc();
        let falls_through = end <= self.fs.last_target || !is_return(self.fs.code[end as usize - 1].op());
        if falls_through {
            if self.fs.scopes[0].flags & scope::UPVAL != 0 {
                self.emit(Instr::aj(Op::UCLO, 0, 0))?;
            }
            self.emit(Instr::ad(Op::RET0, 0, 1))?;
        }
        self.fs.scopes[0].flags |= scope::NOCLOSE;
        self.scope_end()?;
        if self.fs.fixup_return {
            for pc in 1..end {
                let ins = self.fs.code[pc as usize];
                let op = ins.op();
                if is_return(op) {
                    // Move it to the end; in its place close upvalues and jump there.
                    let moved = self.emit(ins)?;
                    self.fs.lines[moved as usize] = self.fs.lines[pc as usize];
                    let delta = moved as i64 - (pc as i64 + 1);
                    if delta >= 0x8000 {
                        return Err(self.error_near("function too long for return fixup"));
                    }
                    self.fs.code[pc as usize] = Instr::aj(Op::UCLO, 0, delta as i32);
                } else if op == Op::FNEW {
                    break;
                }
            }
        }
        Ok(())
    }

    /// An error at the token after [`Self::place`], naming it.
    fn error_near(&self, text: &str) -> Box<SyntaxError> {
        let tok = self.place + 1;
        let near = parser::show_token(self.source, self.options, tok);
        SyntaxError::new(self.chunkname, self.ast.line(tok), text.as_bytes(), Some(&near))
    }

    /// An error on a line, naming no token.
    fn error_on(&self, line: u32, text: &[u8]) -> Box<SyntaxError> {
        SyntaxError::new(self.chunkname, line, text, None)
    }

    /// Checks that `value` is below `limit`.
    #[inline(always)]
    fn check_limit(&self, value: usize, limit: usize, what: &str) -> Result<()> {
        if value < limit { Ok(()) } else { Err(self.beyond_limit(limit, what)) }
    }

    #[cold]
    fn beyond_limit(&self, limit: usize, what: &str) -> Box<SyntaxError> {
        let text = match self.fs.firstline {
            0 => format!("main function has more than {limit} {what}"),
            line => format!("function at line {line} has more than {limit} {what}"),
        };
        self.error_on(self.ast.line(self.place + 1), text.as_bytes())
    }
}

/// Whether the op leaves the function.
fn is_return(op: Op) -> bool {
    matches!(op, Op::CALLMT | Op::CALLT | Op::RETM | Op::RET | Op::RET0 | Op::RET1)
}

#[cfg(test)]
mod tests;
