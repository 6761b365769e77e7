//! IR to Cranelift. One function per trace, `(vm, base, code) -> exit` in the `tail` convention. Knows no
//! bytecode; names only object fields (`mem`) and helpers.
//!
//! Guards read `brif(fails, exit, continue)`: in the other order Cranelift sinks invariants into the loop.
//! There is one exit block per snapshot, shared by its guards.

mod alu;
mod call;
mod cdata;
mod conv;
mod guard;
pub mod helpers;
mod mem;

use crate::abort::Abort;
use crate::ir::ops::IrOp;
use crate::ir::refs::{Ref, SnapNo};
use crate::ir::ty::Ty;
use crate::trace::Trace;
use crate::trace::link::Link;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, Function, InstBuilder, MemFlagsData, SigRef, Signature, Type, UserFuncName,
    Value, ValueLabel, types,
};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, LabelValueLoc, ir::condcodes::IntCC};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use std::collections::HashMap;

/// Addresses of one VM and numbers of one trace that the code needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Env {
    /// Number of the trace.
    pub trace_no: u32,
    /// The exit buffer.
    pub exit_buffer: u64,
    /// The trace's exit cells.
    pub exit_cells: u64,
    /// Where the interrupt word is in the VM (32 bits, not zero when the VM wants attention).
    pub flags_word: i32,
    /// Where the heap's word is in the VM that is not zero when a collector step is due (32 bits).
    pub gc_due: i32,
    /// Where the current coroutine's stack limit is in the VM (a pointer).
    pub stack_limit: i32,
    /// The node of every empty hash part.
    pub nil_node: u64,
    /// The heap, for helpers.
    pub heap: u64,
    /// `-O-fuse`: each address and each loaded value is computed by an instruction of its own.
    pub apart: bool,
    /// `-O+fma`: sums of products may be rounded once.
    pub fma: bool,
}

/// The code generator: reused between traces.
pub struct Compiler {
    isa: OwnedTargetIsa,
    has_fma: bool,
    ctx: Context,
    fctx: FunctionBuilderContext,
    plane: ControlPlane,
    verify: bool,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compiler")
    }
}

/// A register of the machine, by its number among its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// Of integers and addresses.
    General(u8),
    /// Of floating point numbers.
    Float(u8),
}

/// The machine type of a value.
pub(crate) fn machine_type(t: Ty) -> Type {
    if t == Ty::Num {
        types::F64
    } else if t == Ty::Float {
        types::F32
    } else if t.is_int32() {
        types::I32
    } else {
        types::I64
    }
}

impl Compiler {
    /// A code generator for this machine. `verify` turns on Cranelift's verifier.
    pub fn new(verify: bool) -> Result<Compiler, Abort> {
        let mut b = settings::builder();
        let options = [
            ("opt_level", "none"),
            ("regalloc_algorithm", "backtracking"),
            ("enable_verifier", if verify { "true" } else { "false" }),
            ("unwind_info", "false"),
            ("enable_probestack", "false"),
            ("preserve_frame_pointers", "true"),
            ("is_pic", "false"),
        ];
        for (k, v) in options {
            b.set(k, v).map_err(|_| Abort::CodeGeneration)?;
        }
        let isa = cranelift_native::builder()
            .map_err(|_| Abort::CodeGeneration)?
            .finish(settings::Flags::new(b))
            .map_err(|_| Abort::CodeGeneration)?;
        // Other machines have the instruction always; without it Cranelift would call a library.
        let has_fma =
            isa.isa_flags().iter().find(|f| f.name == "has_fma").is_none_or(|f| f.as_bool() == Some(true));
        Ok(Compiler {
            isa,
            has_fma,
            ctx: Context::new(),
            fctx: FunctionBuilderContext::new(),
            plane: ControlPlane::default(),
            verify,
        })
    }

    /// Does it verify its input?
    pub fn verifies(&self) -> bool {
        self.verify
    }

    fn finish(&mut self) -> Result<Vec<u8>, Abort> {
        let code = match self.ctx.compile(&*self.isa, &mut self.plane) {
            Ok(c) if c.buffer.relocs().is_empty() => Ok(c.code_buffer().to_vec()),
            Ok(_) => Err(Abort::CodeGeneration),
            Err(e) => {
                debug_assert!(
                    !self.verify,
                    "Cranelift refused a trace: {:?}\n{}",
                    e.inner,
                    self.ctx.func.display()
                );
                Err(Abort::CodeGeneration)
            }
        };
        self.ctx.clear();
        code
    }

    /// Compiles a trace to machine code.
    pub fn compile(&mut self, t: &Trace, env: &Env) -> Result<Vec<u8>, Abort> {
        self.ctx.clear();
        self.ctx.func = Function::with_name_signature(UserFuncName::user(0, 0), trace_signature());
        let env = &Env { fma: env.fma && self.has_fma, ..*env };
        build(&mut self.ctx.func, &mut self.fctx, t, env).map(|b| b.finalize(self.isa.frontend_config()))?;
        self.finish()
    }

    /// Where the code of a trace has the results of its instructions, by index: the first register, or that in the loop for a
    /// loop-carried one. Nothing for what is on the stack, a part of another instruction, or dead.
    pub fn registers(&mut self, t: &Trace, env: &Env) -> Result<Vec<Option<Register>>, Abort> {
        self.ctx.clear();
        self.ctx.func = Function::with_name_signature(UserFuncName::user(0, 0), trace_signature());
        // Labels add nothing to the code.
        self.ctx.func.dfg.collect_debug_info();
        let env = &Env { fma: env.fma && self.has_fma, ..*env };
        build(&mut self.ctx.func, &mut self.fctx, t, env).map(|b| b.finalize(self.isa.frontend_config()))?;
        let code = self.ctx.compile(&*self.isa, &mut self.plane).map_err(|_| Abort::CodeGeneration)?;
        let mut out = vec![None; t.ir.len()];
        for (label, ranges) in &code.value_labels_ranges {
            let n = label.as_u32() as usize;
            let (Some(slot), Some(first)) = (out.get_mut(n), ranges.iter().min_by_key(|r| r.start)) else {
                continue;
            };
            let last = ranges.iter().max_by_key(|r| r.start).unwrap_or(first);
            let range = if t.ir.ins(Ref::ins(n)).t.is_phi() { last } else { first };
            *slot = match range.loc {
                LabelValueLoc::Reg(r) => r.to_real_reg().map(|r| match r.class() as u8 {
                    0 => Register::General(r.hw_enc()),
                    _ => Register::Float(r.hw_enc()),
                }),
                LabelValueLoc::CFAOffset(_) => None,
            };
        }
        self.ctx.clear();
        Ok(out)
    }

    /// CLIF text of a trace (`--dump=clif`).
    pub fn clif(&mut self, t: &Trace, env: &Env) -> Result<String, Abort> {
        self.ctx.clear();
        self.ctx.func = Function::with_name_signature(UserFuncName::user(0, 0), trace_signature());
        let env = &Env { fma: env.fma && self.has_fma, ..*env };
        build(&mut self.ctx.func, &mut self.fctx, t, env).map(|b| b.finalize(self.isa.frontend_config()))?;
        let s = self.ctx.func.display().to_string();
        self.ctx.clear();
        Ok(s)
    }

    /// The shared stubs.
    pub fn stubs(&mut self) -> Result<crate::code::link::StubCode, Abort> {
        // enter(vm, base, target), platform convention: calls the trace.
        self.ctx.clear();
        let mut sig = trace_signature();
        sig.call_conv = self.isa.default_call_conv();
        self.ctx.func = Function::with_name_signature(UserFuncName::user(0, 1), sig);
        let mut b = FunctionBuilder::new(&mut self.ctx.func, &mut self.fctx);
        let blk = b.create_block();
        b.append_block_params_for_function_params(blk);
        b.switch_to_block(blk);
        let p = b.block_params(blk).to_vec();
        let sig = b.import_signature(trace_signature());
        let call = b.ins().call_indirect(sig, p[2], &[p[0], p[1], p[2]]);
        let r = b.inst_results(call)[0];
        b.ins().return_(&[r]);
        b.seal_all_blocks();
        b.finalize(self.isa.frontend_config());
        let enter = self.finish()?;
        // leave(vm, base, code): returns the code.
        self.ctx.func = Function::with_name_signature(UserFuncName::user(0, 2), trace_signature());
        let mut b = FunctionBuilder::new(&mut self.ctx.func, &mut self.fctx);
        let blk = b.create_block();
        b.append_block_params_for_function_params(blk);
        b.switch_to_block(blk);
        let code = b.block_params(blk)[2];
        b.ins().return_(&[code]);
        b.seal_all_blocks();
        b.finalize(self.isa.frontend_config());
        let leave = self.finish()?;
        Ok(crate::code::link::StubCode { enter, leave })
    }
}

fn trace_signature() -> Signature {
    let mut s = Signature::new(CallConv::Tail);
    for _ in 0..3 {
        s.params.push(AbiParam::new(types::I64));
    }
    s.returns.push(AbiParam::new(types::I64));
    s
}

struct Exit {
    block: Block,
    base: Value,
    values: Vec<Value>,
}

/// State of lowering one trace.
pub(crate) struct Lower<'a, 'f> {
    pub(crate) b: FunctionBuilder<'f>,
    pub(crate) t: &'a Trace,
    pub(crate) env: &'a Env,
    pub(crate) vm: Value,
    pub(crate) base: Value,
    map: Vec<Option<Value>>,
    /// Indices that are loaded or come from the round before, in 64 bits.
    wide: Vec<Option<Value>>,
    /// Upper halves of numbers, from their type checks.
    high: Vec<Option<Value>>,
    /// That of the number loaded last.
    last_high: Option<Value>,
    exits: Vec<Option<Exit>>,
    snap: SnapNo,
    tail_sig: SigRef,
    pub(crate) sigs: HashMap<u16, SigRef>,
}

fn build<'f>(
    func: &'f mut Function,
    fctx: &'f mut FunctionBuilderContext,
    t: &Trace,
    env: &Env,
) -> Result<FunctionBuilder<'f>, Abort> {
    let mut b = FunctionBuilder::new(func, fctx);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let tail_sig = b.import_signature(trace_signature());
    let (vm, base) = (b.block_params(entry)[0], b.block_params(entry)[1]);
    let mut l = Lower {
        b,
        t,
        env,
        vm,
        base,
        map: vec![None; t.ir.len()],
        wide: vec![None; t.ir.len()],
        high: vec![None; t.ir.len()],
        last_high: None,
        exits: t.snaps.iter().map(|_| None).collect(),
        snap: SnapNo::new(0),
        tail_sig,
        sigs: HashMap::new(),
    };
    let res = l.body();
    if res.is_err() {
        // An unfinished function cannot be finalised: end it so that the contexts can be reused.
        let blk = l.b.create_block();
        l.b.switch_to_block(blk);
    }
    res?;
    l.b.seal_all_blocks();
    Ok(l.b)
}

impl Lower<'_, '_> {
    fn body(&mut self) -> Result<(), Abort> {
        let mut loop_block = None;
        let phis: Vec<(Ref, Ref)> = self
            .t
            .ir
            .refs()
            .filter(|&r| self.t.ir.ins(r).op == IrOp::PHI)
            .map(|r| (self.t.ir.ins(r).ra(), self.t.ir.ins(r).rb()))
            .collect();
        let mut next_snap = 0;
        for r in self.t.ir.refs().skip(1) {
            while next_snap < self.t.snaps.len() && self.t.snaps[next_snap].at <= r {
                self.snap = SnapNo::new(next_snap);
                next_snap += 1;
            }
            match self.t.ir.ins(r).op {
                IrOp::NOP | IrOp::PHI => {}
                IrOp::LOOP => {
                    let blk = self.b.create_block();
                    let args: Vec<BlockArg> = phis.iter().map(|p| self.get(p.0).into()).collect();
                    self.b.ins().jump(blk, &args);
                    for p in &phis {
                        let v = self.b.append_block_param(blk, machine_type(self.t.ir.ty(p.0)));
                        self.set(p.0, v);
                        self.wide[p.0.ins_index()] = None;
                        self.high[p.0.ins_index()] = None;
                    }
                    self.b.switch_to_block(blk);
                    loop_block = Some(blk);
                }
                _ => self.ins(r)?,
            }
        }
        while next_snap < self.t.snaps.len() {
            self.snap = SnapNo::new(next_snap);
            next_snap += 1;
        }
        match (loop_block, self.t.link) {
            (Some(blk), _) => {
                let args: Vec<BlockArg> = phis.iter().map(|p| self.get(p.1).into()).collect();
                self.b.ins().jump(blk, &args);
            }
            (None, Link::Root(_)) => self.link_root(),
            (None, Link::None | Link::Loop | Link::Interp) => {
                let exit = self.exit_block();
                self.b.ins().jump(exit, &[]);
            }
        }
        self.emit_exits();
        Ok(())
    }

    /// Sets the machine value of an instruction.
    pub(crate) fn set(&mut self, r: Ref, v: Value) {
        self.map[r.ins_index()] = Some(v);
        self.b.set_val_label(v, ValueLabel::from_u32(r.ins_index() as u32));
    }

    /// A value as instruction selection shall see it: without its definition when nothing may be merged into its users.
    pub(crate) fn apart(&mut self, v: Value) -> Value {
        if !self.env.apart {
            return v;
        }
        let next = self.b.create_block();
        let p = self.b.append_block_param(next, self.b.func.dfg.value_type(v));
        self.b.ins().jump(next, &[v.into()]);
        self.b.switch_to_block(next);
        p
    }

    /// The machine value of an operand; constants are made where they are used.
    pub(crate) fn get(&mut self, r: Ref) -> Value {
        if r == Ref::BASE {
            return self.base;
        }
        if r.is_ins() {
            return self.map[r.ins_index()]
                .expect("the verifier: operands are defined before use and have values");
        }
        let k = self.t.ir.k(r);
        match machine_type(k.ty) {
            types::F64 => self.b.ins().f64const(f64::from_bits(k.bits)),
            types::I32 => self.b.ins().iconst(types::I32, k.bits as u32 as i64),
            _ => self.b.ins().iconst(types::I64, k.bits as i64),
        }
    }

    /// A 64-bit constant.
    pub(crate) fn k64(&mut self, n: u64) -> Value {
        self.b.ins().iconst(types::I64, n as i64)
    }

    /// A 32-bit constant.
    pub(crate) fn k32(&mut self, n: u32) -> Value {
        self.b.ins().iconst(types::I32, n as i64)
    }

    /// The boxed form of a value.
    pub(crate) fn boxed(&mut self, r: Ref) -> Value {
        let ty = self.t.ir.ty(r);
        if r.is_const() && !ty.is_fp() && ty != Ty::Int {
            let bits = crate::trace::snapshot::box_const(self.t.ir.k(r));
            return self.k64(bits);
        }
        if ty.is_pri() {
            return self.k64(crate::trace::snapshot::box_bits(ty, 0));
        }
        let v = self.get(r);
        match ty {
            Ty::Num => self.b.ins().bitcast(types::I64, MemFlagsData::new(), v),
            Ty::Int => {
                let n = self.b.ins().fcvt_from_sint(types::F64, v);
                self.b.ins().bitcast(types::I64, MemFlagsData::new(), n)
            }
            t if t.is_gc() => {
                let tag = self.k64(crate::trace::snapshot::box_bits(t, 0));
                self.b.ins().bor(v, tag)
            }
            _ => v,
        }
    }

    /// Stores a value in boxed form; numbers go directly from their register.
    pub(crate) fn store_boxed(&mut self, r: Ref, addr: Value, offset: i32) {
        let v = match self.t.ir.ty(r) {
            Ty::Num => self.get(r),
            Ty::Int => {
                let v = self.get(r);
                self.b.ins().fcvt_from_sint(types::F64, v)
            }
            _ => self.boxed(r),
        };
        self.b.ins().store(MemFlagsData::trusted(), v, addr, offset);
    }

    /// The exit block of the current snapshot.
    pub(crate) fn exit_block(&mut self) -> Block {
        let s = self.snap;
        if let Some(e) = &self.exits[s.index()] {
            return e.block;
        }
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        let values = self.t.live_values(s).into_iter().map(|r| self.get(r)).collect();
        self.exits[s.index()] = Some(Exit { block, base: self.base, values });
        block
    }

    /// Leaves the trace when `fails` is not zero.
    pub(crate) fn guard(&mut self, fails: Value) {
        let exit = self.exit_block();
        let cont = self.b.create_block();
        self.b.ins().brif(fails, exit, &[], cont, &[]);
        self.b.switch_to_block(cont);
    }

    /// Leaves the trace when the comparison holds.
    pub(crate) fn guard_icmp(&mut self, cc: IntCC, a: Value, b: Value) {
        let f = self.b.ins().icmp(cc, a, b);
        self.guard(f);
    }

    fn emit_exits(&mut self) {
        for n in 0..self.exits.len() {
            let Some(e) = self.exits[n].take() else { continue };
            self.b.switch_to_block(e.block);
            let buf = self.k64(self.env.exit_buffer);
            for (i, v) in e.values.iter().enumerate() {
                self.b.ins().store(MemFlagsData::trusted(), *v, buf, i as i32 * 8);
            }
            let cell = self.k64(self.env.exit_cells + n as u64 * 8);
            let target = self.b.ins().load(types::I64, MemFlagsData::trusted(), cell, 0);
            let code = self.k64((self.env.trace_no as u64) << 32 | n as u64);
            self.b.ins().return_call_indirect(self.tail_sig, target, &[self.vm, e.base, code]);
        }
    }

    /// Writes the current snapshot to the stack.
    pub(crate) fn store_slots(&mut self) {
        let entries = self.t.entries(self.snap).to_vec();
        // All values are read before the first slot is written: they are in registers already.
        for e in entries.iter().filter(|e| !e.norestore) {
            let off = (e.slot as i32 - 2) * 8;
            if e.raw {
                let v = self.get(e.value);
                self.b.ins().store(MemFlagsData::trusted(), v, self.base, off);
            } else {
                self.store_boxed(e.value, self.base, off);
            }
        }
    }

    /// Writes the last snapshot to the stack and jumps to the linked trace.
    fn link_root(&mut self) {
        self.store_slots();
        let cell = self.k64(self.env.exit_cells + self.t.snaps.len() as u64 * 8);
        let target = self.b.ins().load(types::I64, MemFlagsData::trusted(), cell, 0);
        let base = if self.t.link_base == 0 { self.base } else { self.moved_base(self.t.link_base) };
        // Every exit number but the link's own restores values; here the stack is written already.
        let code = self.k64((self.env.trace_no as u64) << 32 | u32::MAX as u64);
        self.b.ins().return_call_indirect(self.tail_sig, target, &[self.vm, base, code]);
    }

    /// The base `slots` further up, published in the thread: exits from here on restore relative to it.
    pub(crate) fn moved_base(&mut self, slots: i32) -> Value {
        let d = self.k64((slots as i64 * 8) as u64);
        let base = self.b.ins().iadd(self.base, d);
        let f = MemFlagsData::trusted();
        let th = self.b.ins().load(types::I64, f, self.vm, moonlit_vm::layout::VM_CUR);
        self.b.ins().store(f, base, th, moonlit_vm::layout::THREAD_BASE);
        base
    }

    fn ins(&mut self, r: Ref) -> Result<(), Abort> {
        let i = *self.t.ir.ins(r);
        match i.op {
            IrOp::LT
            | IrOp::GE
            | IrOp::LE
            | IrOp::GT
            | IrOp::ULT
            | IrOp::UGE
            | IrOp::ULE
            | IrOp::UGT
            | IrOp::EQ
            | IrOp::NE
            | IrOp::ABC
            | IrOp::GCSTEP
            | IrOp::STACK
            | IrOp::POLL => self.lower_guard(&i),
            IrOp::BASE | IrOp::NOP | IrOp::LOOP | IrOp::USE | IrOp::PHI | IrOp::CARG => Ok(()),
            IrOp::PVAL => {
                let buf = self.k64(self.env.exit_buffer);
                let v = self.b.ins().load(machine_type(i.ty()), MemFlagsData::trusted(), buf, i.a as i32 * 8);
                self.set(r, v);
                Ok(())
            }
            IrOp::BNOT
            | IrOp::BSWAP
            | IrOp::BAND
            | IrOp::BOR
            | IrOp::BXOR
            | IrOp::BSHL
            | IrOp::BSHR
            | IrOp::BSAR
            | IrOp::BROL
            | IrOp::BROR
            | IrOp::ADD
            | IrOp::SUB
            | IrOp::MUL
            | IrOp::DIV
            | IrOp::MOD
            | IrOp::POW
            | IrOp::NEG
            | IrOp::ABS
            | IrOp::LDEXP
            | IrOp::MIN
            | IrOp::MAX
            | IrOp::FPMATH
            | IrOp::ADDOV
            | IrOp::SUBOV
            | IrOp::MULOV => self.lower_alu(r, &i),
            IrOp::AREF
            | IrOp::HREFK
            | IrOp::HREF
            | IrOp::NEWREF
            | IrOp::UREFO
            | IrOp::UREFC
            | IrOp::FREF
            | IrOp::STRREF
            | IrOp::ALOAD
            | IrOp::HLOAD
            | IrOp::ULOAD
            | IrOp::FLOAD
            | IrOp::XLOAD
            | IrOp::SLOAD
            | IrOp::VLOAD
            | IrOp::NLOAD
            | IrOp::ALEN
            | IrOp::ASTORE
            | IrOp::HSTORE
            | IrOp::USTORE
            | IrOp::FSTORE
            | IrOp::XSTORE
            | IrOp::TBAR
            | IrOp::OBAR => self.lower_mem(r, &i),
            IrOp::CONV | IrOp::TOBIT => self.lower_conv(r, &i),
            IrOp::SNEW
            | IrOp::TNEW
            | IrOp::TDUP
            | IrOp::TOSTR
            | IrOp::STRTO
            | IrOp::CALLN
            | IrOp::CALLA
            | IrOp::CALLL
            | IrOp::CALLS
            | IrOp::NATIVE => self.lower_call(r, &i),
            IrOp::RETF => {
                self.base = self.moved_base(-(i.a as i32));
                Ok(())
            }
            IrOp::CNEW | IrOp::CNEWI if self.t.sunk_at(r).is_some() => Ok(()),
            IrOp::CNEW | IrOp::CNEWI | IrOp::CALLXS => self.lower_cdata(r, &i),
        }
    }
}
