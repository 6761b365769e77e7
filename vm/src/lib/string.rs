//! The string library. Patterns and format specifications are in their own files.

use std::rc::Rc;

use super::format::{self, Piece, Pieces, Spec};
use super::pattern::{Capture, Captures, Matcher, Pattern, PatternError, has_magic};
use super::{Indexed, new_string};
use crate::bytecode::ops::Mm;
use crate::chunk::dump::DumpOptions;
use crate::error::messages as msg;
use crate::function::closure::Func;
use crate::heap::gc_ref::Gc;
use crate::index::NativeId;
use crate::interp::handlers::builtin as fast;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised, Takes};
use crate::string::Str;
use crate::string::intern::append;
use crate::table::Table;
use crate::userdata::Userdata;
use crate::value::{Value, number, tag};

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("string.byte", byte).plain(Takes::Values).with_fast(fast::STRBYTE),
    NativeRow::new("string.char", char_).plain(Takes::Values).with_fast(fast::STRCHAR),
    NativeRow::new("string.dump", dump),
    NativeRow::new("string.find", find).plain(Takes::Values),
    NativeRow::new("string.format", format_).plain(Takes::Values),
    NativeRow::new("string.gmatch", gmatch).plain(Takes::Values),
    NativeRow::new("string.gsub", gsub).plain(Takes::Values),
    NativeRow::new("string.len", len).with_fast(fast::STRLEN),
    NativeRow::new("string.lower", lower).plain(Takes::Values),
    NativeRow::new("string.match", match_).plain(Takes::Values),
    NativeRow::new("string.rep", rep).plain(Takes::Values),
    NativeRow::new("string.reverse", reverse).plain(Takes::Values),
    NativeRow::new("string.sub", sub).plain(Takes::Values).with_fast(fast::STRSUB),
    NativeRow::new("string.upper", upper).plain(Takes::Values),
];

/// Opens the library and gives strings their metatable.
pub fn open(vm: &mut Vm) {
    let t = super::new_library(vm, "string", FNS);
    let aux = vm.new_native(NativeRow::new("string.gmatch_aux", gmatch_aux).plain(Takes::Values), &[]);
    super::give_upvalues(vm, t, "gmatch", &[Value::obj(aux)]);
    let meta = vm.heap.new_table(0, 1);
    super::set_field(vm, meta, "__index", Value::obj(t));
    let empty = vm.heap.str(b"");
    vm.set_base_metatable(Value::obj(empty), Some(meta));
}

/// Bytes of the zero-based range that Lua's `i, j` mean in a string of `len` bytes.
pub(super) fn range(len: usize, i: i32, j: i32) -> std::ops::Range<usize> {
    let len = len as i64;
    let start = match i as i64 {
        i if i < 0 => (len + i + 1).max(1),
        i => i.max(1),
    };
    let stop = match j as i64 {
        j if j < 0 => len + j + 1,
        j => j.min(len),
    };
    if start > stop { 0..0 } else { start as usize - 1..stop as usize }
}

/// `string.len(s)`.
fn len(vm: &mut Vm, _: Entry) -> NativeResult {
    vm.fill_params(1);
    let s = vm.check_str(0)?;
    Ok(Outcome::one(Value::num(s.get(&vm.heap).len as f64)))
}

/// `string.sub(s, i, j)`.
fn sub(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = vm.check_str(0)?;
    let i = vm.check_int(1)?;
    let j = vm.opt_int(2, -1)?;
    let n = s.get(&vm.heap).len as usize;
    let r = range(n, i, j);
    if r.len() == n {
        return Ok(Outcome::one(Value::obj(s)));
    }
    if r.len() > 65536 && vm.heap.may_alloc(r.len()).is_err() {
        return Err(vm.throw_memory());
    }
    Ok(Outcome::one(Value::obj(vm.heap.str_sub(s, r.start, r.len()))))
}

/// `string.byte(s, i, j)`. Raises `string slice too long`.
fn byte(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = vm.check_str(0)?;
    let i = vm.opt_int(1, 1)?;
    let j = vm.opt_int(2, i)?;
    let r = range(s.get(&vm.heap).len as usize, i, j);
    match r.len() {
        0 => return Ok(Outcome::none()),
        1 => return Ok(Outcome::one(Value::int(s.bytes(&vm.heap)[r.start] as i32))),
        n if n > 8000 || vm.ensure_slots(n).is_err() => {
            return Err(vm.throw_str(b"string slice too long"));
        }
        _ => {}
    }
    let n = r.len();
    for at in r {
        let c = s.bytes(&vm.heap)[at];
        vm.push(Value::int(c as i32));
    }
    Ok(Outcome::top(n))
}

/// `string.char(...)`. Raises `invalid value`.
fn char_(vm: &mut Vm, e: Entry) -> NativeResult {
    let mut out = Vec::with_capacity(e.count());
    for i in 0..e.count() {
        match u8::try_from(vm.check_int(i)?) {
            Ok(c) => out.push(c),
            Err(_) => return Err(vm.arg_error(i, b"invalid value")),
        }
    }
    Ok(Outcome::one(new_string(vm, &out)?))
}

/// `string.lower(s)`: ASCII letters only.
fn lower(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = vm.check_str(0)?;
    let out = s.bytes(&vm.heap).to_ascii_lowercase();
    Ok(Outcome::one(new_string(vm, &out)?))
}

/// `string.upper(s)`: ASCII letters only.
fn upper(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = vm.check_str(0)?;
    let out = s.bytes(&vm.heap).to_ascii_uppercase();
    Ok(Outcome::one(new_string(vm, &out)?))
}

/// `string.reverse(s)`.
fn reverse(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = vm.check_str(0)?;
    let out: Vec<u8> = s.bytes(&vm.heap).iter().rev().copied().collect();
    Ok(Outcome::one(new_string(vm, &out)?))
}

/// `string.rep(s, n, sep)`. Raises `string length overflow`, `not enough memory`.
fn rep(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = vm.check_str(0)?;
    let n = vm.check_int(1)?.max(0) as usize;
    let sep = vm.opt_str(2)?;
    if n == 0 {
        return Ok(Outcome::one(Value::obj(vm.heap.str(b""))));
    }
    let unit = s.get(&vm.heap).len as usize + sep.map_or(0, |p| p.get(&vm.heap).len as usize);
    let total = unit * n - sep.map_or(0, |p| p.get(&vm.heap).len as usize);
    if total > crate::limits::STR_LEN_MAX {
        return Err(vm.throw_memory());
    }
    if total > 65536 {
        vm.make_room(2 * total)?;
    }
    let src = s.bytes(&vm.heap);
    let out = match sep {
        None if src.len() == 1 => vec![src[0]; n],
        None => src.repeat(n),
        Some(sep) => {
            let sep = sep.bytes(&vm.heap);
            let mut out = Vec::with_capacity(total);
            out.extend_from_slice(src);
            for _ in 1..n {
                out.extend_from_slice(sep);
                out.extend_from_slice(src);
            }
            out
        }
    };
    Ok(Outcome::one(new_string(vm, &out)?))
}

/// `string.dump(f, mode)`: bytecode of a Lua function. `mode` is true to leave out names and lines, or
/// a string of `s` (the same) and `d` (the same bytes whatever the order of keys in memory). Raises
/// `unable to dump given function`.
fn dump(vm: &mut Vm, _: Entry) -> NativeResult {
    let f = vm.check_func(0)?;
    let mode = vm.arg(1);
    let mut options = DumpOptions { strip: mode.truthy(), deterministic: false };
    if let Some(s) = mode.as_obj::<Str>() {
        let flags = s.bytes(&vm.heap);
        options = DumpOptions { strip: flags.contains(&b's'), deterministic: flags.contains(&b'd') };
    }
    match vm.dump_function(f, options) {
        Some(bytes) => Ok(Outcome::one(new_string(vm, &bytes)?)),
        None => Err(vm.throw_str(b"unable to dump given function")),
    }
}

// Patterns.

const CACHE_SIZE: usize = 64;

/// Compiled patterns, by the hash of their text.
struct PatternCache {
    entries: [Option<(Box<[u8]>, bool, Rc<Pattern>)>; CACHE_SIZE],
}

impl PatternCache {
    fn place(hash: u32) -> usize {
        (hash >> 16 ^ hash) as usize % CACHE_SIZE
    }

    fn find(&self, hash: u32, text: &[u8], anchors: bool) -> Option<Rc<Pattern>> {
        match &self.entries[PatternCache::place(hash)] {
            Some((key, a, p)) if *a == anchors && **key == *text => Some(p.clone()),
            _ => None,
        }
    }
}

/// The compiled form of a pattern string, from the cache if it was used lately.
fn compiled(vm: &mut Vm, pattern: Gc<Str>, anchors: bool) -> Rc<Pattern> {
    let hash = vm.heap.str_hash(pattern) ^ anchors as u32;
    let text = pattern.bytes(&vm.heap);
    match vm.app.get::<PatternCache>().and_then(|c| c.find(hash, text, anchors)) {
        Some(p) => p,
        None => compile(vm, pattern, hash, anchors),
    }
}

#[cold]
fn compile(vm: &mut Vm, pattern: Gc<Str>, hash: u32, anchors: bool) -> Rc<Pattern> {
    if vm.app.get::<PatternCache>().is_none() {
        vm.app.set(PatternCache { entries: [const { None }; CACHE_SIZE] });
    }
    let text = pattern.bytes(&vm.heap);
    let p = Rc::new(Pattern::new(text, anchors));
    if let Some(cache) = vm.app.get_mut::<PatternCache>() {
        cache.entries[PatternCache::place(hash)] = Some((text.into(), anchors, p.clone()));
    }
    p
}

fn pattern_error(vm: &mut Vm, e: PatternError) -> Raised {
    vm.throw_str(e.text().as_bytes())
}

/// A search that minds the VM's limits: one that backtracks for ever ends with their error.
fn limited_search(
    vm: &mut Vm,
    s: Gc<Str>,
    pattern: &Pattern,
    at: usize,
    caps: &mut Captures,
) -> Result<Option<(usize, usize)>, Raised> {
    let mut scale = 1;
    loop {
        let go_on = |steps: u64| vm.may_go_on(steps / scale);
        let mut m = Matcher::new(s.bytes(&vm.heap), pattern, caps).watched(&go_on);
        let found = m.search(at);
        let steps = m.steps;
        match found {
            Ok(found) => {
                vm.charge_steps(steps);
                return Ok(found);
            }
            Err(PatternError::Stopped) => {
                // The host may let it go on: then it gets further than before.
                vm.steps_exhausted()?;
                scale *= 2;
            }
            Err(e) => return Err(pattern_error(vm, e)),
        }
    }
}

/// One capture of `s` as a value.
fn capture_value(vm: &mut Vm, s: Gc<Str>, c: Capture) -> Value {
    match c {
        Capture::Position(n) => Value::num(n as f64),
        Capture::Range(a, b) => Value::obj(vm.heap.str_sub(s, a, b - a)),
    }
}

/// Pushes the captures of a match (the whole match if it has none and `whole`); answers how many.
fn push_captures(
    vm: &mut Vm,
    s: Gc<Str>,
    caps: &Captures,
    start: usize,
    end: usize,
    whole: bool,
) -> Result<usize, Raised> {
    let n = if caps.is_empty() && whole { 1 } else { caps.len() };
    vm.ensure_slots(n)?;
    for i in 0..n {
        match caps.get(i, start, end) {
            Ok(c) => {
                let v = capture_value(vm, s, c);
                vm.push(v);
            }
            Err(e) => return Err(pattern_error(vm, e)),
        }
    }
    Ok(n)
}

/// `string.find(s, pattern, init, plain)`: start, end and captures, or nil.
fn find(vm: &mut Vm, _: Entry) -> NativeResult {
    search(vm, true)
}

/// `string.match(s, pattern, init)`: the captures or the whole match, or nil.
fn match_(vm: &mut Vm, _: Entry) -> NativeResult {
    search(vm, false)
}

fn search(vm: &mut Vm, find: bool) -> NativeResult {
    let s = vm.check_str(0)?;
    let p = vm.check_str(1)?;
    let init = vm.opt_int(2, 1)? as i64;
    let len = s.get(&vm.heap).len as usize;
    let mut start = if init < 0 { (len as i64 + init).max(0) } else { (init - 1).max(0) } as usize;
    if start > len {
        if vm.compat52 {
            return Ok(Outcome::one(Value::NIL));
        }
        start = len;
    }
    if find && (vm.arg(3).truthy() || !has_magic(p.bytes(&vm.heap))) {
        let needle = p.bytes(&vm.heap);
        let n = needle.len();
        return match find_plain(&s.bytes(&vm.heap)[start..], needle) {
            Some(at) => {
                vm.push(Value::num((start + at + 1) as f64));
                vm.push(Value::num((start + at + n) as f64));
                Ok(Outcome::top(2))
            }
            None => Ok(Outcome::one(Value::NIL)),
        };
    }
    let pattern = compiled(vm, p, true);
    let mut caps = Captures::default();
    match limited_search(vm, s, &pattern, start, &mut caps)? {
        None => Ok(Outcome::one(Value::NIL)),
        Some((a, b)) => {
            if find {
                vm.push(Value::num((a + 1) as f64));
                vm.push(Value::num(b as f64));
                let n = push_captures(vm, s, &caps, a, b, false)?;
                Ok(Outcome::top(n + 2))
            } else {
                let n = push_captures(vm, s, &caps, a, b, true)?;
                Ok(Outcome::top(n))
            }
        }
    }
}

/// First place of `needle`. Looks for its first byte; where that is common, the searcher that has to be prepared
/// pays off.
fn find_plain(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let Some(&first) = needle.first() else { return Some(0) };
    let mut at = 0;
    for _ in 0..16 {
        at += memchr::memchr(first, &hay[at..])?;
        if hay[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
    memchr::memmem::find(&hay[at..], needle).map(|i| at + i)
}

/// `string.gmatch(s, pattern)`: an iterator over all matches.
fn gmatch(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = vm.check_str(0)?;
    let p = vm.check_str(1)?;
    let aux = vm.upvalue(0).as_obj::<Func>().and_then(|f| f.as_native(&vm.heap));
    let id = aux.map_or(NativeId::new(0), |f| f.get(&vm.heap).id);
    let f = vm.native_func(id, &[Value::obj(s), Value::obj(p), Value::int(0)]);
    Ok(Outcome::one(Value::obj(f)))
}

fn gmatch_aux(vm: &mut Vm, _: Entry) -> NativeResult {
    let (Some(s), Some(p)) = (vm.upvalue(0).as_obj::<Str>(), vm.upvalue(1).as_obj::<Str>()) else {
        return Ok(Outcome::none());
    };
    let at = vm.upvalue(2).as_num().unwrap_or(0.0) as usize;
    if at > s.get(&vm.heap).len as usize {
        return Ok(Outcome::none());
    }
    let pattern = compiled(vm, p, false);
    let mut caps = Captures::default();
    match limited_search(vm, s, &pattern, at, &mut caps)? {
        None => {
            vm.set_upvalue(2, Value::num(f64::from(u32::MAX)));
            Ok(Outcome::none())
        }
        Some((a, b)) => {
            vm.set_upvalue(2, Value::num((if a == b { b + 1 } else { b }) as f64));
            let n = push_captures(vm, s, &caps, a, b, true)?;
            Ok(Outcome::top(n))
        }
    }
}

/// What `gsub` keeps while a callback runs.
struct Gsub {
    out: Vec<u8>,
    pattern: Rc<Pattern>,
    /// Where to go on in the subject.
    at: usize,
    /// Matches so far and most matches wanted.
    count: usize,
    limit: usize,
    /// The match whose replacement is being asked for.
    start: usize,
    end: usize,
}

/// Kept in a slot so that a dropped coroutine frees it.
type GsubCell = Option<Box<Gsub>>;

const GSUB_STATE: usize = 4;
/// Bytes of a result from which on the heap is asked for room.
const GSUB_ROOM: usize = 1 << 16;

impl Gsub {
    /// Goes on behind the match; answers whether that was the last one.
    fn advance(&mut self, src: &[u8]) -> bool {
        if self.end > self.start {
            self.at = self.end;
        } else if let Some(&c) = src.get(self.start) {
            self.out.push(c);
            self.at = self.start + 1;
        } else {
            self.at = src.len();
            return true;
        }
        self.pattern.anchored
    }

    /// Adds what a table or a function gave for the match.
    fn add_value(&mut self, vm: &mut Vm, s: Gc<Str>, v: Value) -> Result<(), Raised> {
        if !v.truthy() {
            self.out.extend_from_slice(&s.bytes(&vm.heap)[self.start..self.end]);
        } else if let Some(r) = v.as_obj::<Str>() {
            self.out.extend_from_slice(r.bytes(&vm.heap));
        } else if let Some(n) = v.as_num() {
            number::write_number(n, &mut self.out);
        } else {
            let text = format!("invalid replacement value (a {})", v.type_name());
            return Err(vm.throw_str(text.as_bytes()));
        }
        Ok(())
    }
}

/// `string.gsub(s, pattern, repl, n)`: the new string and the number of matches. May call Lua.
/// Raises `invalid replacement value (a table)`, `invalid capture index` and the pattern errors.
fn gsub(vm: &mut Vm, e: Entry) -> NativeResult {
    if e.label() == 0 {
        let s = vm.check_str(0)?;
        let p = vm.check_str(1)?;
        let repl = vm.arg(2);
        if repl.is_num() {
            vm.check_str(2)?;
        } else if !(repl.is::<Str>() || repl.is::<Table>() || repl.is::<Func>()) {
            return Err(vm.arg_error(2, b"string/function/table expected"));
        }
        let limit = match vm.arg(3) {
            Value::NIL => usize::MAX,
            _ => vm.check_int(3)?.max(0) as usize,
        };
        vm.set_top(GSUB_STATE);
        let pattern = compiled(vm, p, true);
        let mut out = std::mem::take(&mut vm.cat_buf);
        out.clear();
        return gsub_loop(vm, s, Gsub { out, pattern, at: 0, count: 0, limit, start: 0, end: 0 });
    }
    let value = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
    vm.set_top(GSUB_STATE + 1);
    let s = vm.check_str(0)?;
    let cell = vm.slot(GSUB_STATE).as_obj::<Userdata>();
    let Some(mut st) = cell.and_then(|c| c.downcast_mut::<GsubCell>(&mut vm.heap)).and_then(Option::take)
    else {
        return Err(vm.throw_plain(b"'gsub' has lost its state"));
    };
    st.add_value(vm, s, value)?;
    if st.advance(s.bytes(&vm.heap)) {
        return gsub_end(vm, s, *st);
    }
    gsub_loop(vm, s, *st)
}

fn gsub_loop(vm: &mut Vm, s: Gc<Str>, mut st: Gsub) -> NativeResult {
    let repl = vm.slot(2);
    let literal = repl.as_obj::<Str>();
    let simple = literal.is_some_and(|r| memchr::memchr(b'%', r.bytes(&vm.heap)).is_none());
    let pattern = st.pattern.clone();
    let mut caps = Captures::default();
    let mut room_for = GSUB_ROOM;
    while st.count < st.limit {
        if st.out.len() > room_for {
            if st.out.len() > crate::limits::STR_LEN_MAX {
                return Err(vm.throw_memory());
            }
            vm.make_room(2 * st.out.len())?;
            room_for = 2 * st.out.len();
        }
        let Some((a, b)) = limited_search(vm, s, &pattern, st.at, &mut caps)? else { break };
        let src = s.bytes(&vm.heap);
        st.out.extend_from_slice(&src[st.at..a]);
        st.count += 1;
        (st.start, st.end) = (a, b);
        // From here on the subject up to the match is in `out`.
        st.at = a;
        if let Some(r) = literal {
            let r = r.bytes(&vm.heap);
            if simple {
                st.out.extend_from_slice(r);
            } else if let Err(e) = expand(r, src, &caps, a, b, &mut st.out) {
                return Err(pattern_error(vm, e));
            }
        } else if repl.is::<Table>() {
            let key = match caps.get(0, a, b) {
                Ok(c) => capture_value(vm, s, c),
                Err(e) => return Err(pattern_error(vm, e)),
            };
            match super::index(vm, repl, key)? {
                Indexed::Value(v) => st.add_value(vm, s, v)?,
                Indexed::Call(f, object) => {
                    keep(vm, st);
                    vm.prepare_call(f);
                    vm.push(object);
                    vm.push(key);
                    return Ok(Outcome::call(2, 1));
                }
            }
        } else {
            keep(vm, st);
            vm.prepare_call(repl);
            let n = push_captures(vm, s, &caps, a, b, true)?;
            return Ok(Outcome::call(n, 1));
        }
        if st.advance(s.bytes(&vm.heap)) {
            break;
        }
    }
    gsub_end(vm, s, st)
}

/// Puts the state into its slot for the time of a call.
fn keep(vm: &mut Vm, st: Gsub) {
    let st = Box::new(st);
    let cell = vm.slot(GSUB_STATE).as_obj::<Userdata>();
    match cell.and_then(|c| c.downcast_mut::<GsubCell>(&mut vm.heap)) {
        Some(slot) => *slot = Some(st),
        None => {
            let u = vm.heap.new_udata::<GsubCell>(Some(st), None);
            vm.set_slot(GSUB_STATE, u.value());
        }
    }
}

fn gsub_end(vm: &mut Vm, s: Gc<Str>, mut st: Gsub) -> NativeResult {
    let r = if st.count == 0 {
        Value::obj(s)
    } else {
        st.out.extend_from_slice(&s.bytes(&vm.heap)[st.at..]);
        new_string(vm, &st.out)?
    };
    vm.keep_buffer(st.out);
    vm.push(r);
    vm.push(Value::num(st.count as f64));
    Ok(Outcome::top(2))
}

/// Adds a replacement string with its `%0` to `%9`; any other character behind `%` stands for itself.
fn expand(
    repl: &[u8],
    src: &[u8],
    caps: &Captures,
    start: usize,
    end: usize,
    out: &mut Vec<u8>,
) -> Result<(), PatternError> {
    let mut rest = repl;
    while let Some(at) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        // A string ends with a NUL nobody counts, which is what a lone `%` at the end quotes.
        let c = rest.get(at + 1).copied().unwrap_or(0);
        match c {
            b'0' => out.extend_from_slice(&src[start..end]),
            b'1'..=b'9' => match caps.get((c - b'1') as usize, start, end)? {
                Capture::Range(a, b) => out.extend_from_slice(&src[a..b]),
                Capture::Position(n) => number::write_number(n as f64, out),
            },
            c => out.push(c),
        }
        rest = rest.get(at + 2..).unwrap_or(&[]);
    }
    out.extend_from_slice(rest);
    Ok(())
}

// Formatting.

/// `string.format(format, ...)`. May call Lua (`__tostring`). Raises `invalid option '%y' to 'format'`,
/// `bad argument #2 to 'format' (number expected, got string)`.
fn format_(vm: &mut Vm, e: Entry) -> NativeResult {
    match format_values(vm, e, 0)? {
        Ok(out) => {
            let v = new_string(vm, &out)?;
            vm.keep_buffer(out);
            Ok(Outcome::one(v))
        }
        Err(call) => Ok(call),
    }
}

/// Formats by the format string in argument `first` and the arguments behind it. Answers the text, or a call
/// (of a `__tostring`) to make first; the caller's re-entry leads here again.
pub(super) fn format_values(vm: &mut Vm, e: Entry, first: usize) -> Result<Result<Vec<u8>, Outcome>, Raised> {
    // On re-entry the argument `label` gets the text its `__tostring` gave.
    let n;
    let mut from = first + 1;
    if e.label() == 0 {
        n = e.count();
        vm.check_str(first)?;
    } else {
        n = vm.top_count() - e.count();
        let v = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
        vm.set_top(n);
        let text = vm.tostring_raw(v);
        vm.set_slot(e.label() as usize, Value::obj(text));
        from = e.label() as usize + 1;
    }
    let fmt = vm.check_str(first)?;
    for i in from..n {
        let v = vm.slot(i);
        if v.is_num() || v.is::<Str>() || v.is_pri() {
            continue;
        }
        let mm = vm.metamethod(v, Mm::Tostring);
        if !mm.is_nil() && is_text_option(fmt.bytes(&vm.heap), i - first) {
            vm.prepare_call(mm);
            vm.push(v);
            return Ok(Err(Outcome::call(1, i as u32)));
        }
    }
    format_args(vm, fmt, first, n).map(Ok)
}

/// Is value `i` (from 1) formatted by `%s` or `%q`?
fn is_text_option(fmt: &[u8], i: usize) -> bool {
    let mut specs = Pieces::new(fmt).filter_map(|p| match p {
        Piece::Spec(spec) => Some(spec.letter),
        _ => None,
    });
    matches!(specs.nth(i - 1), Some(b's' | b'q'))
}

fn format_args(vm: &mut Vm, fmt: Gc<Str>, first: usize, nargs: usize) -> Result<Vec<u8>, Raised> {
    // The caller gives the buffer back.
    let mut out = std::mem::take(&mut vm.cat_buf);
    out.clear();
    let mut arg = first;
    let mut at = 0;
    loop {
        (at, arg) = format_plainly(vm, fmt, at, arg, nargs, &mut out);
        let mut pieces = Pieces::behind(fmt.bytes(&vm.heap), at);
        let Some(piece) = pieces.next() else { break };
        at = pieces.position();
        match piece {
            Piece::Literal(b) => out.extend_from_slice(b),
            Piece::Fault(b) => {
                let text = [b"invalid option '", b, b"' to 'format'"].concat();
                return Err(vm.throw_str(&text));
            }
            Piece::Spec(spec) => {
                arg += 1;
                if arg >= nargs {
                    return Err(vm.arg_error(arg, msg::NO_VALUE.as_bytes()));
                }
                format_one(vm, &spec, arg, &mut out)?;
            }
        }
    }
    Ok(out)
}

/// As far as a format string has nothing but text and `%d` and `%s` for numbers and strings: appends that. `at` is a
/// place in it, `arg` the last argument used; answers where the rest begins, and what was used then.
fn format_plainly(
    vm: &Vm,
    fmt: Gc<Str>,
    mut at: usize,
    mut arg: usize,
    nargs: usize,
    out: &mut Vec<u8>,
) -> (usize, usize) {
    let format = fmt.bytes(&vm.heap);
    loop {
        let rest = &format[at..];
        let text = rest.iter().position(|&c| c == b'%').unwrap_or(rest.len());
        append(out, &rest[..text]);
        at += text;
        let (Some(&letter @ (b'd' | b's')), true) = (rest.get(text + 1), arg + 1 < nargs) else { break };
        let v = vm.slot(arg + 1);
        if let Some(n) = v.as_num() {
            if letter == b'd' {
                number::write_int(number::to_i64(n), out);
            } else {
                number::write_number(n, out);
            }
        } else if letter == b's'
            && let Some(s) = v.as_obj::<Str>()
        {
            append(out, s.bytes(&vm.heap));
        } else {
            break;
        }
        at += 2;
        arg += 1;
    }
    (at, arg)
}

/// Writes argument `i` by a specification.
fn format_one(vm: &mut Vm, spec: &Spec, i: usize, out: &mut Vec<u8>) -> Result<(), Raised> {
    let v = vm.slot(i);
    match spec.letter {
        b'd' if v.is_num() && spec.is_plain() => number::write_int(number::to_i64(v.num_unchecked()), out),
        b's' if v.is_num() && spec.is_plain() => number::write_number(v.num_unchecked(), out),
        b'd' | b'i' | b'u' | b'x' | b'X' | b'o' => {
            if v.tag() == tag::CDATA
                && let Some((bits, _)) = vm.cdata.as_ref().and_then(|h| h.to_bits64(vm, v))
            {
                if matches!(spec.letter, b'd' | b'i') {
                    format::write_signed(bits as i64, spec, out);
                } else {
                    format::write_unsigned(bits, spec, out);
                }
                return Ok(());
            }
            let n = vm.check_num(i)?;
            if matches!(spec.letter, b'd' | b'i') {
                format::write_signed(number::to_i64(n), spec, out);
            } else {
                format::write_unsigned(number::to_u64(n), spec, out);
            }
        }
        b'c' => {
            let c = vm.check_int(i)?;
            format::write_char(c as u8, spec, out);
        }
        b's' => {
            if let Some(s) = v.as_obj::<Str>() {
                if spec.is_plain() {
                    out.extend_from_slice(s.bytes(&vm.heap));
                    return Ok(());
                }
                format::write_str(s.bytes(&vm.heap), spec, out);
            } else {
                let text = vm.raw_text(v);
                format::write_str(&text, spec, out);
            }
        }
        b'q' => {
            let text = vm.raw_text(v);
            format::write_quoted(&text, out);
        }
        b'p' => {
            let addr = if v.is_gc() {
                v.payload()
            } else if v.tag() == tag::LIGHTUD {
                vm.lightud_addr(v)
            } else {
                0
            };
            format::write_address(addr, out);
        }
        _ => {
            let n = vm.check_num(i)?;
            format::write_double(n, spec, out);
        }
    }
    Ok(())
}
