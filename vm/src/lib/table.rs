//! The table library. All accesses are raw, as in LuaJIT's C parts; `sort` and the `foreach` pair call Lua. What LuaJIT
//! has written in Lua says `got nil` of arguments that are missing (`fill_params`).

use std::cmp::Ordering;

use super::{new_string, table_error};
use crate::bytecode::ops::Mm;
use crate::function::closure::Func;
use crate::heap::gc_ref::Gc;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised, Takes};
use crate::string::Str;
use crate::table::Table;
use crate::userdata::Userdata;
use crate::value::{Value, number};

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("table.concat", concat).plain(Takes::Tables),
    NativeRow::new("table.foreach", foreach),
    NativeRow::new("table.foreachi", foreachi),
    NativeRow::new("table.getn", getn),
    NativeRow::new("table.insert", insert).plain(Takes::Tables),
    NativeRow::new("table.maxn", maxn).plain(Takes::Tables),
    NativeRow::new("table.move", move_),
    NativeRow::new("table.remove", remove).plain(Takes::Tables),
    NativeRow::new("table.sort", sort),
];

/// Functions only 5.2 mode shows.
pub const FNS52: &[NativeRow] = &[
    NativeRow::new("table.pack", pack),
    NativeRow::new("table.unpack", super::base::unpack).plain(Takes::Tables),
];

/// Functions that are modules of their own: `require "table.new"` and so on.
pub const MODULES: &[NativeRow] = &[
    NativeRow::new("table.clear", clear),
    NativeRow::new("table.clone", clone),
    NativeRow::new("table.isarray", isarray),
    NativeRow::new("table.isempty", isempty),
    NativeRow::new("table.new", new),
    NativeRow::new("table.nkeys", nkeys),
];

/// Opens the library.
pub fn open(vm: &mut Vm) {
    let t = super::new_library(vm, "table", FNS);
    if vm.compat52 {
        vm.register(t, FNS52);
        // Not one that does the same, but the very function that is global.
        let unpack = vm.globals.get_bytes(&vm.heap, b"unpack");
        super::set_field(vm, t, "unpack", unpack);
    }
    for row in MODULES {
        super::set_preload(vm, row.name, NativeRow::new("table.load_extension", load_extension));
    }
}

/// Loader of the extension modules: the function also becomes a field of `table`.
fn load_extension(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.check_str(0)?;
    let row = MODULES.iter().find(|r| r.name.as_bytes() == name.bytes(&vm.heap));
    let Some(row) = row else { return Err(vm.arg_error(0, b"unknown extension")) };
    let f = Value::obj(vm.new_native(*row, &[]));
    let loaded = super::base::loaded_table(vm);
    if let Some(t) = loaded.get_bytes(&vm.heap, b"table").as_obj::<Table>() {
        super::set_field(vm, t, row.field(), f);
    }
    Ok(Outcome::one(f))
}

fn set(vm: &mut Vm, t: Gc<Table>, k: i64, v: Value) -> Result<(), Raised> {
    t.seti(&mut vm.heap, k, v).map_err(|e| table_error(vm, e))
}

/// `table.insert(t, [pos,] value)`. Raises `wrong number of arguments to 'insert'`.
fn insert(vm: &mut Vm, e: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let end = t.len(&vm.heap) as i64 + 1;
    match e.count() {
        2 => set(vm, t, end, vm.arg(1))?,
        3 => {
            let pos = vm.check_int(1)? as i64;
            let mut i = end;
            while i > pos {
                vm.mind_limits((end - i) as u64)?;
                let v = t.geti(&vm.heap, i - 1);
                set(vm, t, i, v)?;
                i -= 1;
            }
            set(vm, t, pos, vm.arg(2))?;
        }
        _ => return Err(vm.throw_str(b"wrong number of arguments to 'insert'")),
    }
    Ok(Outcome::none())
}

/// `table.remove(t, pos)`: the element taken out; nothing if there is none there.
fn remove(vm: &mut Vm, e: Entry) -> NativeResult {
    let asked = e.label() == 1;
    if !asked {
        vm.fill_params(2);
    }
    let t = vm.check_tab(0)?;
    let len = match asked {
        true => {
            let len = answer(vm, e);
            vm.set_top(2);
            len
        }
        false => match ask_length(vm, t) {
            Some(call) => return Ok(call),
            None => Value::num(t.len(&vm.heap) as f64),
        },
    };
    let pos = vm.arg(1);
    let Some(n) = len.as_num() else {
        // What is no number is the last index of nothing, and cannot be compared with one.
        if pos.is_nil() || vm.check_int(1)? < 1 {
            return Ok(Outcome::none());
        }
        return Err(builtin_error(
            vm,
            "remove",
            &["attempt to compare ", len.type_name(), " with number"].concat(),
        ));
    };
    let len = n as i64;
    let pos = if pos.is_nil() { len } else { vm.check_int(1)? as i64 };
    if vm.arg(1).is_nil() && len == 0 || !vm.arg(1).is_nil() && (pos < 1 || pos > len) {
        return Ok(Outcome::none());
    }
    let old = t.geti(&vm.heap, pos);
    for i in pos + 1..=len {
        vm.mind_limits(i as u64)?;
        let v = t.geti(&vm.heap, i);
        set(vm, t, i - 1, v)?;
    }
    set(vm, t, len, Value::NIL)?;
    Ok(Outcome::one(old))
}

/// In 5.2 mode `#t` in a function that LuaJIT has written in Lua asks `__len`: the call, which comes back with label 1.
fn ask_length(vm: &mut Vm, t: Gc<Table>) -> Option<Outcome> {
    if !vm.compat52 || t.get(&vm.heap).meta.is_none() {
        return None;
    }
    let f = vm.metamethod(Value::obj(t), Mm::Len);
    if f.is_nil() {
        return None;
    }
    vm.prepare_call(f);
    vm.push(Value::obj(t));
    vm.push(Value::obj(t));
    Some(Outcome::call(2, 1))
}

/// The first result of a call that has come back.
fn answer(vm: &Vm, e: Entry) -> Value {
    vm.top_value(e.count(), 0)
}

/// An error inside a function that LuaJIT has written in Lua, with its place.
fn builtin_error(vm: &mut Vm, name: &str, text: &str) -> Raised {
    vm.throw_plain(format!("[builtin:{name}]:0: {text}").as_bytes())
}

/// `table.move(a1, f, e, t, a2)`: copies `a1[f..e]` to `a2[t..]` (to `a1` without `a2`); returns the target.
fn move_(vm: &mut Vm, _: Entry) -> NativeResult {
    vm.fill_params(5);
    let from = vm.check_tab(0)?;
    let f = vm.check_int(1)? as i64;
    let e = vm.check_int(2)? as i64;
    let t = vm.check_int(3)? as i64;
    let to = if vm.arg(4).is_nil() { from } else { vm.check_tab(4)? };
    if e >= f {
        // Copies upwards unless the target lies inside the source, behind its start.
        if t > e || t <= f || to != from {
            for i in 0..=e - f {
                vm.mind_limits(i as u64)?;
                let v = from.geti(&vm.heap, f + i);
                set(vm, to, t + i, v)?;
            }
        } else {
            for i in (0..=e - f).rev() {
                vm.mind_limits(i as u64)?;
                let v = from.geti(&vm.heap, f + i);
                set(vm, to, t + i, v)?;
            }
        }
    }
    Ok(Outcome::one(Value::obj(to)))
}

/// `table.concat(t, sep, i, j)`. Raises `invalid value (nil) at index 2 in table for 'concat'`.
fn concat(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let sep = vm.opt_str(1)?;
    let i = vm.opt_int(2, 1)? as i64;
    let j = if vm.arg(3).is_nil() { t.len(&vm.heap) as i64 } else { vm.check_int(3)? as i64 };
    if let (Ok(i), Ok(j)) = (usize::try_from(i), usize::try_from(j))
        && let Some(s) = vm.heap.join_strings(t, i, j, sep)
    {
        return Ok(Outcome::one(Value::obj(s)));
    }
    let mut out = Vec::new();
    let mut looked_at = 0;
    for k in i..=j {
        if k > i
            && let Some(sep) = sep
        {
            out.extend_from_slice(sep.bytes(&vm.heap));
        }
        let v = t.geti(&vm.heap, k);
        if let Some(s) = v.as_obj::<Str>() {
            out.extend_from_slice(s.bytes(&vm.heap));
        } else if let Some(n) = v.as_num() {
            number::write_number(n, &mut out);
        } else {
            let text = format!("invalid value ({}) at index {k} in table for 'concat'", v.type_name());
            return Err(vm.throw_str(text.as_bytes()));
        }
        if !super::has_room(&vm.heap, out.len(), &mut looked_at) {
            return Err(vm.throw_memory());
        }
    }
    Ok(Outcome::one(new_string(vm, &out)?))
}

/// `table.getn(t)`.
fn getn(vm: &mut Vm, e: Entry) -> NativeResult {
    if e.label() == 1 {
        return Ok(Outcome::one(answer(vm, e)));
    }
    vm.fill_params(1);
    let t = vm.check_tab(0)?;
    match ask_length(vm, t) {
        Some(call) => Ok(call),
        None => Ok(Outcome::one(Value::num(t.len(&vm.heap) as f64))),
    }
}

/// `table.maxn(t)`: the largest positive number among the keys.
fn maxn(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let mut max = 0.0;
    let mut at = 0;
    while let Some((next, k, _)) = t.next_at(&vm.heap, at) {
        if let Some(n) = k.as_num()
            && n > max
        {
            max = n;
        }
        at = next;
    }
    Ok(Outcome::one(Value::num(max)))
}

/// `table.foreach(t, f)`: calls `f(k, v)` until it gives something other than nil, which is returned.
fn foreach(vm: &mut Vm, e: Entry) -> NativeResult {
    // Slot 2: the key that was handed out last.
    if e.label() == 0 {
        vm.fill_params(2);
        vm.check_tab(0)?;
        vm.check_func(1)?;
        vm.set_top(3);
        vm.set_slot(2, Value::NIL);
    } else {
        if e.count() > 0 && !vm.top_value(e.count(), 0).is_nil() {
            return Ok(Outcome::one(vm.top_value(e.count(), 0)));
        }
        vm.set_top(3);
    }
    let t = vm.check_tab(0)?;
    match t.next(&vm.heap, vm.slot(2)) {
        Ok(Some((k, v))) => {
            vm.set_slot(2, k);
            vm.prepare_call(vm.slot(1));
            vm.push(k);
            vm.push(v);
            Ok(Outcome::call(2, 1))
        }
        Ok(None) => Ok(Outcome::none()),
        Err(_) => Err(vm.throw_str(crate::error::messages::NEXT_KEY.as_bytes())),
    }
}

/// `table.foreachi(t, f)`: calls `f(i, t[i])` for 1 to the length, like `foreach`.
fn foreachi(vm: &mut Vm, e: Entry) -> NativeResult {
    // Slots 2 and 3: the index that was handed out last, the length. Label 1: the length was asked for; 2: `f` was called.
    if e.label() == 0 {
        vm.fill_params(2);
        let t = vm.check_tab(0)?;
        vm.check_func(1)?;
        if let Some(call) = ask_length(vm, t) {
            return Ok(call);
        }
    }
    if e.label() < 2 {
        let t = vm.check_tab(0)?;
        let len = match e.label() {
            0 => Value::num(t.len(&vm.heap) as f64),
            _ => answer(vm, e),
        };
        let Some(len) = vm.to_number(len) else {
            return Err(builtin_error(vm, "foreachi", "'for' limit must be a number"));
        };
        vm.set_top(4);
        vm.set_slot(2, Value::int(0));
        vm.set_slot(3, Value::num(len));
    } else {
        if e.count() > 0 && !vm.top_value(e.count(), 0).is_nil() {
            return Ok(Outcome::one(vm.top_value(e.count(), 0)));
        }
        vm.set_top(4);
    }
    let t = vm.check_tab(0)?;
    let i = vm.slot(2).as_num().unwrap_or(0.0) + 1.0;
    if i > vm.slot(3).as_num().unwrap_or(0.0) {
        return Ok(Outcome::none());
    }
    vm.set_slot(2, Value::num(i));
    let v = t.geti(&vm.heap, i as i64);
    vm.prepare_call(vm.slot(1));
    vm.push(Value::num(i));
    vm.push(v);
    Ok(Outcome::call(2, 2))
}

/// `table.pack(...)` (5.2 mode).
fn pack(vm: &mut Vm, e: Entry) -> NativeResult {
    let n = e.count();
    let t = vm.heap.new_table(n as u32 + 1, 1);
    for i in 0..n {
        set(vm, t, i as i64 + 1, vm.arg(i))?;
    }
    super::set_field(vm, t, "n", Value::num(n as f64));
    Ok(Outcome::one(Value::obj(t)))
}

/// `table.new(narr, nhash)`: an empty table with room.
fn new(vm: &mut Vm, _: Entry) -> NativeResult {
    let (a, h) = (vm.check_int(0)?, vm.check_int(1)?);
    if a < -1 || h < 0 {
        return Err(vm.throw_plain(b"table overflow"));
    }
    let (a, h) = (a.max(0) as usize, h as usize);
    match vm.heap.new_table_sized(a, h) {
        Ok(t) => Ok(Outcome::one(Value::obj(t))),
        Err(e) => Err(table_error(vm, e)),
    }
}

/// `table.clear(t)`: takes everything out and keeps the room.
fn clear(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    t.clear(&mut vm.heap);
    Ok(Outcome::none())
}

/// `table.nkeys(t)`: number of keys.
fn nkeys(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let mut n = 0;
    let mut at = 0;
    while let Some((next, _, _)) = t.next_at(&vm.heap, at) {
        n += 1;
        at = next;
    }
    Ok(Outcome::one(Value::int(n)))
}

/// `table.isempty(t)`.
fn isempty(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    Ok(Outcome::one(Value::bool(t.next_at(&vm.heap, 0).is_none())))
}

/// `table.isarray(t)`: are all keys integers, of any sign?
fn isarray(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let mut at = 0;
    while let Some((next, k, _)) = t.next_at(&vm.heap, at) {
        if !k.as_num().is_some_and(|n| n == n.trunc()) {
            return Ok(Outcome::one(Value::FALSE));
        }
        at = next;
    }
    Ok(Outcome::one(Value::TRUE))
}

/// `table.clone(t)`: a shallow copy without the metatable.
fn clone(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let copy = vm.heap.new_table(t.get(&vm.heap).asize, crate::table::hash_bits(t.get(&vm.heap).hash_size()));
    let mut at = 0;
    while let Some((next, k, v)) = t.next_at(&vm.heap, at) {
        copy.setv(&mut vm.heap, k, v).map_err(|e| table_error(vm, e))?;
        at = next;
    }
    Ok(Outcome::one(Value::obj(copy)))
}

// Sorting.

/// Where the quicksort stands between two comparisons.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Begin with the range `l..=u`.
    Range,
    /// Asked `a[u] < a[l]`.
    Ends,
    /// Asked `a[i] < a[l]` for the middle.
    MiddleLow,
    /// Asked `a[u] < a[i]` for the middle.
    MiddleHigh,
    /// Asked `a[i] < pivot`.
    Up,
    /// Asked `pivot < a[j]`.
    Down,
}

/// A quicksort as a state machine: it asks for one comparison at a time. The elements stay in the table.
struct Sort {
    phase: Phase,
    l: i64,
    u: i64,
    i: i64,
    j: i64,
    /// Ranges still to be sorted.
    todo: Vec<(i64, i64)>,
}

/// What the machine wants next.
enum Ask {
    /// Is the first less than the second?
    Less(Value, Value),
    Done,
    /// The comparison function contradicts itself.
    Invalid,
}

impl Sort {
    fn swap(vm: &mut Vm, t: Gc<Table>, a: i64, b: i64) -> Result<(), Raised> {
        let (x, y) = (t.geti(&vm.heap, a), t.geti(&vm.heap, b));
        set(vm, t, a, y)?;
        set(vm, t, b, x)
    }

    /// Ends the range at hand: the next one, or nothing.
    fn next_range(&mut self) -> bool {
        self.phase = Phase::Range;
        match self.todo.pop() {
            Some((l, u)) => {
                (self.l, self.u) = (l, u);
                true
            }
            None => false,
        }
    }

    /// Goes on with the answer to the last question (ignored at the start of a range) up to the next one.
    /// `pivot` is kept by the caller where the collector sees it.
    fn resume(
        &mut self,
        vm: &mut Vm,
        t: Gc<Table>,
        pivot: &mut Value,
        mut answer: bool,
    ) -> Result<Ask, Raised> {
        let less = |vm: &Vm, a: i64, b: i64| Ask::Less(t.geti(&vm.heap, a), t.geti(&vm.heap, b));
        loop {
            let three_sorted = match self.phase {
                Phase::Range => {
                    if self.l >= self.u {
                        if self.next_range() {
                            continue;
                        }
                        return Ok(Ask::Done);
                    }
                    self.phase = Phase::Ends;
                    return Ok(less(vm, self.u, self.l));
                }
                Phase::Ends => {
                    if answer {
                        Sort::swap(vm, t, self.l, self.u)?;
                    }
                    if self.u - self.l == 1 {
                        if self.next_range() {
                            continue;
                        }
                        return Ok(Ask::Done);
                    }
                    self.i = (self.l + self.u) / 2;
                    self.phase = Phase::MiddleLow;
                    return Ok(less(vm, self.i, self.l));
                }
                Phase::MiddleLow => {
                    if !answer {
                        self.phase = Phase::MiddleHigh;
                        return Ok(less(vm, self.u, self.i));
                    }
                    Sort::swap(vm, t, self.i, self.l)?;
                    true
                }
                Phase::MiddleHigh => {
                    if answer {
                        Sort::swap(vm, t, self.i, self.u)?;
                    }
                    true
                }
                Phase::Up => {
                    if answer {
                        if self.i >= self.u {
                            return Ok(Ask::Invalid);
                        }
                        self.i += 1;
                        return Ok(Ask::Less(t.geti(&vm.heap, self.i), *pivot));
                    }
                    self.phase = Phase::Down;
                    self.j -= 1;
                    return Ok(Ask::Less(*pivot, t.geti(&vm.heap, self.j)));
                }
                Phase::Down => {
                    if answer {
                        if self.j <= self.l {
                            return Ok(Ask::Invalid);
                        }
                        self.j -= 1;
                        return Ok(Ask::Less(*pivot, t.geti(&vm.heap, self.j)));
                    }
                    if self.j >= self.i {
                        Sort::swap(vm, t, self.i, self.j)?;
                        self.phase = Phase::Up;
                        self.i += 1;
                        return Ok(Ask::Less(t.geti(&vm.heap, self.i), *pivot));
                    }
                    Sort::swap(vm, t, self.u - 1, self.i)?;
                    // The smaller part first, so that the list of ranges stays short.
                    let (low, high) = ((self.l, self.i - 1), (self.i + 1, self.u));
                    let (first, second) =
                        if self.i - self.l < self.u - self.i { (low, high) } else { (high, low) };
                    self.todo.push(second);
                    (self.l, self.u) = first;
                    self.phase = Phase::Range;
                    false
                }
            };
            if three_sorted {
                if self.u - self.l == 2 {
                    if self.next_range() {
                        continue;
                    }
                    return Ok(Ask::Done);
                }
                *pivot = t.geti(&vm.heap, self.i);
                Sort::swap(vm, t, self.i, self.u - 1)?;
                self.i = self.l + 1;
                self.j = self.u - 1;
                self.phase = Phase::Up;
                return Ok(Ask::Less(t.geti(&vm.heap, self.i), *pivot));
            }
            answer = false;
        }
    }
}

type SortCell = Option<Box<Sort>>;

/// Slots of a running sort above the table and the comparator.
const SORT_STATE: usize = 2;
const SORT_PIVOT: usize = 3;

/// `table.sort(t, less)`. Raises `invalid order function for sorting`. May call Lua.
fn sort(vm: &mut Vm, e: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let mut st;
    let mut answer = false;
    if e.label() == 0 {
        if !vm.arg(1).is_nil() {
            vm.check_func(1)?;
        }
        let n = t.len(&vm.heap) as i64;
        if n < 2 {
            return Ok(Outcome::none());
        }
        if vm.arg(1).is_nil() && sort_plain(vm, t, n)? {
            return Ok(Outcome::none());
        }
        vm.set_top(SORT_STATE);
        st = Box::new(Sort { phase: Phase::Range, l: 1, u: n, i: 0, j: 0, todo: Vec::new() });
        let cell = vm.heap.new_udata::<SortCell>(None, None);
        vm.push(cell.value());
        vm.push(Value::NIL);
    } else {
        answer = e.count() > 0 && vm.top_value(e.count(), 0).truthy();
        vm.set_top(SORT_PIVOT + 1);
        let cell = vm.slot(SORT_STATE).as_obj::<Userdata>();
        let Some(b) = cell.and_then(|c| c.downcast_mut::<SortCell>(&mut vm.heap)).and_then(Option::take)
        else {
            return Err(vm.throw_plain(b"'sort' has lost its state"));
        };
        st = b;
    }
    let less = vm.slot(1);
    let mut pivot = vm.slot(SORT_PIVOT);
    loop {
        let (a, b) = match st.resume(vm, t, &mut pivot, answer)? {
            Ask::Done => return Ok(Outcome::none()),
            Ask::Invalid => return Err(vm.throw_str(b"invalid order function for sorting")),
            Ask::Less(a, b) => (a, b),
        };
        let f = if less.is::<Func>() {
            less
        } else {
            if let Some(o) = compare_plain(vm, a, b) {
                answer = o == Some(Ordering::Less);
                continue;
            }
            less_metamethod(vm, a, b)?
        };
        vm.set_slot(SORT_PIVOT, pivot);
        if let Some(slot) =
            vm.slot(SORT_STATE).as_obj::<Userdata>().and_then(|c| c.downcast_mut::<SortCell>(&mut vm.heap))
        {
            *slot = Some(st);
        }
        vm.prepare_call(f);
        vm.push(a);
        vm.push(b);
        return Ok(Outcome::call(2, 1));
    }
}

/// Order of two numbers or two strings (`Some(None)` for NaN); `None` for anything else.
fn compare_plain(vm: &Vm, a: Value, b: Value) -> Option<Option<Ordering>> {
    if let (Some(a), Some(b)) = (a.as_num(), b.as_num()) {
        return Some(a.partial_cmp(&b));
    }
    let (a, b) = (a.as_obj::<Str>()?, b.as_obj::<Str>()?);
    Some(Some(a.bytes(&vm.heap).cmp(b.bytes(&vm.heap))))
}

/// The `__lt` for two values, or the error that there is none.
fn less_metamethod(vm: &mut Vm, a: Value, b: Value) -> Result<Value, Raised> {
    let f = vm.metamethod(a, Mm::Lt);
    let g = vm.metamethod(b, Mm::Lt);
    // 5.1 asks for one handler on both sides; 5.2 takes the first there is.
    let usable = if vm.compat52 {
        if f.is_nil() { g } else { f }
    } else if f == g {
        f
    } else {
        Value::NIL
    };
    if usable.is_nil() { Err(vm.compare_error(a, b)) } else { Ok(usable) }
}

/// Sorts a table of numbers only (no NaN) or of strings only; answers `false` if it is neither.
fn sort_plain(vm: &mut Vm, t: Gc<Table>, n: i64) -> Result<bool, Raised> {
    let first = t.geti(&vm.heap, 1);
    if first.is_num() {
        // Where they all lie side by side they are sorted where they are.
        if let Some(all) = t.get_mut(&mut vm.heap).array_mut().get_mut(1..=n as usize) {
            if !all.iter().all(|v| v.as_num().is_some_and(|x| !x.is_nan())) {
                return Ok(false);
            }
            all.sort_unstable_by(|a, b| {
                a.num_unchecked().partial_cmp(&b.num_unchecked()).unwrap_or(Ordering::Equal)
            });
            return Ok(true);
        }
        let mut all = Vec::with_capacity(n as usize);
        for i in 1..=n {
            match t.geti(&vm.heap, i).as_num() {
                Some(x) if !x.is_nan() => all.push(x),
                _ => return Ok(false),
            }
        }
        all.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        for (i, x) in all.into_iter().enumerate() {
            set(vm, t, i as i64 + 1, Value::num(x))?;
        }
        return Ok(true);
    }
    if !first.is::<Str>() {
        return Ok(false);
    }
    let mut all = Vec::with_capacity(n as usize);
    for i in 1..=n {
        match t.geti(&vm.heap, i).as_obj::<Str>() {
            Some(s) => all.push(s),
            None => return Ok(false),
        }
    }
    let heap = &vm.heap;
    all.sort_unstable_by(|a, b| a.bytes(heap).cmp(b.bytes(heap)));
    for (i, s) in all.into_iter().enumerate() {
        set(vm, t, i as i64 + 1, Value::obj(s))?;
    }
    Ok(true)
}
