//! Moving values between natives and Rust: texts, numbers, results.

use moonlit_vm::host::native::{Gc, NativeResult, Outcome, Raised, Str, Table, Value, Vm};

/// The bytes of a string, or of a number as Lua writes it.
pub fn text_of(vm: &Vm, v: Value) -> Option<Vec<u8>> {
    if let Some(s) = v.as_obj::<Str>() {
        return Some(s.bytes(&vm.heap).to_vec());
    }
    v.is_num().then(|| vm.raw_text(v))
}

/// A new string value.
pub fn string(vm: &mut Vm, b: impl AsRef<[u8]>) -> Value {
    Value::obj(vm.heap.str(b.as_ref()))
}

/// A string value or nil.
pub fn string_or_nil(vm: &mut Vm, b: Option<impl AsRef<[u8]>>) -> Value {
    match b {
        Some(b) => string(vm, b),
        None => Value::NIL,
    }
}

/// `ngx.null`: the light userdata of address zero.
pub fn null() -> Value {
    Value::lightud_raw(0)
}

/// Whether a value is `ngx.null`.
pub fn is_null(vm: &Vm, v: Value) -> bool {
    v.type_name() == "userdata" && !v.is_gc() && vm.lightud_addr(v) == 0
}

/// Returns these values from a native.
pub fn results(vm: &mut Vm, values: &[Value]) -> NativeResult {
    match values {
        [] => Ok(Outcome::none()),
        [v] => Ok(Outcome::one(*v)),
        _ => {
            vm.ensure_slots(values.len())?;
            for v in values {
                vm.push(*v);
            }
            Ok(Outcome::top(values.len()))
        }
    }
}

/// Returns `nil, text`.
pub fn fail(vm: &mut Vm, text: &str) -> NativeResult {
    let t = string(vm, text);
    results(vm, &[Value::NIL, t])
}

/// Raises a text unless the number of arguments is within bounds; `#` in the text stands for what it is. Every
/// function of OpenResty has words of its own for this.
pub fn expect_args(vm: &mut Vm, counts: std::ops::RangeInclusive<usize>, text: &str) -> Result<(), Raised> {
    let seen = vm.nargs();
    if counts.contains(&seen) {
        return Ok(());
    }
    Err(vm.throw_str(text.replace('#', &seen.to_string()).as_bytes()))
}

/// Sets a field of a table by name. Library tables and results stay far below any limit.
pub fn set_field(vm: &mut Vm, t: Gc<Table>, name: &[u8], v: Value) {
    let _ = t.set_bytes(&mut vm.heap, name, v);
}

/// Appends a value to the array part of a table.
pub fn set_index(vm: &mut Vm, t: Gc<Table>, i: usize, v: Value) {
    let _ = t.seti(&mut vm.heap, i as i64, v);
}

/// The values of an array, 1 to n.
pub fn array_values(vm: &Vm, t: Gc<Table>) -> Vec<Value> {
    let n = t.len(&vm.heap);
    (1..=n).map(|i| t.geti(&vm.heap, i as i64)).collect()
}

/// How a value that is no text is treated when output is put together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loose {
    /// `nil`, booleans and `ngx.null` become words (`ngx.say`).
    Words,
    /// They are errors (inside tables given to `send`, upstream writes words there too).
    Refused,
}

/// Why a value cannot be written.
pub enum NoText {
    /// A type that has no text.
    Type(&'static str),
    /// A table that is no array.
    NonArray,
    /// Tables within tables without end, or nearly so.
    Nested,
}

impl NoText {
    /// What is said of [`NoText::Nested`].
    pub const NESTED: &str = "table nested too deeply";
}

/// How deep tables may nest in what becomes text, and how many there may be: a table that holds itself has
/// no end, one that holds itself twice none in our lifetime.
#[derive(Debug)]
pub struct Nesting {
    depth: usize,
    tables: usize,
}

impl Nesting {
    const DEPTH_MAX: usize = 100;
    const TABLES_MAX: usize = 1 << 22;

    /// At the outermost value.
    pub fn new() -> Nesting {
        Nesting { depth: 0, tables: 0 }
    }

    /// A table begins; false where it is one too many.
    pub fn enter(&mut self) -> bool {
        self.depth += 1;
        self.tables += 1;
        self.depth <= Self::DEPTH_MAX && self.tables <= Self::TABLES_MAX
    }

    /// The table has ended.
    pub fn leave(&mut self) {
        self.depth -= 1;
    }
}

/// Appends the text of a value; arrays are flattened, nested ones too.
pub fn append_text(vm: &Vm, v: Value, loose: Loose, out: &mut Vec<u8>) -> Result<(), NoText> {
    append_nested(vm, v, loose, &mut Nesting::new(), out)
}

fn append_nested(
    vm: &Vm,
    v: Value,
    loose: Loose,
    nesting: &mut Nesting,
    out: &mut Vec<u8>,
) -> Result<(), NoText> {
    if let Some(s) = v.as_obj::<Str>() {
        out.extend_from_slice(s.bytes(&vm.heap));
        return Ok(());
    }
    if v.is_num() {
        // Whole numbers are written as such: zero has no sign.
        match v.as_num() {
            Some(0.0) => out.push(b'0'),
            _ => out.extend_from_slice(&vm.raw_text(v)),
        }
        return Ok(());
    }
    if let Some(t) = v.as_obj::<Table>() {
        if !is_array(vm, t) {
            return Err(NoText::NonArray);
        }
        if !nesting.enter() {
            return Err(NoText::Nested);
        }
        for item in array_values(vm, t) {
            append_nested(vm, item, loose, nesting, out)?;
        }
        nesting.leave();
        return Ok(());
    }
    if loose == Loose::Words {
        if v.is_nil() || v.is_bool() {
            out.extend_from_slice(&vm.raw_text(v));
            return Ok(());
        }
        if is_null(vm, v) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
    }
    Err(NoText::Type(v.type_name()))
}

fn is_array(vm: &Vm, t: Gc<Table>) -> bool {
    let mut at = 0;
    while let Some((next, k, _)) = t.next_at(&vm.heap, at) {
        match k.as_num() {
            Some(n) if n >= 1.0 && n.fract() == 0.0 => {}
            _ => return false,
        }
        at = next;
    }
    true
}

/// The pairs of a table.
pub fn pairs(vm: &Vm, t: Gc<Table>) -> Vec<(Value, Value)> {
    let (mut at, mut out) = (0, Vec::new());
    while let Some((next, k, v)) = t.next_at(&vm.heap, at) {
        out.push((k, v));
        at = next;
    }
    out
}
