//! Prototypes to bytes.

use super::{MAGIC, STRIPPED, VERSION, kgc_tag, kval_tag};
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::Op;
use crate::bytecode::protodef::{KGc, KVal, ProtoDef, protoflags};

/// What to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// Leave out chunk name, lines and names.
    pub strip: bool,
    /// The same function gives the same bytes, whatever the order of keys in memory.
    pub deterministic: bool,
}

/// The bytes of a function. Instructions replaced for speed are written in their original form;
/// those that enter traces must have been restored by the caller, for their operands are gone.
pub fn dump(def: &ProtoDef, options: DumpOptions) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    out.push(if options.strip { STRIPPED } else { 0 });
    if !options.strip {
        bytes(&mut out, &def.chunkname);
    }
    proto(&mut out, def, options);
    out
}

/// The original form of an instruction.
fn unpatched(word: u32) -> u32 {
    let Some(op) = Op::from_u8(word as u8) else { return word };
    let op = match op {
        Op::IFORL => Op::FORL,
        Op::IITERL => Op::ITERL,
        Op::ILOOP => Op::LOOP,
        Op::JFORI => Op::FORI,
        Op::IFUNCF => Op::FUNCF,
        Op::IFUNCV => Op::FUNCV,
        Op::JFUNCF => return Instr(word).with_op(Op::FUNCF).with_d(0).0,
        Op::JFUNCV => return Instr(word).with_op(Op::FUNCV).with_d(0).0,
        _ => return word,
    };
    Instr(word).with_op(op).0
}

fn uleb(out: &mut Vec<u8>, n: u64) {
    let mut n = n;
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn bytes(out: &mut Vec<u8>, s: &[u8]) {
    uleb(out, s.len() as u64);
    out.extend_from_slice(s);
}

fn proto(out: &mut Vec<u8>, def: &ProtoDef, options: DumpOptions) {
    out.push(def.flags & !protoflags::ILOOP);
    out.push(def.numparams);
    out.push(def.framesize);
    if !options.strip {
        uleb(out, def.firstline as u64);
        uleb(out, def.lastline as u64);
    }
    uleb(out, def.code.len() as u64);
    for &word in &def.code {
        out.extend_from_slice(&unpatched(word).to_le_bytes());
    }
    uleb(out, def.knum.len() as u64);
    for n in &def.knum {
        out.extend_from_slice(&n.to_bits().to_le_bytes());
    }
    uleb(out, def.kgc.len() as u64);
    for k in &def.kgc {
        constant(out, k, options);
    }
    uleb(out, def.upvals.len() as u64);
    for &uv in &def.upvals {
        uleb(out, uv as u64);
    }
    if options.strip {
        return;
    }
    uleb(out, def.lines.len() as u64);
    let mut last = 0i64;
    for &line in &def.lines {
        let delta = line as i64 - last;
        // Small steps either way take one byte.
        uleb(out, (delta << 1 ^ delta >> 63) as u64);
        last = line as i64;
    }
    uleb(out, def.upvalue_names.len() as u64);
    for name in &def.upvalue_names {
        bytes(out, name);
    }
    uleb(out, def.locals.len() as u64);
    for local in &def.locals {
        bytes(out, &local.name);
        uleb(out, local.startpc as u64);
        uleb(out, local.endpc as u64);
        out.push(local.slot);
    }
}

fn constant(out: &mut Vec<u8>, k: &KGc, options: DumpOptions) {
    match k {
        KGc::Str(s) => {
            out.push(kgc_tag::STR);
            bytes(out, s);
        }
        KGc::Proto(def) => {
            out.push(kgc_tag::PROTO);
            proto(out, def, options);
        }
        KGc::TableTemplate { array, hash } => {
            out.push(kgc_tag::TABLE);
            uleb(out, array.len() as u64);
            for v in array {
                value(out, v);
            }
            uleb(out, hash.len() as u64);
            let mut nodes: Vec<Vec<u8>> = hash
                .iter()
                .map(|(k, v)| {
                    let mut node = Vec::new();
                    value(&mut node, k);
                    value(&mut node, v);
                    node
                })
                .collect();
            if options.deterministic {
                nodes.sort();
            }
            out.extend(nodes.into_iter().flatten());
        }
        KGc::Int64(n) => {
            out.push(kgc_tag::INT64);
            out.extend_from_slice(&n.to_le_bytes());
        }
        KGc::UInt64(n) => {
            out.push(kgc_tag::UINT64);
            out.extend_from_slice(&n.to_le_bytes());
        }
        KGc::Complex(n) => {
            out.push(kgc_tag::COMPLEX);
            out.extend_from_slice(&n.to_bits().to_le_bytes());
        }
    }
}

fn value(out: &mut Vec<u8>, v: &KVal) {
    match v {
        KVal::Nil => out.push(kval_tag::NIL),
        KVal::Bool(false) => out.push(kval_tag::FALSE),
        KVal::Bool(true) => out.push(kval_tag::TRUE),
        KVal::Num(n) => {
            out.push(kval_tag::NUM);
            out.extend_from_slice(&n.to_bits().to_le_bytes());
        }
        KVal::Str(s) => {
            out.push(kval_tag::STR);
            bytes(out, s);
        }
    }
}
