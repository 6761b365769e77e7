//! Prototypes on the heap: the compiled form of one function, shared by its closures.

pub use crate::bytecode::protodef::{LocalVar as LocalRange, protoflags};

use crate::bytecode::build::{Build, Made, Parts, Text};
use crate::bytecode::instr::Instr;
use crate::bytecode::names::{self, Names};
use crate::bytecode::protodef::{KGc, KVal, LocalVar, Name, ProtoDef};
use crate::cdata::{Cdata, ctid};
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits};
use crate::heap::Heap;
use crate::heap::arena::Group;
use crate::string::Str;
use crate::table::{Table, hash_bits};
use crate::value::{Object, Value, tag};

/// A prototype. All it has lies in one piece of memory behind the struct: constants, code, upvalue descriptions, lines and
/// names.
#[repr(C)]
pub struct Proto {
    /// Header.
    pub hdr: Header,
    /// First instruction (a function header op).
    pub code: *mut u32,
    /// Middle of the constants: numbers at `k[0..nknum]`, the i-th gc constant at `k[-1 - i]`.
    /// Prototype and template constants are values with the internal tags.
    pub k: *mut Value,
    /// Instructions.
    pub ncode: u32,
    /// Number constants.
    pub nknum: u32,
    /// Gc constants.
    pub nkgc: u32,
    /// Registers a frame needs.
    pub framesize: u8,
    /// Fixed parameters.
    pub numparams: u8,
    /// [`protoflags`].
    pub flags: u8,
    /// Upvalues.
    pub nupvals: u8,
    /// `nupvals` descriptions: bit 15 local of the parent, bit 14 immutable, low bits index.
    pub uv: *mut u16,
    /// Root trace that starts at this function's header, or 0.
    pub trace: u32,
    /// Line of the definition.
    pub firstline: u32,
    /// Line of the final `end`.
    pub lastline: u32,
    /// Closures made of it so far; wraps. The recorder asks whether it may rely on one of them.
    pub closures: u32,
    /// Chunk name as given (`=x`, `@file` or source).
    pub chunkname: Gc<Str>,
    /// Lines of the instructions, as `line_bytes` says.
    lines: *const u8,
    /// Names of upvalues and locals.
    names: *const u8,
    /// Bytes of the names; 0 when stripped.
    names_len: u32,
    /// What the lines are counted from.
    lowest_line: u32,
    /// Bytes per line: 1 where all are near the lowest one, 4 where not, 0 when stripped.
    line_bytes: u8,
}

// SAFETY: `Proto` is `repr(C)` and starts with its header of kind `Proto`.
unsafe impl Object for Proto {
    const TAG: tag::Tag = tag::PROTO;
}

impl Proto {
    /// The instructions.
    #[inline(always)]
    pub fn code(&self) -> &[u32] {
        // SAFETY: the prototype owns `ncode` initialised words at `code` for as long as it lives.
        unsafe { std::slice::from_raw_parts(self.code, self.ncode as usize) }
    }

    /// The `i`-th gc constant.
    #[inline(always)]
    pub fn kgc(&self, i: u32) -> Option<Value> {
        if i >= self.nkgc {
            return None;
        }
        // SAFETY: the constants block holds `nkgc` values below `k`, and `i` was just checked.
        Some(unsafe { *self.k.sub(1 + i as usize) })
    }

    /// The `i`-th number constant.
    #[inline(always)]
    pub fn knum(&self, i: u32) -> Option<Value> {
        if i >= self.nknum {
            return None;
        }
        // SAFETY: the constants block holds `nknum` values from `k` upward, and `i` was just checked.
        Some(unsafe { *self.k.add(i as usize) })
    }

    /// Line of the instruction at `pos`; `None` when stripped.
    pub fn line_at(&self, pos: u32) -> Option<u32> {
        if pos >= self.ncode {
            return None;
        }
        // SAFETY: there are `ncode` lines of so many bytes, and `pos` was just checked.
        unsafe {
            match self.line_bytes {
                1 => Some(self.lowest_line + *self.lines.add(pos as usize) as u32),
                4 => Some(self.lowest_line + *(self.lines as *const u32).add(pos as usize)),
                _ => None,
            }
        }
    }

    /// Lines of all instructions; none when stripped.
    pub fn lines(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.ncode).map_while(|i| self.line_at(i))
    }

    /// The names of upvalues and locals.
    pub fn names(&self) -> Names<'_> {
        // SAFETY: the prototype owns `names_len` initialised bytes there for as long as it lives.
        let bytes = unsafe { std::slice::from_raw_parts(self.names, self.names_len as usize) };
        Names { bytes, nupvals: self.nupvals as usize }
    }

    /// The name of upvalue `i`; `None` when stripped.
    pub fn upvalue_name(&self, i: usize) -> Option<&[u8]> {
        self.names().upvalues().nth(i)
    }
}

/// Takes the compiler's functions to a heap. Nothing may be collected until the outermost function is rooted: those
/// inside belong to nobody before.
pub struct HeapBuild<'h> {
    heap: &'h mut Heap,
    chunkname: Gc<Str>,
}

impl<'h> HeapBuild<'h> {
    /// For one chunk.
    pub fn new(heap: &'h mut Heap, chunkname: &[u8]) -> HeapBuild<'h> {
        let chunkname = heap.str(chunkname);
        HeapBuild { heap, chunkname }
    }

    /// A function that was made here.
    pub fn take(self, f: Made) -> Gc<Proto> {
        Gc::from_addr(f.0).expect("`function` has made it")
    }
}

fn made(p: Gc<Proto>) -> Made {
    Made(p.as_ptr() as u64)
}

impl Build for HeapBuild<'_> {
    fn text(&mut self, bytes: &[u8]) -> Text {
        // Constants can be keys: they are interned however long they are.
        Text(Value::obj(self.heap.str_intern(bytes)).0)
    }

    fn function(&mut self, parts: Parts) -> Made {
        made(self.heap.make_proto(parts, self.chunkname))
    }

    fn describe_upvalues(&mut self, function: Made, descriptions: &[u16]) {
        let p: Gc<Proto> = Gc::from_addr(function.0).expect("`function` has made it");
        let p = p.get_mut(self.heap);
        assert!(descriptions.len() == p.nupvals as usize);
        // SAFETY: there is room for `nupvals` descriptions.
        unsafe { std::ptr::copy_nonoverlapping(descriptions.as_ptr(), p.uv, descriptions.len()) };
    }
}

impl Heap {
    /// The prototype of a compiled function, with its children and constants.
    pub fn new_proto(&mut self, def: &ProtoDef) -> Gc<Proto> {
        let mut build = HeapBuild::new(self, &def.chunkname);
        let made = build.whole(def);
        Gc::from_addr(made.0).expect("just made")
    }

    fn make_proto(&mut self, parts: Parts, chunkname: Gc<Str>) -> Gc<Proto> {
        let Parts { code, lines, knum, kgc, names, .. } = parts;
        let nupvals = parts.nupvals as usize;
        let (mut low, mut high) = (u32::MAX, 0);
        for &line in lines {
            low = low.min(line);
            high = high.max(line);
        }
        let line_bytes = match lines {
            [] => 0,
            _ if high - low < 256 => 1,
            _ => 4,
        };
        // What needs the greater alignment comes first; lines of four bytes come behind the code.
        let at_code = std::mem::size_of::<Proto>() + (kgc.len() + knum.len()) * 8;
        let at_far = at_code + code.len() * 4;
        let at_uv = at_far + if line_bytes == 4 { lines.len() * 4 } else { 0 };
        let at_near = at_uv + nupvals * 2;
        let at_names = at_near + if line_bytes == 1 { lines.len() } else { 0 };
        let (p, large) = self.alloc(Group::Obj, at_names + names.len());
        // SAFETY: the memory has room for the struct and for each part at its offset, which is a multiple of the part's
        // alignment; the constants' block has `kgc` values before its middle. Making a template or a boxed number
        // allocates, and collects nothing.
        unsafe {
            let k = (p.add(std::mem::size_of::<Proto>()) as *mut Value).add(kgc.len());
            let proto = Proto {
                hdr: Header { kind: Kind::Proto as u8, gc: large, flags: 0, extra: 0, aux: 0 },
                code: p.add(at_code) as *mut u32,
                k,
                ncode: code.len() as u32,
                nknum: knum.len() as u32,
                nkgc: kgc.len() as u32,
                framesize: parts.framesize,
                numparams: parts.numparams,
                flags: parts.flags,
                nupvals: parts.nupvals,
                uv: p.add(at_uv) as *mut u16,
                trace: 0,
                firstline: parts.firstline,
                lastline: parts.lastline,
                closures: 0,
                chunkname,
                lines: p.add(if line_bytes == 4 { at_far } else { at_near }),
                names: p.add(at_names),
                names_len: names.len() as u32,
                lowest_line: low,
                line_bytes,
            };
            (p as *mut Proto).write(proto);
            for (i, c) in kgc.iter().enumerate() {
                *k.sub(1 + i) = self.constant(c);
            }
            for (i, n) in knum.iter().enumerate() {
                *k.add(i) = Value::num(*n);
            }
            std::ptr::copy_nonoverlapping(code.as_ptr() as *const u32, (*(p as *mut Proto)).code, code.len());
            if line_bytes == 4 {
                let far = p.add(at_far) as *mut u32;
                for (i, line) in lines.iter().enumerate() {
                    *far.add(i) = line - low;
                }
            } else {
                for (i, line) in lines.iter().enumerate() {
                    *p.add(at_near + i) = (line - low) as u8;
                }
            }
            std::ptr::write_bytes(p.add(at_uv) as *mut u16, 0, nupvals);
            std::ptr::copy_nonoverlapping(names.as_ptr(), p.add(at_names), names.len());
        }
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    fn constant(&mut self, c: &KGc<Text, Made>) -> Value {
        match c {
            KGc::Str(s) => Value(s.0),
            KGc::Proto(f) => Gc::<Proto>::from_addr(f.0).map_or(Value::NIL, Value::obj),
            KGc::TableTemplate { array, hash } => Value::obj(self.template(array, hash)),
            KGc::Int64(n) => self.cdata_of(ctid::INT64, &n.to_ne_bytes()),
            KGc::UInt64(n) => self.cdata_of(ctid::UINT64, &n.to_ne_bytes()),
            KGc::Complex(im) => {
                let mut bytes = [0; 16];
                bytes[8..].copy_from_slice(&im.to_ne_bytes());
                self.cdata_of(ctid::COMPLEX_DOUBLE, &bytes)
            }
        }
    }

    fn cdata_of(&mut self, id: u32, bytes: &[u8]) -> Value {
        let cd: Gc<Cdata> = self.new_cdata(id, bytes.len(), 8);
        // SAFETY: the payload has room for `bytes`; nobody else has seen the object.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), cd.get(self).data_ptr(), bytes.len());
        }
        Value::obj(cd)
    }

    fn template(&mut self, array: &[KVal<Text>], hash: &[(KVal<Text>, KVal<Text>)]) -> Gc<Table> {
        let t = self.new_table(array.len() as u32, hash_bits(hash.len()));
        for (i, v) in array.iter().enumerate() {
            let v = template_value(v);
            // The array part has room for every index.
            let _ = t.seti(self, i as i64, v);
        }
        // A node whose value is nil could be taken by the next key: reserved ones get their nil last.
        let mut reserved = Vec::new();
        for (k, v) in hash {
            let (k, mut v) = (template_value(k), template_value(v));
            if v.is_nil() {
                reserved.push(k);
                v = Value::TRUE;
            }
            // Keys are neither nil nor NaN, and their number was asked for.
            let _ = t.setv(self, k, v);
        }
        for k in reserved {
            let _ = t.setv(self, k, Value::NIL);
        }
        t.get_mut(self).hdr.gc |= gcbits::TEMPLATE;
        t
    }

    /// The prototype has a trace from now on: when it dies, `JitHooks::proto_freed` is told. May be called
    /// again for the same one.
    pub fn note_traced(&mut self, p: Gc<Proto>) {
        if p.get(self).hdr.extra & TRACED == 0 {
            p.get_mut(self).hdr.extra |= TRACED;
            self.lists.traced_protos.push(p.cast());
        }
    }
}

fn template_value(v: &KVal<Text>) -> Value {
    match v {
        KVal::Nil => Value::NIL,
        KVal::Bool(b) => Value::bool(*b),
        KVal::Num(n) => Value::num(*n),
        KVal::Str(s) => Value(s.0),
    }
}

impl HeapBuild<'_> {
    /// Takes a function that is plain data, with those inside.
    fn whole(&mut self, def: &ProtoDef) -> Made {
        let kgc: Vec<_> = def.kgc.iter().map(|c| self.handed_over(c)).collect();
        let mut bytes = Vec::new();
        for name in &def.upvalue_names {
            names::put_upvalue(&mut bytes, name);
        }
        if def.upvalue_names.is_empty() && !def.locals.is_empty() {
            // A file may have the one without the other.
            for _ in &def.upvals {
                names::put_upvalue(&mut bytes, b"");
            }
        }
        for l in &def.locals {
            let LocalVar { startpc, endpc, slot, .. } = *l;
            names::put_local(&mut bytes, names::Local { name: &l.name, startpc, endpc, slot });
        }
        let code: Vec<_> = def.code.iter().map(|w| Instr(*w)).collect();
        let made = self.function(Parts {
            code: &code,
            lines: &def.lines,
            knum: &def.knum,
            kgc: &kgc,
            nupvals: def.upvals.len() as u8,
            numparams: def.numparams,
            framesize: def.framesize,
            flags: def.flags,
            firstline: def.firstline,
            lastline: def.lastline,
            names: &bytes,
        });
        self.describe_upvalues(made, &def.upvals);
        made
    }

    fn handed_over(&mut self, c: &KGc) -> KGc<Text, Made> {
        match c {
            KGc::Str(s) => KGc::Str(self.text(s)),
            KGc::Proto(def) => KGc::Proto(self.whole(def)),
            KGc::TableTemplate { array, hash } => {
                let mut value = |v: &KVal| match v {
                    KVal::Nil => KVal::Nil,
                    KVal::Bool(b) => KVal::Bool(*b),
                    KVal::Num(n) => KVal::Num(*n),
                    KVal::Str(s) => KVal::Str(self.text(s)),
                };
                KGc::TableTemplate {
                    array: array.iter().map(&mut value).collect(),
                    hash: hash.iter().map(|(k, v)| (value(k), value(v))).collect(),
                }
            }
            KGc::Int64(n) => KGc::Int64(*n),
            KGc::UInt64(n) => KGc::UInt64(*n),
            KGc::Complex(im) => KGc::Complex(*im),
        }
    }
}

/// Bit of a prototype's `hdr.extra`: it is in the list of those with traces.
const TRACED: u8 = 1;

impl Gc<Proto> {
    /// The function as plain data again (`string.dump`). `unpatch` gives back the instruction that the
    /// JIT has replaced at an index, or the word itself.
    pub fn to_def(self, heap: &Heap, unpatch: &dyn Fn(usize, u32) -> u32) -> ProtoDef {
        let p = self.get(heap);
        // SAFETY: the blocks have these lengths and live as long as the prototype.
        let (kgc, knum, upvals) = unsafe {
            (
                std::slice::from_raw_parts(p.k.sub(p.nkgc as usize), p.nkgc as usize),
                std::slice::from_raw_parts(p.k, p.nknum as usize),
                std::slice::from_raw_parts(p.uv, p.nupvals as usize),
            )
        };
        let (upvalue_names, locals) = p.names().to_lists();
        ProtoDef {
            code: p.code().iter().enumerate().map(|(i, w)| unpatch(i, *w)).collect(),
            lines: p.lines().collect(),
            knum: knum.iter().map(|v| v.num_unchecked()).collect(),
            kgc: kgc.iter().rev().map(|v| constant_def(heap, *v, unpatch)).collect(),
            upvals: upvals.to_vec(),
            numparams: p.numparams,
            framesize: p.framesize,
            flags: p.flags & !protoflags::ILOOP & !protoflags::NOJIT,
            firstline: p.firstline,
            lastline: p.lastline,
            chunkname: p.chunkname.bytes(heap).into(),
            upvalue_names,
            locals,
        }
    }
}

fn constant_def(heap: &Heap, v: Value, unpatch: &dyn Fn(usize, u32) -> u32) -> KGc {
    if let Some(s) = v.as_obj::<Str>() {
        KGc::Str(s.bytes(heap).into())
    } else if let Some(p) = v.as_obj::<Proto>() {
        KGc::Proto(Box::new(p.to_def(heap, unpatch)))
    } else if let Some(t) = v.as_obj::<Table>() {
        let t = t.get(heap);
        let hash = t.nodes().iter().filter(|n| !n.key.is_nil());
        KGc::TableTemplate {
            array: t.array().iter().map(|v| value_def(heap, *v)).collect(),
            hash: hash.map(|n| (value_def(heap, n.key), value_def(heap, n.val))).collect(),
        }
    } else if let Some(cd) = v.as_obj::<Cdata>() {
        let cd = cd.get(heap);
        // SAFETY: constants of these types have 8 or 16 bytes of payload.
        unsafe {
            match cd.ctypeid() {
                ctid::INT64 => KGc::Int64((cd.data_ptr() as *const i64).read()),
                ctid::UINT64 => KGc::UInt64((cd.data_ptr() as *const u64).read()),
                _ => KGc::Complex((cd.data_ptr() as *const f64).add(1).read()),
            }
        }
    } else {
        // No other constants are made.
        KGc::Str(Name::default())
    }
}

fn value_def(heap: &Heap, v: Value) -> KVal {
    if let Some(n) = v.as_num() {
        KVal::Num(n)
    } else if let Some(s) = v.as_obj::<Str>() {
        KVal::Str(s.bytes(heap).into())
    } else if v.is_bool() {
        KVal::Bool(v.truthy())
    } else {
        KVal::Nil
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_survives_the_way_to_the_heap_and_back() {
        let child =
            ProtoDef { code: vec![7, 8], framesize: 3, chunkname: (*b"@x").into(), ..Default::default() };
        let s = |s: &str| s.as_bytes().into();
        let def = ProtoDef {
            code: vec![1, 2, 3],
            lines: vec![7, 7, 8],
            knum: vec![1.5, -0.0],
            kgc: vec![
                KGc::Str(s("name")),
                KGc::Proto(Box::new(child)),
                KGc::TableTemplate {
                    array: vec![KVal::Nil, KVal::Num(1.0), KVal::Bool(true)],
                    hash: vec![(KVal::Str(s("k")), KVal::Nil), (KVal::Str(s("l")), KVal::Str(s("v")))],
                },
                KGc::Int64(-5),
                KGc::UInt64(6),
                KGc::Complex(2.5),
            ],
            upvals: vec![0x8001],
            numparams: 1,
            framesize: 5,
            chunkname: s("@x"),
            upvalue_names: vec![s("u")],
            ..Default::default()
        };
        let mut h = Heap::new();
        let p = h.new_proto(&def);
        assert_eq!(p.get(&h).kgc(0), Some(Value::obj(h.str(b"name"))));
        let mut back = p.to_def(&h, &|_, w| w);
        if let KGc::TableTemplate { hash, .. } = &mut back.kgc[2] {
            hash.sort_by_key(|(k, _)| format!("{k:?}"));
        }
        assert_eq!(back, def);
        let t = p.get(&h).kgc(2).unwrap().as_obj::<Table>().unwrap();
        let (t, k) = (h.dup_table(t), h.str(b"k"));
        assert!(!t.get(&h).find_str(k).is_null());
        assert_eq!(t.len(&h), 2);
    }
}
