//! Compiled functions as plain data.

use crate::bytecode::build::{Build, Made, Parts, Text};
use crate::bytecode::names::Names;
use crate::bytecode::protodef::{KGc, KVal, Name, ProtoDef};

/// Takes the compiler's functions as [`ProtoDef`]s.
pub(super) struct DefBuild {
    chunkname: Name,
    texts: Vec<Name>,
    /// Those that are not yet part of the function around them.
    functions: Vec<Option<Box<ProtoDef>>>,
}

impl DefBuild {
    pub(super) fn new(chunkname: &[u8]) -> DefBuild {
        DefBuild { chunkname: chunkname.into(), texts: Vec::new(), functions: Vec::new() }
    }

    /// The function, with those inside.
    pub(super) fn take(&mut self, f: Made) -> Box<ProtoDef> {
        self.functions[f.0 as usize].take().expect("a function is taken once")
    }

    fn constant(&mut self, c: &KGc<Text, Made>) -> KGc {
        match c {
            KGc::Str(s) => KGc::Str(self.name(*s)),
            KGc::Proto(f) => KGc::Proto(self.take(*f)),
            KGc::TableTemplate { array, hash } => {
                let value = |v: &KVal<Text>| match v {
                    KVal::Nil => KVal::Nil,
                    KVal::Bool(b) => KVal::Bool(*b),
                    KVal::Num(n) => KVal::Num(*n),
                    KVal::Str(s) => KVal::Str(self.name(*s)),
                };
                KGc::TableTemplate {
                    array: array.iter().map(value).collect(),
                    hash: hash.iter().map(|(k, v)| (value(k), value(v))).collect(),
                }
            }
            KGc::Int64(n) => KGc::Int64(*n),
            KGc::UInt64(n) => KGc::UInt64(*n),
            KGc::Complex(n) => KGc::Complex(*n),
        }
    }

    fn name(&self, t: Text) -> Name {
        self.texts[t.0 as usize].clone()
    }
}

impl Build for DefBuild {
    fn text(&mut self, bytes: &[u8]) -> Text {
        self.texts.push(bytes.into());
        Text(self.texts.len() as u64 - 1)
    }

    fn function(&mut self, parts: Parts) -> Made {
        let (upvalue_names, locals) =
            Names { bytes: parts.names, nupvals: parts.nupvals as usize }.to_lists();
        let def = ProtoDef {
            code: parts.code.iter().map(|i| i.0).collect(),
            lines: parts.lines.to_vec(),
            knum: parts.knum.to_vec(),
            kgc: parts.kgc.iter().map(|c| self.constant(c)).collect(),
            upvals: Vec::new(),
            numparams: parts.numparams,
            framesize: parts.framesize,
            flags: parts.flags,
            firstline: parts.firstline,
            lastline: parts.lastline,
            chunkname: self.chunkname.clone(),
            upvalue_names,
            locals,
        };
        self.functions.push(Some(Box::new(def)));
        Made(self.functions.len() as u64 - 1)
    }

    fn describe_upvalues(&mut self, function: Made, descriptions: &[u16]) {
        if let Some(def) = &mut self.functions[function.0 as usize] {
            def.upvals = descriptions.to_vec();
        }
    }
}
