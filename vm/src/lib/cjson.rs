//! The modules `cjson` and `cjson.safe`: JSON text and Lua values, with lua-cjson's options and messages as
//! OpenResty bundles them. Knows no metamethods: tables are read raw, as there.

use std::rc::Rc;

use super::{check_option, give_upvalues, new_string, set_field, set_preload};
use crate::heap::Heap;
use crate::heap::gc_ref::Gc;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use crate::string::Str;
use crate::table::{Table, TableErr};
use crate::userdata::Userdata;
use crate::value::number::{FloatSpec, FloatStyle, write_float, write_number};
use crate::value::{Value, number, tag};

/// Functions of the module.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("cjson.decode", decode),
    NativeRow::new("cjson.decode_allow_comment", decode_allow_comment),
    NativeRow::new("cjson.decode_array_with_array_mt", decode_array_with_array_mt),
    NativeRow::new("cjson.decode_invalid_numbers", decode_invalid_numbers),
    NativeRow::new("cjson.decode_max_depth", decode_max_depth),
    NativeRow::new("cjson.encode", encode),
    NativeRow::new("cjson.encode_empty_table_as_object", encode_empty_table_as_object),
    NativeRow::new("cjson.encode_escape_forward_slash", encode_escape_forward_slash),
    NativeRow::new("cjson.encode_indent", encode_indent),
    NativeRow::new("cjson.encode_invalid_numbers", encode_invalid_numbers),
    NativeRow::new("cjson.encode_keep_buffer", encode_keep_buffer),
    NativeRow::new("cjson.encode_max_depth", encode_max_depth),
    NativeRow::new("cjson.encode_number_precision", encode_number_precision),
    NativeRow::new("cjson.encode_skip_unsupported_value_types", encode_skip_unsupported_value_types),
    NativeRow::new("cjson.encode_sparse_array", encode_sparse_array),
    NativeRow::new("cjson.new", new),
];

/// What `cjson.safe` has instead.
const SAFE_FNS: &[NativeRow] = &[
    NativeRow::new("cjson.decode", decode_safe),
    NativeRow::new("cjson.encode", encode_safe),
    NativeRow::new("cjson.new", new_safe),
];

/// Deepest nesting whatever the options say: it is bounded by the native stack.
const DEPTH_MAX: u32 = 4000;
/// The light userdata `cjson.null`.
pub const NULL: Value = Value::lightud_raw(0);
/// The light userdata `cjson.empty_array`.
const EMPTY_ARRAY: Value = Value::lightud_raw(0x7a50);

/// What to do with numbers JSON does not know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Refuse,
    Allow,
    Null,
}

/// Options of one instance of the module.
#[derive(Clone)]
struct Options {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_depth: u32,
    decode_depth: u32,
    encode_invalid: Invalid,
    decode_invalid: bool,
    precision: usize,
    keep_buffer: bool,
    empty_as_object: bool,
    array_mt: bool,
    escape_slash: bool,
    skip_unsupported: bool,
    allow_comment: bool,
    /// What each level is indented by; `None` for everything on one line.
    indent: Option<Rc<[u8]>>,
}

const DEFAULTS: Options = Options {
    sparse_convert: false,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_depth: 1000,
    decode_depth: 1000,
    encode_invalid: Invalid::Refuse,
    decode_invalid: true,
    precision: 14,
    keep_buffer: true,
    empty_as_object: true,
    array_mt: false,
    escape_slash: true,
    skip_unsupported: false,
    allow_comment: false,
    indent: None,
};

/// Makes the modules available to `require`.
pub fn open(vm: &mut Vm) {
    set_preload(vm, "cjson", NativeRow::new("cjson.load", new));
    set_preload(vm, "cjson.safe", NativeRow::new("cjson.load_safe", new_safe));
}

/// The metatables that mark arrays: the same for all instances.
fn marks(vm: &mut Vm) -> Gc<Table> {
    let r = vm.registry;
    if let Some(t) = r.get_bytes(&vm.heap, b"_CJSON").as_obj::<Table>() {
        return t;
    }
    let t = vm.heap.new_table(3, 0);
    for i in 1..=2 {
        let m = vm.heap.new_table(0, 0);
        let _ = t.seti(&mut vm.heap, i, Value::obj(m));
    }
    set_field(vm, r, "_CJSON", Value::obj(t));
    t
}

fn module(vm: &mut Vm, safe: bool) -> NativeResult {
    let t = vm.heap.new_table(0, 5);
    let marks = marks(vm);
    let options = vm.heap.new_udata(DEFAULTS, None).value();
    vm.register(t, FNS);
    if safe {
        vm.register(t, SAFE_FNS);
    }
    for row in FNS {
        give_upvalues(vm, t, row.field(), &[options, Value::obj(marks)]);
    }
    set_field(vm, t, "null", NULL);
    set_field(vm, t, "empty_array", EMPTY_ARRAY);
    let (empty_mt, array_mt) = (marks.geti(&vm.heap, 1), marks.geti(&vm.heap, 2));
    set_field(vm, t, "empty_array_mt", empty_mt);
    set_field(vm, t, "array_mt", array_mt);
    let name = vm.heap.str(b"cjson");
    set_field(vm, t, "_NAME", Value::obj(name));
    let version = vm.heap.str(b"2.1.0.11");
    set_field(vm, t, "_VERSION", Value::obj(version));
    Ok(Outcome::one(Value::obj(t)))
}

/// `cjson.new()`: the module with options of its own.
fn new(vm: &mut Vm, _: Entry) -> NativeResult {
    module(vm, false)
}

/// `cjson.new()` of `cjson.safe`.
fn new_safe(vm: &mut Vm, _: Entry) -> NativeResult {
    module(vm, true)
}

fn options(vm: &Vm) -> Options {
    let u = vm.upvalue(0).as_obj::<Userdata>();
    u.and_then(|u| u.downcast::<Options>(&vm.heap)).cloned().unwrap_or(DEFAULTS)
}

fn set_options(vm: &mut Vm, o: &Options) {
    if let Some(slot) =
        vm.upvalue(0).as_obj::<Userdata>().and_then(|u| u.downcast_mut::<Options>(&mut vm.heap))
    {
        *slot = o.clone();
    }
}

// Options: each function sets what it is given and returns what holds then.

fn integer_option(vm: &mut Vm, i: usize, old: i32, min: i32, max: i32) -> Result<i32, Raised> {
    if vm.arg(i).is_nil() {
        return Ok(old);
    }
    let n = vm.check_int(i)?;
    if n < min || n > max {
        let text = format!("expected integer between {min} and {max}");
        return Err(vm.arg_error(i, text.as_bytes()));
    }
    Ok(n)
}

/// Refuses more than `n` arguments, as the original does.
fn at_most(vm: &mut Vm, e: Entry, n: usize) -> Result<(), Raised> {
    if e.count() > n {
        return Err(vm.arg_error(n, b"found too many arguments"));
    }
    Ok(())
}

/// A boolean option; the words `on` and `off` will do, too.
fn bool_option(vm: &mut Vm, i: usize, old: bool) -> Result<bool, Raised> {
    let v = vm.arg(i);
    if v.is_nil() {
        return Ok(old);
    }
    if v.is_bool() {
        return Ok(v.truthy());
    }
    Ok(check_option(vm, i, None, &["off", "on"])? == 1)
}

fn flag(vm: &mut Vm, e: Entry, field: fn(&mut Options) -> &mut bool) -> NativeResult {
    at_most(vm, e, 1)?;
    let mut o = options(vm);
    let v = bool_option(vm, 0, *field(&mut o))?;
    *field(&mut o) = v;
    set_options(vm, &o);
    Ok(Outcome::one(Value::bool(v)))
}

/// `encode_sparse_array(convert, ratio, safe)`.
fn encode_sparse_array(vm: &mut Vm, e: Entry) -> NativeResult {
    at_most(vm, e, 3)?;
    let mut o = options(vm);
    o.sparse_convert = bool_option(vm, 0, o.sparse_convert)?;
    o.sparse_ratio = integer_option(vm, 1, o.sparse_ratio, 0, i32::MAX)?;
    o.sparse_safe = integer_option(vm, 2, o.sparse_safe, 0, i32::MAX)?;
    set_options(vm, &o);
    vm.push(Value::bool(o.sparse_convert));
    vm.push(Value::int(o.sparse_ratio));
    vm.push(Value::int(o.sparse_safe));
    Ok(Outcome::top(3))
}

/// `encode_max_depth(n)`.
fn encode_max_depth(vm: &mut Vm, e: Entry) -> NativeResult {
    at_most(vm, e, 1)?;
    let mut o = options(vm);
    o.encode_depth = integer_option(vm, 0, o.encode_depth as i32, 1, i32::MAX)? as u32;
    set_options(vm, &o);
    Ok(Outcome::one(Value::int(o.encode_depth as i32)))
}

/// `decode_max_depth(n)`.
fn decode_max_depth(vm: &mut Vm, e: Entry) -> NativeResult {
    at_most(vm, e, 1)?;
    let mut o = options(vm);
    o.decode_depth = integer_option(vm, 0, o.decode_depth as i32, 1, i32::MAX)? as u32;
    set_options(vm, &o);
    Ok(Outcome::one(Value::int(o.decode_depth as i32)))
}

/// `encode_number_precision(n)`.
fn encode_number_precision(vm: &mut Vm, e: Entry) -> NativeResult {
    at_most(vm, e, 1)?;
    let mut o = options(vm);
    o.precision = integer_option(vm, 0, o.precision as i32, 1, 16)? as usize;
    set_options(vm, &o);
    Ok(Outcome::one(Value::int(o.precision as i32)))
}

/// `encode_invalid_numbers(false | true | "null")`.
fn encode_invalid_numbers(vm: &mut Vm, e: Entry) -> NativeResult {
    at_most(vm, e, 1)?;
    let mut o = options(vm);
    let v = vm.arg(0);
    if v.is_bool() {
        o.encode_invalid = if v.truthy() { Invalid::Allow } else { Invalid::Refuse };
    } else if !v.is_nil() {
        o.encode_invalid = [Invalid::Refuse, Invalid::Allow, Invalid::Null]
            [check_option(vm, 0, None, &["off", "on", "null"])?];
    }
    set_options(vm, &o);
    Ok(Outcome::one(match o.encode_invalid {
        Invalid::Refuse => Value::FALSE,
        Invalid::Allow => Value::TRUE,
        Invalid::Null => Value::obj(vm.heap.str(b"null")),
    }))
}

/// `decode_invalid_numbers(bool)`.
fn decode_invalid_numbers(vm: &mut Vm, e: Entry) -> NativeResult {
    flag(vm, e, |o| &mut o.decode_invalid)
}

/// `encode_keep_buffer(bool)`: remembered, of no consequence.
fn encode_keep_buffer(vm: &mut Vm, e: Entry) -> NativeResult {
    flag(vm, e, |o| &mut o.keep_buffer)
}

/// `encode_empty_table_as_object(bool)`.
fn encode_empty_table_as_object(vm: &mut Vm, e: Entry) -> NativeResult {
    flag(vm, e, |o| &mut o.empty_as_object)
}

/// `decode_array_with_array_mt(bool)`.
fn decode_array_with_array_mt(vm: &mut Vm, e: Entry) -> NativeResult {
    flag(vm, e, |o| &mut o.array_mt)
}

/// `encode_escape_forward_slash(bool)`.
fn encode_escape_forward_slash(vm: &mut Vm, e: Entry) -> NativeResult {
    flag(vm, e, |o| &mut o.escape_slash)
}

/// `encode_skip_unsupported_value_types(bool)`.
fn encode_skip_unsupported_value_types(vm: &mut Vm, e: Entry) -> NativeResult {
    flag(vm, e, |o| &mut o.skip_unsupported)
}

/// `decode_allow_comment(bool)`: comments as in C++ count as blanks.
fn decode_allow_comment(vm: &mut Vm, e: Entry) -> NativeResult {
    flag(vm, e, |o| &mut o.allow_comment)
}

/// `encode_indent(text)`: puts every item on a line of its own, indented by `text` for each level; not if it is empty.
fn encode_indent(vm: &mut Vm, e: Entry) -> NativeResult {
    at_most(vm, e, 1)?;
    let mut o = options(vm);
    if let Some(s) = vm.opt_str(0)? {
        // The original ends it at a NUL.
        let text = s.bytes(&vm.heap);
        let text = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
        o.indent = (!text.is_empty()).then(|| text.into());
    }
    let shown = o.indent.clone();
    set_options(vm, &o);
    Ok(Outcome::one(Value::obj(vm.heap.str(shown.as_deref().unwrap_or_default()))))
}

// Encoding.

struct Encoder<'a> {
    heap: &'a Heap,
    options: Options,
    empty_mt: Option<Gc<Table>>,
    array_mt: Option<Gc<Table>>,
    out: Vec<u8>,
    /// Length of `out` when its size was last looked at: a table that occurs often makes much of little.
    looked_at: usize,
}

type EncodeResult = Result<(), String>;

fn refuse(v: Value, why: &str) -> String {
    format!("Cannot serialise {}: {why}", v.type_name())
}

impl Encoder<'_> {
    fn value(&mut self, v: Value, depth: u32) -> EncodeResult {
        match v.tag() {
            tag::NIL => self.out.extend_from_slice(b"null"),
            tag::TRUE => self.out.extend_from_slice(b"true"),
            tag::FALSE => self.out.extend_from_slice(b"false"),
            tag::STR => {
                if let Some(s) = v.as_obj::<Str>() {
                    self.string(s.bytes(self.heap));
                }
            }
            tag::TAB => {
                if let Some(t) = v.as_obj::<Table>() {
                    return self.table(t, depth + 1);
                }
            }
            tag::LIGHTUD if v == NULL => self.out.extend_from_slice(b"null"),
            tag::LIGHTUD if v == EMPTY_ARRAY => self.out.extend_from_slice(b"[]"),
            _ => match v.as_num() {
                Some(n) => return self.number(n),
                None => return Err(refuse(v, "type not supported")),
            },
        }
        Ok(())
    }

    fn number(&mut self, n: f64) -> EncodeResult {
        if !n.is_finite() {
            match self.options.encode_invalid {
                Invalid::Refuse => return Err(refuse(Value::num(n), "must not be NaN or Infinity")),
                Invalid::Null => {
                    self.out.extend_from_slice(b"null");
                    return Ok(());
                }
                Invalid::Allow if n.is_nan() => {
                    self.out.extend_from_slice(b"NaN");
                    return Ok(());
                }
                Invalid::Allow => {
                    self.out.extend_from_slice(if n > 0.0 { b"Infinity" } else { b"-Infinity" });
                    return Ok(());
                }
            }
        }
        if self.options.precision == 14 {
            write_number(n, &mut self.out);
        } else {
            let spec = FloatSpec { precision: Some(self.options.precision), ..FloatSpec::default() };
            write_float(n, FloatStyle::General, spec, &mut self.out);
        }
        Ok(())
    }

    fn string(&mut self, s: &[u8]) {
        self.out.push(b'"');
        let mut from = 0;
        for (i, &c) in s.iter().enumerate() {
            let short = match c {
                b'"' => b'"',
                b'\\' => b'\\',
                b'/' if self.options.escape_slash => b'/',
                8 => b'b',
                9 => b't',
                10 => b'n',
                12 => b'f',
                13 => b'r',
                0..=31 | 127 => 0,
                _ => continue,
            };
            self.out.extend_from_slice(&s[from..i]);
            from = i + 1;
            if short != 0 {
                self.out.extend_from_slice(&[b'\\', short]);
            } else {
                self.out.extend_from_slice(format!("\\u{c:04x}").as_bytes());
            }
        }
        self.out.extend_from_slice(&s[from..]);
        self.out.push(b'"');
    }

    /// Length of a table that is an array; `None` for an object.
    fn array_length(&self, t: Gc<Table>) -> Result<Option<i64>, String> {
        let (mut max, mut items) = (0i64, 0i64);
        let mut at = 0;
        while let Some((next, k, _)) = t.next_at(self.heap, at) {
            match k.as_num() {
                Some(n) if n >= 1.0 && n == n.floor() => {
                    max = max.max(n as i64);
                    items += 1;
                }
                _ => return Ok(None),
            }
            at = next;
        }
        let o = &self.options;
        if o.sparse_ratio > 0
            && max > items.saturating_mul(o.sparse_ratio as i64)
            && max > o.sparse_safe as i64
        {
            if !o.sparse_convert {
                return Err(refuse(Value::obj(t), "excessively sparse array"));
            }
            return Ok(None);
        }
        Ok(Some(max))
    }

    fn table(&mut self, t: Gc<Table>, depth: u32) -> EncodeResult {
        if depth > self.options.encode_depth.min(DEPTH_MAX) {
            return Err(format!("Cannot serialise, excessive nesting ({depth})"));
        }
        if !super::has_room(self.heap, self.out.len(), &mut self.looked_at) {
            return Err(crate::error::messages::NO_MEMORY.to_string());
        }
        let meta = t.get(self.heap).meta;
        if meta.is_some() && meta == self.array_mt {
            let n = t.len(self.heap) as i64;
            return self.array(t, n, depth);
        }
        match self.array_length(t)? {
            Some(n) if n > 0 => self.array(t, n, depth),
            Some(_) if meta.is_some() && meta == self.empty_mt || !self.options.empty_as_object => {
                if t.next_at(self.heap, 0).is_none() {
                    self.array(t, 0, depth)
                } else {
                    self.object(t, depth)
                }
            }
            _ => self.object(t, depth),
        }
    }

    /// Writes an element unless its type is to be skipped; answers whether it was written.
    fn element(&mut self, v: Value, depth: u32) -> Result<bool, String> {
        let before = self.out.len();
        match self.value(v, depth) {
            Ok(()) => Ok(true),
            Err(_) if self.options.skip_unsupported && !is_supported(v) => {
                self.out.truncate(before);
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// A new line, indented for `depth` levels, if lines are asked for.
    fn new_line(&mut self, depth: u32) {
        if let Some(indent) = &self.options.indent {
            self.out.push(b'\n');
            for _ in 0..depth {
                self.out.extend_from_slice(indent);
            }
        }
    }

    fn array(&mut self, t: Gc<Table>, n: i64, depth: u32) -> EncodeResult {
        self.out.push(b'[');
        let mut comma = false;
        for i in 1..=n {
            let v = t.geti(self.heap, i);
            let before = self.out.len();
            if comma {
                self.out.push(b',');
            }
            self.new_line(depth);
            if self.element(v, depth)? {
                comma = true;
            } else {
                self.out.truncate(before);
            }
        }
        if n > 0 {
            self.new_line(depth - 1);
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, t: Gc<Table>, depth: u32) -> EncodeResult {
        self.out.push(b'{');
        let mut comma = false;
        let mut any = false;
        let mut at = 0;
        while let Some((next, k, v)) = t.next_at(self.heap, at) {
            at = next;
            any = true;
            let before = self.out.len();
            if comma {
                self.out.push(b',');
            }
            self.new_line(depth);
            if let Some(n) = k.as_num() {
                self.out.push(b'"');
                self.number(n)?;
                self.out.push(b'"');
            } else if let Some(s) = k.as_obj::<Str>() {
                self.string(s.bytes(self.heap));
            } else {
                return Err(refuse(k, "table key must be a number or string"));
            }
            self.out.push(b':');
            if self.options.indent.is_some() {
                self.out.push(b' ');
            }
            if self.element(v, depth)? {
                comma = true;
            } else {
                self.out.truncate(before);
            }
        }
        if any {
            self.new_line(depth - 1);
        }
        self.out.push(b'}');
        Ok(())
    }
}

fn is_supported(v: Value) -> bool {
    v.is_num() || v.is_pri() || matches!(v.tag(), tag::STR | tag::TAB) || v == NULL || v == EMPTY_ARRAY
}

fn encode_argument(vm: &mut Vm, e: Entry) -> Result<Result<Value, String>, Raised> {
    if e.count() != 1 {
        return Err(vm.arg_error(0, b"expected 1 argument"));
    }
    let marks = vm.upvalue(1).as_obj::<Table>();
    let mark = |i: i32| marks.and_then(|m| m.geti(&vm.heap, i).as_obj::<Table>());
    let mut enc = Encoder {
        heap: &vm.heap,
        options: options(vm),
        empty_mt: mark(1),
        array_mt: mark(2),
        out: Vec::with_capacity(64),
        looked_at: 0,
    };
    let r = enc.value(vm.arg(0), 0);
    let out = enc.out;
    match r {
        Ok(()) => new_string(vm, &out).map(Ok),
        Err(text) => Ok(Err(text)),
    }
}

/// `cjson.encode(v)`. Raises `Cannot serialise function: type not supported` and the like.
fn encode(vm: &mut Vm, e: Entry) -> NativeResult {
    match encode_argument(vm, e)? {
        Ok(v) => Ok(Outcome::one(v)),
        Err(text) if text == crate::error::messages::NO_MEMORY => Err(vm.throw_memory()),
        Err(text) => Err(vm.throw_str(text.as_bytes())),
    }
}

fn failure(vm: &mut Vm, text: &str) -> NativeResult {
    vm.push(Value::NIL);
    let s = vm.heap.str(text.as_bytes());
    vm.push(Value::obj(s));
    Ok(Outcome::top(2))
}

/// `encode` of `cjson.safe`: nil and the message instead of an error.
fn encode_safe(vm: &mut Vm, e: Entry) -> NativeResult {
    match encode_argument(vm, e)? {
        Ok(v) => Ok(Outcome::one(v)),
        Err(text) if text == crate::error::messages::NO_MEMORY => Err(vm.throw_memory()),
        Err(text) => failure(vm, &text),
    }
}

// Decoding.

struct Decoder<'a> {
    vm: &'a mut Vm,
    src: &'a [u8],
    at: usize,
    options: Options,
    array_mt: Option<Gc<Table>>,
    depth: u32,
    scratch: Vec<u8>,
}

/// A token; strings are in the decoder's scratch buffer.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String,
    Number(f64),
    /// A number without fraction and exponent.
    Integer(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Integer(_) => "T_INTEGER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(what) => what,
        }
    }
}

type DecodeResult<T> = Result<T, String>;

/// A table that takes no more.
fn refused(e: TableErr) -> String {
    let text = match e {
        TableErr::Memory => crate::error::messages::NO_MEMORY,
        _ => crate::error::messages::TABLE_OVERFLOW,
    };
    text.to_string()
}

impl Decoder<'_> {
    /// The next token and the index where it began.
    fn token(&mut self) -> (Token, usize) {
        loop {
            while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.src.get(self.at) {
                self.at += 1;
            }
            if !self.options.allow_comment {
                break;
            }
            let rest = &self.src[self.at..];
            if rest.starts_with(b"//") {
                // As a C string, the text ends at a NUL.
                self.at += memchr::memchr2(b'\n', 0, rest).unwrap_or(rest.len());
            } else if rest.starts_with(b"/*") {
                match memchr::memmem::find(&rest[2..], b"*/") {
                    Some(len) => self.at += len + 4,
                    None => {
                        self.at = self.src.len();
                        return (Token::Error("unclosed multi-line comment"), self.at);
                    }
                }
            } else {
                break;
            }
        }
        let start = self.at;
        let Some(&c) = self.src.get(start) else { return (Token::End, start) };
        let single = match c {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            b'"' => return self.string(start),
            b'-' | b'0'..=b'9' => {
                if !self.options.decode_invalid && self.is_invalid_number() {
                    return (Token::Error("invalid number"), start);
                }
                return self.number(start);
            }
            _ => {
                for (word, token) in [
                    (&b"true"[..], Token::Boolean(true)),
                    (b"false", Token::Boolean(false)),
                    (b"null", Token::Null),
                ] {
                    if self.src[start..].starts_with(word) {
                        self.at += word.len();
                        return (token, start);
                    }
                }
                let word: Vec<u8> = self.src[start..].iter().take(3).map(u8::to_ascii_lowercase).collect();
                if self.options.decode_invalid && (word == b"inf" || word == b"nan" || c == b'+') {
                    return self.number(start);
                }
                return (Token::Error("invalid token"), start);
            }
        };
        self.at += 1;
        (single, start)
    }

    /// Would C's `strtod` take more here than JSON allows: hex, infinity, not a number, leading zeros?
    fn is_invalid_number(&self) -> bool {
        let s = &self.src[self.at..];
        let s = s.strip_prefix(b"-").unwrap_or(s);
        match s {
            [b'0', c, ..] => matches!(c, b'x' | b'X' | b'0'..=b'9'),
            [c, ..] => !c.is_ascii_digit(),
            [] => true,
        }
    }

    fn number(&mut self, start: usize) -> (Token, usize) {
        let rest = &self.src[start..];
        let mut len = rest
            .iter()
            .position(|c| !(c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.')))
            .unwrap_or(rest.len());
        // The longest prefix that is a number, as `strtod` would find it.
        while len > 0 {
            let text = &rest[..len];
            let known = text.iter().any(u8::is_ascii_digit) || text.len() <= 9;
            if known
                && !text.contains(&b'b')
                && let Some(n) = number::parse(text)
            {
                self.at = start + len;
                let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
                let token =
                    if digits.iter().all(u8::is_ascii_digit) { Token::Integer(n) } else { Token::Number(n) };
                return (token, start);
            }
            len -= 1;
        }
        (Token::Error("invalid number"), start)
    }

    fn string(&mut self, start: usize) -> (Token, usize) {
        self.scratch.clear();
        let mut i = start + 1;
        loop {
            let rest = &self.src[i..];
            let Some(n) = memchr::memchr3(b'"', b'\\', 0, rest) else {
                self.at = self.src.len();
                return (Token::Error("unexpected end of string"), self.at);
            };
            self.scratch.extend_from_slice(&rest[..n]);
            i += n;
            match self.src[i] {
                b'"' => {
                    self.at = i + 1;
                    return (Token::String, start);
                }
                0 => {
                    self.scratch.push(0);
                    i += 1;
                }
                _ => match self.escape(i) {
                    Ok(len) => i += len,
                    Err(what) => return (Token::Error(what), i),
                },
            }
        }
    }

    /// Adds the character an escape at `i` stands for; answers the length of the escape.
    fn escape(&mut self, i: usize) -> Result<usize, &'static str> {
        let c = match self.src.get(i + 1) {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 8,
            Some(b't') => 9,
            Some(b'n') => 10,
            Some(b'f') => 12,
            Some(b'r') => 13,
            Some(b'u') => return self.unicode(i),
            _ => return Err("invalid escape code"),
        };
        self.scratch.push(c);
        Ok(2)
    }

    fn hex4(&self, i: usize) -> Option<u32> {
        let digits = self.src.get(i..i + 4)?;
        digits.iter().try_fold(0, |n, c| Some(n << 4 | (*c as char).to_digit(16)?))
    }

    fn unicode(&mut self, i: usize) -> Result<usize, &'static str> {
        const BAD: &str = "invalid unicode escape code";
        let high = self.hex4(i + 2).ok_or(BAD)?;
        let (code, len) = match high {
            0xd800..=0xdbff => {
                if self.src.get(i + 6..i + 8) != Some(b"\\u") {
                    return Err(BAD);
                }
                match self.hex4(i + 8).ok_or(BAD)? {
                    low @ 0xdc00..=0xdfff => (0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff), 12),
                    _ => return Err(BAD),
                }
            }
            0xdc00..=0xdfff => return Err(BAD),
            code => (code, 6),
        };
        let ch = char::from_u32(code).ok_or(BAD)?;
        let mut buf = [0; 4];
        self.scratch.extend_from_slice(ch.encode_utf8(&mut buf).as_bytes());
        Ok(len)
    }

    fn unexpected<T>(&self, expected: &str, (token, at): (Token, usize)) -> DecodeResult<T> {
        Err(format!("Expected {expected} but found {} at character {}", token.name(), at + 1))
    }

    fn descend(&mut self) -> DecodeResult<()> {
        self.depth += 1;
        if self.depth > self.options.decode_depth.min(DEPTH_MAX) {
            return Err(format!(
                "Found too many nested data structures ({}) at character {}",
                self.depth, self.at
            ));
        }
        // A document of small objects makes many times its own size, and there is no safepoint before its end.
        if self.vm.heap.over_limit() {
            return Err(crate::error::messages::NO_MEMORY.to_string());
        }
        Ok(())
    }

    fn value(&mut self, t: (Token, usize)) -> DecodeResult<Value> {
        match t.0 {
            Token::String => Ok(Value::obj(self.vm.heap.str(&self.scratch))),
            Token::Number(n) | Token::Integer(n) => Ok(Value::num(n)),
            Token::Boolean(b) => Ok(Value::bool(b)),
            Token::Null => Ok(NULL),
            Token::ObjectBegin => self.object(),
            Token::ArrayBegin => self.array(),
            _ => self.unexpected("value", t),
        }
    }

    fn object(&mut self) -> DecodeResult<Value> {
        self.descend()?;
        let table = self.vm.heap.new_table(0, 0);
        let mut t = self.token();
        if t.0 == Token::ObjectEnd {
            self.depth -= 1;
            return Ok(Value::obj(table));
        }
        loop {
            if t.0 != Token::String {
                return self.unexpected("object key string", t);
            }
            let key = self.vm.heap.str_intern(&self.scratch);
            t = self.token();
            if t.0 != Token::Colon {
                return self.unexpected("colon", t);
            }
            t = self.token();
            let v = self.value(t)?;
            // A nil never comes out of JSON, and string keys are never refused but for want of memory.
            table.sets(&mut self.vm.heap, key, v).map_err(refused)?;
            t = self.token();
            match t.0 {
                Token::ObjectEnd => {
                    self.depth -= 1;
                    return Ok(Value::obj(table));
                }
                Token::Comma => t = self.token(),
                _ => return self.unexpected("comma or object end", t),
            }
        }
    }

    fn array(&mut self) -> DecodeResult<Value> {
        self.descend()?;
        let table = self.vm.heap.new_table(0, 0);
        if self.array_mt.is_some() {
            self.vm.heap.set_metatable(table, self.array_mt);
        }
        let mut t = self.token();
        if t.0 == Token::ArrayEnd {
            self.depth -= 1;
            return Ok(Value::obj(table));
        }
        let mut i = 1i64;
        loop {
            let v = self.value(t)?;
            table.seti(&mut self.vm.heap, i, v).map_err(refused)?;
            i += 1;
            t = self.token();
            match t.0 {
                Token::ArrayEnd => {
                    self.depth -= 1;
                    return Ok(Value::obj(table));
                }
                Token::Comma => t = self.token(),
                _ => return self.unexpected("comma or array end", t),
            }
        }
    }
}

fn decode_argument(vm: &mut Vm, e: Entry) -> Result<DecodeResult<Value>, Raised> {
    if e.count() != 1 {
        return Err(vm.arg_error(0, b"expected 1 argument"));
    }
    let src = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    if src.len() >= 2 && (src[0] == 0 || src[1] == 0) {
        return Ok(Err("JSON parser does not support UTF-16 or UTF-32".to_string()));
    }
    let options = options(vm);
    let array_mt = match (options.array_mt, vm.upvalue(1).as_obj::<Table>()) {
        (true, Some(m)) => m.geti(&vm.heap, 2).as_obj(),
        _ => None,
    };
    let mut d = Decoder { vm, src: &src, at: 0, options, array_mt, depth: 0, scratch: Vec::new() };
    let t = d.token();
    let r = d.value(t).and_then(|v| match d.token() {
        (Token::End, _) => Ok(v),
        t => d.unexpected("the end", t),
    });
    Ok(r)
}

/// `cjson.decode(text)`. Raises `Expected value but found invalid token at character 1` and the like.
fn decode(vm: &mut Vm, e: Entry) -> NativeResult {
    match decode_argument(vm, e)? {
        Ok(v) => Ok(Outcome::one(v)),
        Err(text) if text == crate::error::messages::NO_MEMORY => Err(vm.throw_memory()),
        Err(text) => Err(vm.throw_str(text.as_bytes())),
    }
}

/// `decode` of `cjson.safe`: nil and the message instead of an error.
fn decode_safe(vm: &mut Vm, e: Entry) -> NativeResult {
    match decode_argument(vm, e)? {
        Ok(v) => Ok(Outcome::one(v)),
        Err(text) if text == crate::error::messages::NO_MEMORY => Err(vm.throw_memory()),
        Err(text) => failure(vm, &text),
    }
}
