//! Prototypes on the heap: the compiled form of one function, shared by its closures.

pub use crate::bytecode::protodef::{LocalVar as LocalRange, protoflags};

use crate::bytecode::protodef::{KGc, KVal, LocalVar, Name, ProtoDef};
use crate::cdata::{Cdata, ctid};
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits};
use crate::heap::Heap;
use crate::heap::arena::Group;
use crate::string::Str;
use crate::table::{Table, hash_bits};
use crate::value::{Object, Value, tag};

/// A prototype. The code, constants and upvalue descriptions are separate boxed blocks with stable addresses.
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
    /// Bytes outside the heap that belong to it, as accounted.
    pub extern_bytes: u32,
    /// Closures made of it so far; wraps. The recorder asks whether it may rely on one of them.
    pub closures: u32,
    /// Chunk name as given (`=x`, `@file` or source).
    pub chunkname: Gc<Str>,
    /// Lines and names; boxed, freed with the prototype.
    pub debug: *mut ProtoDebug,
}

/// The parts of a prototype only errors, hooks and `debug` look at. Empty vectors when stripped.
#[derive(Default, Debug)]
pub struct ProtoDebug {
    /// Line of each instruction.
    pub lines: Lines,
    /// Upvalue names.
    pub upvalue_names: Vec<Name>,
    /// Locals in order of their start.
    pub locals: Vec<LocalVar>,
}

/// Lines of the instructions: one byte each, counted from the lowest line, where they all fit.
#[derive(Default, Debug)]
pub enum Lines {
    /// Stripped.
    #[default]
    None,
    /// The lowest line, and how far above it each instruction's is.
    Near(u32, Box<[u8]>),
    /// As they are.
    Far(Box<[u32]>),
}

impl Lines {
    fn new(lines: Vec<u32>) -> Lines {
        let Some(low) = lines.iter().copied().min() else { return Lines::None };
        match lines.iter().map(|n| u8::try_from(n - low)).collect::<Result<Box<[u8]>, _>>() {
            Ok(near) => Lines::Near(low, near),
            Err(_) => Lines::Far(lines.into()),
        }
    }

    /// Line of an instruction.
    pub fn get(&self, pos: usize) -> Option<u32> {
        match self {
            Lines::None => None,
            Lines::Near(low, near) => near.get(pos).map(|d| low + *d as u32),
            Lines::Far(lines) => lines.get(pos).copied(),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).map_while(|i| self.get(i))
    }

    fn bytes(&self) -> usize {
        match self {
            Lines::None => 0,
            Lines::Near(_, near) => near.len(),
            Lines::Far(lines) => lines.len() * 4,
        }
    }
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

    /// Lines and names.
    #[inline(always)]
    pub fn debug_info(&self) -> &ProtoDebug {
        // SAFETY: the box belongs to the prototype and is freed with it.
        unsafe { &*self.debug }
    }

    /// Line of the instruction at `pos`; `None` when stripped.
    pub fn line_at(&self, pos: u32) -> Option<u32> {
        self.debug_info().lines.get(pos as usize)
    }
}

/// What a name is counted with for each of its mentions: its bytes are shared by the functions of a chunk.
const SHARED_NAME: usize = 8;

/// Memory of a block owned by a prototype.
fn leak<T>(v: Vec<T>) -> *mut T {
    Box::into_raw(v.into_boxed_slice()) as *mut T
}

/// Frees what [`leak`] gave.
///
/// # Safety
/// `p` came from `leak` of a vector of `n` elements and is not used again.
unsafe fn reclaim<T>(p: *mut T, n: usize) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(p, n)) });
}

/// Frees the blocks of a dead prototype.
///
/// # Safety
/// `o` is a prototype that was not released yet.
unsafe fn release(heap: &mut Heap, o: Gc<Header>) {
    // SAFETY: the caller's promise; the blocks were made in `new_proto_in` with these lengths.
    unsafe {
        let p = &mut *o.cast::<Proto>().as_ptr();
        heap.credit_extern(p.extern_bytes as usize);
        reclaim(p.code, p.ncode as usize);
        reclaim(p.k.sub(p.nkgc as usize), (p.nkgc + p.nknum) as usize);
        reclaim(p.uv, p.nupvals as usize);
        drop(Box::from_raw(p.debug));
    }
}

impl Heap {
    /// The prototype of a compiled function, with its children and constants.
    pub fn new_proto(&mut self, def: ProtoDef) -> Gc<Proto> {
        let name = self.str(&def.chunkname);
        self.new_proto_in(def, name)
    }

    fn new_proto_in(&mut self, def: ProtoDef, name: Gc<Str>) -> Gc<Proto> {
        self.release[Kind::Proto as usize] = Some(release);
        let nkgc = def.kgc.len();
        let mut k = Vec::with_capacity(nkgc + def.knum.len());
        for c in def.kgc.into_iter().rev() {
            let v = self.constant(c, name);
            k.push(v);
        }
        k.extend(def.knum.iter().map(|n| Value::num(*n)));
        let debug =
            ProtoDebug { lines: Lines::new(def.lines), upvalue_names: def.upvalue_names, locals: def.locals };
        let bytes = def.code.len() * 4
            + k.len() * 8
            + def.upvals.len() * 2
            + std::mem::size_of::<ProtoDebug>()
            + debug.lines.bytes()
            + debug.locals.len() * (std::mem::size_of::<LocalVar>() + SHARED_NAME)
            + debug.upvalue_names.len() * (std::mem::size_of::<Name>() + SHARED_NAME);
        self.charge_extern(bytes);
        let (p, large) = self.alloc(Group::Drop, std::mem::size_of::<Proto>());
        let hdr = Header { kind: Kind::Proto as u8, gc: large, flags: 0, extra: 0, aux: 0 };
        // SAFETY: the cell has room for the struct; the constants block has `kgc` values before its middle.
        unsafe {
            (p as *mut Proto).write(Proto {
                hdr,
                ncode: def.code.len() as u32,
                code: leak(def.code),
                k: leak(k).add(nkgc),
                nknum: def.knum.len() as u32,
                nkgc: nkgc as u32,
                framesize: def.framesize,
                numparams: def.numparams,
                flags: def.flags,
                nupvals: def.upvals.len() as u8,
                uv: leak(def.upvals),
                trace: 0,
                firstline: def.firstline,
                lastline: def.lastline,
                extern_bytes: bytes as u32,
                closures: 0,
                chunkname: name,
                debug: Box::into_raw(Box::new(debug)),
            });
        }
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    fn constant(&mut self, c: KGc, name: Gc<Str>) -> Value {
        match c {
            // Constants can be keys: they are interned however long they are.
            KGc::Str(s) => Value::obj(self.str_intern(&s)),
            KGc::Proto(def) => Value::obj(self.new_proto_in(*def, name)),
            KGc::TableTemplate { array, hash } => Value::obj(self.template(&array, &hash)),
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

    fn template(&mut self, array: &[KVal], hash: &[(KVal, KVal)]) -> Gc<Table> {
        let t = self.new_table(array.len() as u32, hash_bits(hash.len()));
        for (i, v) in array.iter().enumerate() {
            let v = self.template_value(v);
            // The array part has room for every index.
            let _ = t.seti(self, i as i64, v);
        }
        // A node whose value is nil could be taken by the next key: reserved ones get their nil last.
        let mut reserved = Vec::new();
        for (k, v) in hash {
            let (k, mut v) = (self.template_value(k), self.template_value(v));
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

    fn template_value(&mut self, v: &KVal) -> Value {
        match v {
            KVal::Nil => Value::NIL,
            KVal::Bool(b) => Value::bool(*b),
            KVal::Num(n) => Value::num(*n),
            KVal::Str(s) => Value::obj(self.str_intern(s)),
        }
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

/// Bit of a prototype's `hdr.extra`: it is in the list of those with traces.
const TRACED: u8 = 1;

impl Gc<Proto> {
    /// The function as plain data again (`string.dump`). `unpatch` gives back the instruction that the
    /// JIT has replaced at an index, or the word itself.
    pub fn to_def(self, heap: &Heap, unpatch: &dyn Fn(usize, u32) -> u32) -> ProtoDef {
        let p = self.get(heap);
        // SAFETY: the blocks have these lengths and live as long as the prototype.
        let (kgc, knum, upvals, debug) = unsafe {
            (
                std::slice::from_raw_parts(p.k.sub(p.nkgc as usize), p.nkgc as usize),
                std::slice::from_raw_parts(p.k, p.nknum as usize),
                std::slice::from_raw_parts(p.uv, p.nupvals as usize),
                &*p.debug,
            )
        };
        ProtoDef {
            code: p.code().iter().enumerate().map(|(i, w)| unpatch(i, *w)).collect(),
            lines: debug.lines.iter().collect(),
            knum: knum.iter().map(|v| v.num_unchecked()).collect(),
            kgc: kgc.iter().rev().map(|v| constant_def(heap, *v, unpatch)).collect(),
            upvals: upvals.to_vec(),
            numparams: p.numparams,
            framesize: p.framesize,
            flags: p.flags & !protoflags::ILOOP & !protoflags::NOJIT,
            firstline: p.firstline,
            lastline: p.lastline,
            chunkname: p.chunkname.bytes(heap).into(),
            upvalue_names: debug.upvalue_names.clone(),
            locals: debug.locals.clone(),
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
            lines: vec![1, 1, 2],
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
        let p = h.new_proto(def.clone());
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
