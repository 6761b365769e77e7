//! The module `string.buffer`: growable byte queues, and a serialiser for Lua values in LuaJIT's format.
//!
//! ```text
//!   data   |  consumed  |  readable  |  room handed out by reserve  |
//!          0            r            w                        data.len()
//! ```

use super::string::format_values;
use super::{new_string, set_field, set_preload, sys, table_error};
use crate::bytecode::ops::Mm;
use crate::cdata::ctid;
use crate::error::messages::NO_MEMORY;
use crate::heap::Heap;
use crate::heap::gc_ref::Gc;
use crate::state::Vm;
use crate::state::hooks::{Joined, Packed};
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised, Takes};
use crate::string::Str;
use crate::table::{Table, TableErr};
use crate::userdata::Userdata;
use crate::value::{Value, number, tag};

/// Functions of the module.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("string.buffer.decode", decode),
    NativeRow::new("string.buffer.encode", encode),
    NativeRow::new("string.buffer.new", new),
];

/// Methods of buffers.
pub const METHODS: &[NativeRow] = &[
    NativeRow::new("buffer:__len", len),
    NativeRow::new("buffer:__tostring", tostring),
    NativeRow::new("buffer:commit", commit),
    NativeRow::new("buffer:decode", method_decode),
    NativeRow::new("buffer:encode", method_encode),
    NativeRow::new("buffer:free", free),
    NativeRow::new("buffer:get", get).plain(Takes::Values),
    NativeRow::new("buffer:put", put).plain(Takes::Values),
    NativeRow::new("buffer:putcdata", putcdata),
    NativeRow::new("buffer:putf", putf),
    NativeRow::new("buffer:ref", ref_),
    NativeRow::new("buffer:reserve", reserve),
    NativeRow::new("buffer:reset", reset).plain(Takes::Values),
    NativeRow::new("buffer:set", set),
    NativeRow::new("buffer:skip", skip).plain(Takes::Values),
    NativeRow::new("buffer:tostring", tostring).plain(Takes::Values),
];

/// What `..` calls for buffers; no field of their metatable.
const CONCAT: &[NativeRow] = &[NativeRow::new("buffer:concat", concat)];

/// Most bytes a buffer may hold.
const SIZE_MAX: f64 = 2_147_483_392.0;
/// Largest hash part, bits.
const HASH_BITS_MAX: u32 = 26;
/// Nesting of serialised tables.
const DEPTH_MAX: u32 = 100;

/// A byte queue.
#[derive(Default)]
struct Buffer {
    data: Vec<u8>,
    r: usize,
    w: usize,
}

impl Buffer {
    fn readable(&self) -> &[u8] {
        &self.data[self.r..self.w]
    }

    /// The place to append to: everything behind the readable part is forgotten.
    fn writer(&mut self) -> &mut Vec<u8> {
        self.data.truncate(self.w);
        &mut self.data
    }

    /// Takes in what was appended.
    fn written(&mut self) {
        self.w = self.data.len();
    }

    fn append(&mut self, bytes: &[u8]) {
        self.writer().extend_from_slice(bytes);
        self.written();
    }

    fn consume(&mut self, n: usize) {
        self.r += n.min(self.w - self.r);
        if self.r == self.w {
            self.clear();
        } else if self.r > 65536 && self.r > self.data.len() / 2 {
            // Long-lived queues must not keep all that ever went through them.
            self.data.drain(..self.r);
            self.w -= self.r;
            self.r = 0;
        }
    }

    fn clear(&mut self) {
        self.data.clear();
        (self.r, self.w) = (0, 0);
    }
}

/// Slots of a buffer's environment: dictionaries and their inverses.
const DICT: i32 = 1;
const DICT_INDEX: i32 = 2;
const METAS: i32 = 3;
const METAS_INDEX: i32 = 4;

/// Makes the module available to `require`.
pub fn open(vm: &mut Vm) {
    set_preload(vm, "string.buffer", NativeRow::new("string.buffer.load", load));
}

fn load(vm: &mut Vm, _: Entry) -> NativeResult {
    let meta = vm.heap.new_table(0, 5);
    vm.register(meta, METHODS);
    set_field(vm, meta, "__index", Value::obj(meta));
    let hidden = vm.heap.str(b"buffer");
    set_field(vm, meta, "__metatable", Value::obj(hidden));
    let own = vm.heap.new_table(0, 1);
    vm.register(own, CONCAT);
    let concat = own.get_bytes(&vm.heap, b"concat");
    vm.joined = Some(Joined { is: |vm, v| as_buffer(vm, v).is_some(), concat });
    let t = vm.heap.new_table(0, 2);
    vm.register(t, FNS);
    for row in FNS {
        super::give_upvalues(vm, t, row.name.rsplit('.').next().unwrap_or(""), &[Value::obj(meta)]);
    }
    Ok(Outcome::one(Value::obj(t)))
}

fn number_in_range(vm: &mut Vm, i: usize) -> Result<usize, Raised> {
    let v = vm.arg(i);
    // Unlike other numbers that functions take: no text, but 64-bit integers.
    let n = match v.as_num() {
        Some(n) => n,
        None => match vm.cdata.as_ref().and_then(|h| h.packed(vm, v)) {
            Some(Packed::Int64(n)) => n as f64,
            Some(Packed::Uint64(n)) => n as f64,
            _ => return Err(vm.type_error(i, "number")),
        },
    };
    if !(0.0..=SIZE_MAX).contains(&n) {
        return Err(vm.arg_error(i, b"number out of range"));
    }
    Ok(n as usize)
}

/// The readable bytes of a value that is a buffer.
pub(super) fn readable(vm: &Vm, v: Value) -> Option<Vec<u8>> {
    Some(v.as_obj::<Userdata>()?.downcast::<Buffer>(&vm.heap)?.readable().to_vec())
}

fn as_buffer(vm: &Vm, v: Value) -> Option<Gc<Userdata>> {
    v.as_obj::<Userdata>().filter(|u| u.downcast::<Buffer>(&vm.heap).is_some())
}

/// The buffer in argument `i`. Raises `buffer expected, got x`.
fn check_buffer(vm: &mut Vm, i: usize) -> Result<Gc<Userdata>, Raised> {
    match as_buffer(vm, vm.arg(i)) {
        Some(u) => Ok(u),
        None => Err(vm.type_error(i, "buffer")),
    }
}

fn buffer<'a>(heap: &'a Heap, u: Gc<Userdata>) -> &'a Buffer {
    u.downcast(heap).expect("its type was checked")
}

fn buffer_mut<'a>(heap: &'a mut Heap, u: Gc<Userdata>) -> &'a mut Buffer {
    u.downcast_mut(heap).expect("its type was checked")
}

/// `buffer.new([size,] [options])`.
fn new(vm: &mut Vm, e: Entry) -> NativeResult {
    let mut options = 0;
    let mut size = 0;
    if e.count() > 0 && !vm.arg(0).is::<Table>() {
        options = 1;
        if !vm.arg(0).is_nil() {
            size = number_in_range(vm, 0)?;
        }
    }
    let meta = vm.upvalue(0).as_obj::<Table>();
    let b = Buffer { data: Vec::with_capacity(size.min(1 << 20)), r: 0, w: 0 };
    let u = vm.heap.new_udata(b, meta);
    if e.count() > options {
        let o = vm.check_tab(options)?;
        let env = vm.heap.new_table(5, 0);
        for (name, slot) in [("dict", DICT), ("metatable", METAS)] {
            let Some(list) = o.get_bytes(&vm.heap, name.as_bytes()).as_obj::<Table>() else { continue };
            let index = vm.heap.new_table(0, 0);
            let n = list.len(&vm.heap) as i64;
            for i in 1..=n {
                let v = list.geti(&vm.heap, i);
                let fits = if slot == DICT { v.is::<Str>() } else { v.is::<Table>() };
                // `false` keeps a place free; of equal entries the first one counts.
                if v == Value::FALSE || fits && !index.getv(&vm.heap, v).is_nil() {
                    continue;
                }
                if !fits {
                    return Err(vm.throw_str(b"bad options table"));
                }
                index.setv(&mut vm.heap, v, Value::num(i as f64)).map_err(|e| table_error(vm, e))?;
            }
            // There is room for all of them.
            let _ = env.seti(&mut vm.heap, slot, Value::obj(list));
            let _ = env.seti(&mut vm.heap, slot + 1, Value::obj(index));
        }
        u.get_mut(&mut vm.heap).env = Some(env);
        vm.heap.barrier(u);
    }
    Ok(Outcome::one(u.value()))
}

/// `buf:free()`: gives the memory back.
fn free(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    *buffer_mut(&mut vm.heap, u) = Buffer::default();
    Ok(Outcome::one(vm.arg(0)))
}

/// `buf:reset()`: empties it.
fn reset(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    buffer_mut(&mut vm.heap, u).clear();
    Ok(Outcome::one(vm.arg(0)))
}

/// `buf:skip(n)`.
fn skip(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let n = number_in_range(vm, 1)?;
    buffer_mut(&mut vm.heap, u).consume(n);
    Ok(Outcome::one(vm.arg(0)))
}

/// Refuses what would make the buffer too long.
fn check_size(vm: &mut Vm, u: Gc<Userdata>) -> Result<(), Raised> {
    let b = buffer_mut(&mut vm.heap, u);
    if b.w - b.r > SIZE_MAX as usize {
        b.clear();
        return Err(vm.throw_memory());
    }
    Ok(())
}

/// Appends a string, number or buffer; answers `false` if it is none of these.
fn put_one(vm: &mut Vm, u: Gc<Userdata>, i: usize, v: Value) -> Result<bool, Raised> {
    if let Some(s) = v.as_obj::<Str>() {
        let bytes = s.bytes(&vm.heap).to_vec();
        buffer_mut(&mut vm.heap, u).append(&bytes);
    } else if let Some(n) = v.as_num() {
        let b = buffer_mut(&mut vm.heap, u);
        number::write_number(n, b.writer());
        b.written();
    } else if let Some(other) = as_buffer(vm, v) {
        if other == u {
            return Err(vm.arg_error(i, b"cannot put buffer into itself"));
        }
        let bytes = buffer(&vm.heap, other).readable().to_vec();
        buffer_mut(&mut vm.heap, u).append(&bytes);
    } else {
        return Ok(false);
    }
    check_size(vm, u)?;
    Ok(true)
}

/// `buf:put(...)`: strings, numbers, buffers and what has a `__tostring`. May call Lua.
fn put(vm: &mut Vm, e: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    // On re-entry the label is the argument whose text has arrived.
    let mut from = 1;
    let n = if e.label() == 0 {
        e.count()
    } else {
        let n = vm.top_count() - e.count();
        let v = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
        vm.set_top(n);
        let i = e.label() as usize;
        if !put_one(vm, u, i, v)? {
            return Err(vm.type_error(i, "string/number/__tostring"));
        }
        from = i + 1;
        n
    };
    for i in from..n {
        let v = vm.slot(i);
        if put_one(vm, u, i, v)? {
            continue;
        }
        let mm = vm.metamethod(v, Mm::Tostring);
        if mm.is_nil() {
            return Err(vm.type_error(i, "string/number/__tostring"));
        }
        vm.prepare_call(mm);
        vm.push(v);
        return Ok(Outcome::call(1, i as u32));
    }
    Ok(Outcome::one(vm.slot(0)))
}

/// `buf:putf(format, ...)`. May call Lua (`__tostring`).
fn putf(vm: &mut Vm, e: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    match format_values(vm, e, 1)? {
        Err(call) => Ok(call),
        Ok(text) => {
            buffer_mut(&mut vm.heap, u).append(&text);
            vm.keep_buffer(text);
            check_size(vm, u)?;
            Ok(Outcome::one(vm.slot(0)))
        }
    }
}

/// The bytes at a C data pointer argument, `len` in the next one.
fn cdata_bytes(vm: &mut Vm, i: usize) -> Result<Vec<u8>, Raised> {
    let v = vm.arg(i);
    let addr = vm.cdata.as_ref().and_then(|h| h.to_pointer(vm, v));
    let Some(addr) = addr else {
        let name = vm.cdata.as_ref().map(|h| h.type_name(vm, v));
        return Err(match name {
            Some(name) if v.tag() == tag::CDATA => {
                let text = [b"cannot convert '", &name[..], b"' to 'const void *'"].concat();
                vm.arg_error(i, &text)
            }
            _ => vm.type_error(i, "cdata"),
        });
    };
    let n = number_in_range(vm, i + 1)?;
    if addr == 0 && n > 0 {
        return Err(vm.arg_error(i, b"null pointer"));
    }
    // SAFETY is the program's, as with every pointer the ffi hands out: it says how many bytes there are.
    Ok(sys::bytes_at(addr, n))
}

/// `buf:putcdata(pointer, len)`.
fn putcdata(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let bytes = cdata_bytes(vm, 1)?;
    buffer_mut(&mut vm.heap, u).append(&bytes);
    check_size(vm, u)?;
    Ok(Outcome::one(vm.arg(0)))
}

/// `buf:set(string)` or `buf:set(pointer, len)`.
fn set(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let bytes = if vm.arg(1).tag() == tag::CDATA {
        cdata_bytes(vm, 1)?
    } else {
        // Text only: numbers have no bytes the buffer could keep.
        match vm.arg(1).as_obj::<Str>() {
            Some(s) => s.bytes(&vm.heap).to_vec(),
            None => return Err(vm.type_error(1, "string")),
        }
    };
    *buffer_mut(&mut vm.heap, u) = Buffer { w: bytes.len(), r: 0, data: bytes };
    Ok(Outcome::one(vm.arg(0)))
}

/// `buf:get(len...)`: takes bytes from the front; nil or nothing means all.
fn get(vm: &mut Vm, e: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let n = e.count().max(2);
    vm.ensure_slots(n)?;
    for i in 1..n {
        let want = if vm.arg(i).is_nil() { usize::MAX } else { number_in_range(vm, i)? };
        let b = buffer(&vm.heap, u).readable();
        let bytes = b[..want.min(b.len())].to_vec();
        let v = new_string(vm, &bytes)?;
        vm.push(v);
        buffer_mut(&mut vm.heap, u).consume(bytes.len());
    }
    Ok(Outcome::top(n - 1))
}

fn pointer(vm: &mut Vm, addr: *const u8, len: usize) -> NativeResult {
    if vm.cdata.is_none() {
        return Err(vm.throw_str(b"pointers into a buffer need the ffi library"));
    }
    let cd = vm.heap.new_int64(ctid::P_UINT8, addr as u64);
    vm.push(Value::obj(cd));
    vm.push(Value::num(len as f64));
    Ok(Outcome::top(2))
}

/// `buf:reserve(n)`: pointer to at least `n` writable bytes behind the contents, and how many there are.
fn reserve(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let n = number_in_range(vm, 1)?;
    if vm.heap.may_alloc(n).is_err() {
        return Err(vm.throw_memory());
    }
    let b = buffer_mut(&mut vm.heap, u);
    let room = n.max(32);
    b.data.resize(b.w + room, 0);
    let addr = b.data.as_mut_ptr().wrapping_add(b.w);
    pointer(vm, addr, room)
}

/// `buf:commit(n)`: takes in `n` bytes written behind the contents. Raises `number out of range`.
fn commit(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let n = number_in_range(vm, 1)?;
    let b = buffer_mut(&mut vm.heap, u);
    if n > b.data.len() - b.w {
        return Err(vm.arg_error(1, b"number out of range"));
    }
    b.w += n;
    Ok(Outcome::one(vm.arg(0)))
}

/// `buf:ref()`: pointer to the contents, and their length.
fn ref_(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let b = buffer_mut(&mut vm.heap, u);
    let (addr, len) = (b.data.as_ptr().wrapping_add(b.r), b.w - b.r);
    pointer(vm, addr, len)
}

/// `buf:tostring()` and `tostring(buf)`.
fn tostring(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let bytes = buffer(&vm.heap, u).readable().to_vec();
    Ok(Outcome::one(new_string(vm, &bytes)?))
}

/// `#buf`.
fn len(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    Ok(Outcome::one(Value::num(buffer(&vm.heap, u).readable().len() as f64)))
}

/// `a .. b` with a buffer on one side, and text or another one on the other: a string.
fn concat(vm: &mut Vm, _: Entry) -> NativeResult {
    let mut out = Vec::new();
    for i in 0..2 {
        let v = vm.arg(i);
        match as_buffer(vm, v) {
            Some(u) => out.extend_from_slice(buffer(&vm.heap, u).readable()),
            None => out.extend_from_slice(&vm.raw_text(v)),
        }
    }
    Ok(Outcome::one(new_string(vm, &out)?))
}

// Serialising.

struct Encoder<'a> {
    vm: &'a Vm,
    dict: Option<Gc<Table>>,
    metas: Option<Gc<Table>>,
    out: Vec<u8>,
    /// Length of `out` when its size was last looked at: a table that occurs often makes much of little.
    looked_at: usize,
}

fn dictionary(vm: &Vm, u: Option<Gc<Userdata>>, slot: i32) -> Option<Gc<Table>> {
    u?.get(&vm.heap).env?.geti(&vm.heap, slot).as_obj()
}

impl Encoder<'_> {
    /// A number of up to 32 bits, short ones in fewer bytes.
    fn number(&mut self, n: u32) {
        match n {
            0..=0xdf => self.out.push(n as u8),
            0xe0..=0x1fdf => {
                let n = n - 0xe0;
                self.out.extend_from_slice(&[0xe0 | (n >> 8) as u8, n as u8]);
            }
            _ => {
                self.out.push(0xff);
                self.out.extend_from_slice(&n.to_le_bytes());
            }
        }
    }

    fn string(&mut self, s: &[u8]) {
        self.number(s.len() as u32 + 0x20);
        self.out.extend_from_slice(s);
    }

    fn value(&mut self, v: Value, depth: u32) -> Result<(), Vec<u8>> {
        match v.tag() {
            tag::NIL => self.out.push(0),
            tag::FALSE => self.out.push(1),
            tag::TRUE => self.out.push(2),
            tag::LIGHTUD => match self.vm.lightud_addr(v) {
                0 => self.out.push(3),
                a if a >> 32 == 0 => {
                    self.out.push(4);
                    self.out.extend_from_slice(&(a as u32).to_le_bytes());
                }
                a => {
                    self.out.push(5);
                    self.out.extend_from_slice(&a.to_le_bytes());
                }
            },
            tag::STR => {
                if let Some(s) = v.as_obj::<Str>() {
                    self.string(s.bytes(&self.vm.heap));
                }
            }
            tag::TAB => {
                if let Some(t) = v.as_obj::<Table>() {
                    return self.table(t, depth);
                }
            }
            tag::CDATA => {
                match self.vm.cdata.as_ref().and_then(|h| h.packed(self.vm, v)) {
                    Some(Packed::Int64(n)) => {
                        self.out.push(0x10);
                        self.out.extend_from_slice(&n.to_le_bytes());
                    }
                    Some(Packed::Uint64(n)) => {
                        self.out.push(0x11);
                        self.out.extend_from_slice(&n.to_le_bytes());
                    }
                    Some(Packed::Complex(re, im)) => {
                        self.out.push(0x12);
                        self.out.extend_from_slice(&re.to_le_bytes());
                        self.out.extend_from_slice(&im.to_le_bytes());
                    }
                    None => return Err(b"cannot serialize 'cdata'".to_vec()),
                };
            }
            _ => match v.as_num() {
                Some(n) => {
                    self.out.push(7);
                    self.out.extend_from_slice(&n.to_le_bytes());
                }
                None => return Err(format!("cannot serialize '{}'", v.type_name()).into_bytes()),
            },
        }
        Ok(())
    }

    fn table(&mut self, t: Gc<Table>, depth: u32) -> Result<(), Vec<u8>> {
        if depth == 0 {
            return Err(b"too deep to serialize".to_vec());
        }
        let heap = &self.vm.heap;
        if !super::has_room(heap, self.out.len(), &mut self.looked_at) {
            return Err(NO_MEMORY.as_bytes().to_vec());
        }
        if let (Some(metas), Some(m)) = (self.metas, t.get(heap).meta)
            && let Some(i) = metas.getv(heap, Value::obj(m)).as_num()
        {
            self.out.push(0x0e);
            self.number(i as u32 - 1);
        }
        // The array part without its trailing nils; slot 0 counts if it is used.
        let array = t.get(heap).array();
        let narray = array.iter().rposition(|v| !v.is_nil()).map_or(0, |i| i + 1);
        let from_one = narray > 0 && array[0].is_nil();
        let mut pairs = Vec::new();
        let mut at = 0;
        while let Some((next, k, v)) = t.next_at(heap, at) {
            let in_array = k.as_num().is_some_and(|n| n >= 0.0 && n < narray as f64 && n == n.floor());
            if !in_array {
                pairs.push((k, v));
            }
            at = next;
        }
        let kind = if narray == 0 {
            0
        } else if from_one {
            4
        } else {
            2
        };
        self.out.push(8 + kind + !pairs.is_empty() as u8);
        if narray > 0 {
            self.number(narray as u32);
        }
        if !pairs.is_empty() {
            self.number(pairs.len() as u32);
        }
        for i in from_one as i64..narray as i64 {
            self.value(t.geti(heap, i), depth - 1)?;
        }
        for (k, v) in pairs {
            let known = match (self.dict, k.is::<Str>()) {
                (Some(d), true) => d.getv(heap, k).as_num(),
                _ => None,
            };
            match known {
                Some(i) => {
                    self.out.push(0x0f);
                    self.number(i as u32 - 1);
                }
                None => self.value(k, depth - 1)?,
            }
            self.value(v, depth - 1)?;
        }
        Ok(())
    }
}

fn encode_value(vm: &mut Vm, v: Value, u: Option<Gc<Userdata>>) -> Result<Vec<u8>, Raised> {
    let mut enc = Encoder {
        vm,
        dict: dictionary(vm, u, DICT_INDEX),
        metas: dictionary(vm, u, METAS_INDEX),
        out: Vec::new(),
        looked_at: 0,
    };
    match enc.value(v, DEPTH_MAX) {
        Ok(()) => Ok(enc.out),
        Err(text) if text == NO_MEMORY.as_bytes() => Err(vm.throw_memory()),
        Err(text) => Err(vm.throw_str(&text)),
    }
}

/// `buffer.encode(v)`: a string. Raises `cannot serialize 'function'`, `too deep to serialize`.
fn encode(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.check_any(0)?;
    let out = encode_value(vm, v, None)?;
    Ok(Outcome::one(new_string(vm, &out)?))
}

/// `buf:encode(v)`: appends.
fn method_encode(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let v = vm.check_any(1)?;
    let out = encode_value(vm, v, Some(u))?;
    buffer_mut(&mut vm.heap, u).append(&out);
    check_size(vm, u)?;
    Ok(Outcome::one(vm.arg(0)))
}

struct Decoder<'a> {
    vm: &'a mut Vm,
    src: &'a [u8],
    dict: Option<Gc<Table>>,
    metas: Option<Gc<Table>>,
}

const END: &[u8] = b"unexpected end of buffer";

impl Decoder<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8], Vec<u8>> {
        if n > self.src.len() {
            return Err(END.to_vec());
        }
        let (head, rest) = self.src.split_at(n);
        self.src = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, Vec<u8>> {
        Ok(self.take(1)?[0])
    }

    fn word32(&mut self) -> Result<u32, Vec<u8>> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn word64(&mut self) -> Result<u64, Vec<u8>> {
        let low = self.word32()? as u64;
        Ok(low | (self.word32()? as u64) << 32)
    }

    /// A number of up to 32 bits: a tag, the length of a text among them.
    fn number(&mut self) -> Result<u32, Vec<u8>> {
        let first = self.byte()?;
        match first {
            0..=0xdf => Ok(first as u32),
            0xe0..=0xfe => Ok(((first as u32 & 0x1f) << 8 | self.byte()? as u32) + 0xe0),
            0xff => self.word32(),
        }
    }

    fn indexed(&mut self, list: Option<Gc<Table>>) -> Result<Value, Vec<u8>> {
        let i = self.number()?;
        match list.map(|d| d.geti(&self.vm.heap, i as i64 + 1)) {
            Some(v) if v.is::<Str>() || v.is::<Table>() => Ok(v),
            _ => Err(format!("cannot deserialize dictionary index {}", i as u64 + 1).into_bytes()),
        }
    }

    fn value(&mut self, depth: u32) -> Result<Value, Vec<u8>> {
        let t = self.number()?;
        match t {
            0 => Ok(Value::NIL),
            1 => Ok(Value::FALSE),
            2 => Ok(Value::TRUE),
            3 => Ok(Value::lightud_raw(0)),
            4 | 5 => {
                let a = if t == 4 { self.word32()? as u64 } else { self.word64()? };
                self.vm.lightud(a).ok_or_else(|| b"cannot deserialize tag 0x05".to_vec())
            }
            6 => Ok(Value::int(self.word32()? as i32)),
            7 => Ok(Value::num(f64::from_bits(self.word64()?))),
            8..=0x0d => self.table(t as u8, None, depth),
            0x0e => {
                let meta = self.indexed(self.metas)?;
                let t = self.byte()?;
                if !(8..=0x0d).contains(&t) {
                    return Err(format!("cannot deserialize tag 0x{t:02x}").into_bytes());
                }
                self.table(t, meta.as_obj(), depth)
            }
            0x0f => self.indexed(self.dict),
            0x10 | 0x11 if self.vm.cdata.is_some() => {
                let bits = self.word64()?;
                let id = if t == 0x10 { ctid::INT64 } else { ctid::UINT64 };
                Ok(Value::obj(self.vm.heap.new_int64(id, bits)))
            }
            0x12 if self.vm.cdata.is_some() => {
                let (re, im) = (f64::from_bits(self.word64()?), f64::from_bits(self.word64()?));
                Ok(Value::obj(self.vm.heap.new_complex(re, im)))
            }
            0x20.. => {
                let bytes = self.take(t as usize - 0x20)?.to_vec();
                Ok(Value::obj(self.vm.heap.str(&bytes)))
            }
            _ => Err(format!("cannot deserialize tag 0x{t:02x}").into_bytes()),
        }
    }

    fn table(&mut self, kind: u8, meta: Option<Gc<Table>>, depth: u32) -> Result<Value, Vec<u8>> {
        if depth == 0 {
            return Err(b"too deep to serialize".to_vec());
        }
        let narray = if kind >= 0x0a { self.number()? } else { 0 };
        let nhash = if kind & 1 != 0 { self.number()? } else { 0 };
        if narray as usize > crate::limits::TABLE_ARRAY_MAX || nhash > 1 << HASH_BITS_MAX {
            return Err(crate::error::messages::TABLE_OVERFLOW.as_bytes().to_vec());
        }
        // Every element takes at least one byte: no promise makes us reserve more than was sent.
        if narray as usize > self.src.len() + 1 || nhash as usize * 2 > self.src.len() {
            return Err(END.to_vec());
        }
        if self.vm.heap.may_alloc(narray as usize * 8 + nhash as usize * 24).is_err() {
            return Err(NO_MEMORY.as_bytes().to_vec());
        }
        let t = self.vm.heap.new_table(narray, crate::table::hash_bits(nhash as usize));
        if meta.is_some() {
            self.vm.heap.set_metatable(t, meta);
        }
        for i in (kind >= 0x0c) as u32..narray {
            let v = self.value(depth - 1)?;
            t.seti(&mut self.vm.heap, i as i64, v).map_err(|e| refused(e, "table overflow"))?;
        }
        for _ in 0..nhash {
            let k = self.value(depth - 1)?;
            let v = self.value(depth - 1)?;
            if k.is_nil() {
                return Err(crate::error::messages::INDEX_NIL.as_bytes().to_vec());
            }
            if !t.getv(&self.vm.heap, k).is_nil() {
                return Err(b"duplicate table key".to_vec());
            }
            t.setv(&mut self.vm.heap, k, v).map_err(|e| refused(e, "duplicate table key"))?;
        }
        Ok(Value::obj(t))
    }
}

/// Decodes one value; answers it and how many bytes it took.
fn decode_value(vm: &mut Vm, src: &[u8], u: Option<Gc<Userdata>>) -> Result<(Value, usize), Raised> {
    let (dict, metas) = (dictionary(vm, u, DICT), dictionary(vm, u, METAS));
    let mut d = Decoder { vm, src, dict, metas };
    let r = d.value(DEPTH_MAX);
    let left = d.src.len();
    match r {
        Ok(v) => Ok((v, src.len() - left)),
        Err(text) if text == NO_MEMORY.as_bytes() => Err(vm.throw_memory()),
        Err(text) => Err(vm.throw_str(&text)),
    }
}

/// `buffer.decode(s)`. Raises `unexpected end of buffer`, `left-over data in buffer` and the like.
fn decode(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(src) = vm.arg(0).as_obj::<Str>() else { return Err(vm.type_error(0, "string")) };
    let src = src.bytes(&vm.heap).to_vec();
    let (v, used) = decode_value(vm, &src, None)?;
    if used < src.len() {
        return Err(vm.throw_str(b"left-over data in buffer"));
    }
    Ok(Outcome::one(v))
}

/// `buf:decode()`: takes one value from the front.
fn method_decode(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = check_buffer(vm, 0)?;
    let src = buffer(&vm.heap, u).readable().to_vec();
    let (v, used) = decode_value(vm, &src, Some(u))?;
    buffer_mut(&mut vm.heap, u).consume(used);
    Ok(Outcome::one(v))
}

/// A table that did not take an entry: for want of memory, or for `other` reasons.
fn refused(e: TableErr, other: &str) -> Vec<u8> {
    let text = if e == TableErr::Memory { NO_MEMORY } else { other };
    text.as_bytes().to_vec()
}
