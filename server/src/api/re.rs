//! `ngx.re`: match, find, gmatch, sub, gsub over PCRE2.

use std::rc::Rc;

use moonlit_vm::host::native::{
    Entry, Gc, NativeId, NativeResult, NativeRow, Outcome, Raised, Table, Userdata, Value, Vm,
};

use super::ApiFn;
use crate::conf::model::Level;
use crate::lua::args::{results, set_field, set_index, string};
use crate::lua::worker::here;
use crate::phase::Phases;
use crate::regex::{MatchData, Options, Regex};
use crate::request::with_match;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.re.match", Phases::ANY, re_match),
    ApiFn::plain("ngx.re.find", Phases::ANY, find),
    ApiFn::plain("ngx.re.gmatch", Phases::ANY, gmatch),
    ApiFn::plain("ngx.re.sub", Phases::ANY, sub),
    ApiFn::plain("ngx.re.gsub", Phases::ANY, gsub),
];

/// The functions of the module `ngx.re`.
pub const MODULE: &[ApiFn] =
    &[ApiFn::plain("ngx.re.split", Phases::ANY, split), ApiFn::plain("ngx.re.opt", Phases::ANY, opt)];

/// The subject, as `tostring` writes it.
fn subject(vm: &mut Vm) -> Result<Vec<u8>, Raised> {
    let v = vm.check_any(0)?;
    Ok(vm.raw_text(v))
}

/// Options of a call, beyond those of the expression.
#[derive(Clone, Copy, Default)]
struct Flags {
    dfa: bool,
    once: bool,
}

/// Why there is no expression.
enum NoRegex {
    Raise(Raised),
    /// An error to return.
    Text(String),
}

fn parse_flags(vm: &mut Vm, opts: &[u8]) -> Result<(Options, Flags), Raised> {
    let mut o = Options::default();
    let mut f = Flags::default();
    for b in opts {
        match b {
            b'a' => o.anchored = true,
            b'd' => f.dfa = true,
            b'D' => o.duplicate_names = true,
            b'i' => o.caseless = true,
            b'j' => o.jit = true,
            b'J' => o.javascript = true,
            b'm' => o.multiline = true,
            b'o' => f.once = true,
            b's' => o.dotall = true,
            b'u' => o.utf = true,
            b'U' => {
                o.utf = true;
                o.utf_unchecked = true;
            }
            b'x' => o.extended = true,
            other => {
                let text = format!(
                    "unknown flag \"{}\" (flags \"{}\")",
                    *other as char,
                    String::from_utf8_lossy(opts)
                );
                return Err(vm.throw_str(text.as_bytes()));
            }
        }
    }
    Ok((o, f))
}

/// The expression of arguments 1 and `opts_at`, from the cache when asked.
fn regex(vm: &mut Vm, opts_at: usize) -> Result<(Rc<Regex>, Flags), NoRegex> {
    let pattern = vm.check_str(1).map_err(NoRegex::Raise)?.bytes(&vm.heap).to_vec();
    let opts = match vm.opt_str(opts_at).map_err(NoRegex::Raise)? {
        Some(s) => s.bytes(&vm.heap).to_vec(),
        None => Vec::new(),
    };
    let (options, flags) = parse_flags(vm, &opts).map_err(NoRegex::Raise)?;
    let w = here();
    let bits =
        opts.iter().fold(0u32, |n, b| n | 1 << (b & 31)) ^ if opts.contains(&b'D') { 1 << 31 } else { 0 };
    let bits =
        opts.iter().filter(|b| b.is_ascii_uppercase()).fold(bits, |n, b| n.rotate_left(7) ^ u32::from(*b));
    let key = (pattern, bits);
    if flags.once
        && let Some(r) = w.regexes.borrow().get(&key)
    {
        return Ok((r.clone(), flags));
    }
    let compiled = Regex::new(&key.0, options).map_err(|e| {
        let shown = String::from_utf8_lossy(&key.0);
        let at = e.offset.min(key.0.len());
        let rest = String::from_utf8_lossy(&key.0[at..]);
        NoRegex::Text(if rest.is_empty() {
            format!("pcre2_compile() failed: {} in \"{shown}\"", e.message)
        } else {
            format!("pcre2_compile() failed: {} in \"{shown}\" at \"{rest}\"", e.message)
        })
    })?;
    let compiled = Rc::new(compiled);
    if options.jit {
        w.debug_plain(|| "pcre2 JIT compiled successfully");
    }
    if flags.once {
        let mut cache = w.regexes.borrow_mut();
        if cache.len() < w.http().lua.settings.lua_regex_cache_max_entries as usize {
            cache.insert(key, compiled.clone());
        }
    }
    Ok((compiled, flags))
}

/// Runs a match; the error is the text to return.
fn run(re: &Regex, f: Flags, subject: &[u8], at: usize, data: &mut MatchData) -> Result<bool, String> {
    data.set_match_limit(here().http().lua.settings.lua_regex_match_limit as u32);
    let r = if f.dfa { re.find_longest_at(subject, at, data) } else { re.find_at(subject, at, data) };
    // Scripts look for this text, whatever the library's function is called.
    r.map_err(|e| format!("pcre_exec() failed: {}", e.0))
}

/// Where the match begins: `ctx.pos`, counted from 1.
fn start_of(vm: &mut Vm, ctx: Value) -> Result<usize, Raised> {
    let Some(t) = ctx.as_obj::<Table>() else { return Ok(0) };
    let v = t.get_bytes(&vm.heap, b"pos");
    match vm.to_number(v) {
        Some(n) => Ok((n as i64 - 1).max(0) as usize),
        None if v.is_nil() => Ok(0),
        None => Err(vm.throw_str(b"bad ctx.pos")),
    }
}

fn set_pos(vm: &mut Vm, ctx: Value, pos: usize) {
    if let Some(t) = ctx.as_obj::<Table>() {
        set_field(vm, t, b"pos", Value::num(pos as f64));
    }
}

/// Fills `t` with the groups of the last match.
fn fill(vm: &mut Vm, t: Gc<Table>, re: &Regex, subject: &[u8], groups: &[Option<(usize, usize)>]) {
    for (i, g) in groups.iter().enumerate() {
        let v = match g {
            Some((a, b)) => string(vm, &subject[*a..*b]),
            None => Value::FALSE,
        };
        set_index(vm, t, i, v);
    }
    for (name, n) in re.names() {
        let v = t.geti(&vm.heap, i64::from(*n));
        let old = t.get_bytes(&vm.heap, name.as_bytes());
        // Of several groups of one name the first that took part counts; with `D` all are given.
        if re.options().duplicate_names {
            if !v.truthy() {
                continue;
            }
            let list = match old.as_obj::<Table>() {
                Some(l) => l,
                None => {
                    let l = vm.heap.new_table(2, 0);
                    set_field(vm, t, name.as_bytes(), Value::obj(l));
                    l
                }
            };
            let at = list.len(&vm.heap) as usize + 1;
            set_index(vm, list, at, v);
        } else {
            set_field(vm, t, name.as_bytes(), v);
        }
    }
}

fn groups_of(data: &MatchData) -> Vec<Option<(usize, usize)>> {
    (0..data.len()).map(|n| data.get(n)).collect()
}

fn nil_text(vm: &mut Vm, nils: usize, text: &str) -> NativeResult {
    let mut out = vec![Value::NIL; nils];
    out.push(string(vm, text));
    results(vm, &out)
}

macro_rules! regex_or_return {
    ($vm:expr, $opts_at:expr, $nils:expr) => {
        match regex($vm, $opts_at) {
            Ok(r) => r,
            Err(NoRegex::Raise(r)) => return Err(r),
            Err(NoRegex::Text(t)) => return nil_text($vm, $nils, &t),
        }
    };
}

/// `ngx.re.match(subject, regex, options?, ctx?, res?)`: a table of groups; nil; or nil and an error.
fn re_match(vm: &mut Vm, _: Entry) -> NativeResult {
    let subject = subject(vm)?;
    let (re, f) = regex_or_return!(vm, 2, 1);
    let ctx = vm.arg(3);
    let at = start_of(vm, ctx)?;
    let hit = with_match(|d| run(&re, f, &subject, at, d).map(|hit| hit.then(|| groups_of(d))));
    match hit {
        Err(t) => nil_text(vm, 1, &t),
        Ok(None) => Ok(Outcome::one(Value::NIL)),
        Ok(Some(groups)) => {
            let t = match vm.arg(4).as_obj::<Table>() {
                Some(t) => t,
                None => vm.heap.new_table(groups.len() as u32 + 1, 0),
            };
            fill(vm, t, &re, &subject, &groups);
            if let Some(Some((_, end))) = groups.first() {
                set_pos(vm, ctx, end + 1);
            }
            Ok(Outcome::one(Value::obj(t)))
        }
    }
}

/// `ngx.re.find(subject, regex, options?, ctx?, nth?)`: first and last position of a group.
fn find(vm: &mut Vm, _: Entry) -> NativeResult {
    let subject = subject(vm)?;
    let (re, f) = regex_or_return!(vm, 2, 2);
    let ctx = vm.arg(3);
    let at = start_of(vm, ctx)?;
    let nth = vm.opt_int(4, 0)?;
    if nth < 0 || nth as u32 > re.captures() {
        return nil_text(vm, 2, "nth out of bound");
    }
    let hit =
        with_match(|d| run(&re, f, &subject, at, d).map(|hit| hit.then(|| (d.get(0), d.get(nth as usize)))));
    match hit {
        Err(t) => nil_text(vm, 2, &t),
        Ok(None) => Ok(Outcome::one(Value::NIL)),
        Ok(Some((whole, group))) => {
            if let Some((_, end)) = whole {
                set_pos(vm, ctx, end + 1);
            }
            match group {
                Some((a, b)) => results(vm, &[Value::num(a as f64 + 1.0), Value::num(b as f64)]),
                None => results(vm, &[Value::NIL, Value::NIL]),
            }
        }
    }
}

/// `split(subject, regex, options?, ctx?, max?, res?)`: the pieces between matches, each followed by the first
/// group of the match behind it if there is one.
///
/// `max` limits the number of pieces; without it empty pieces at the end are dropped. `ctx.pos` is where it
/// begins, counted from 1. Returns an array (`res` if given, ended by a nil), or nil and an error. Raises
/// `res is not a table`.
fn split(vm: &mut Vm, _: Entry) -> NativeResult {
    let subject = vm.raw_text(vm.arg(0));
    let ctx = vm.arg(3).as_obj::<Table>();
    let begin = match ctx {
        None => 1,
        Some(t) => {
            let v = t.get_bytes(&vm.heap, b"pos");
            match vm.to_number(v) {
                Some(n) => n as i64,
                None if !v.truthy() => 1,
                None => return Err(vm.throw_str(b"bad ctx.pos")),
            }
        }
    };
    let max = vm.to_number(vm.arg(4)).unwrap_or(0.0);
    let res = match vm.arg(5) {
        v if !v.truthy() => vm.heap.new_table(4, 0),
        v => match v.as_obj::<Table>() {
            Some(t) => t,
            None => return Err(vm.throw_str(b"res is not a table")),
        },
    };
    if begin > subject.len() as i64 {
        set_index(vm, res, 1, Value::NIL);
        return Ok(Outcome::one(Value::obj(res)));
    }
    let (re, f) = regex_or_return!(vm, 2, 1);
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let (mut from, mut count) = ((begin - 1).max(0) as usize, 1.0);
    let mut at = from;
    // Where the last empty match was: the piece behind it begins there.
    let mut empty: Option<usize> = None;
    let has_group = re.captures() > 0;
    while max <= 0.0 || count < max {
        let hit = with_match(|d| run(&re, f, &subject, at, d).map(|hit| hit.then(|| (d.get(0), d.get(1)))));
        let (whole, group) = match hit {
            Err(t) => return nil_text(vm, 1, &t),
            Ok(None) => break,
            Ok(Some(h)) => h,
        };
        let Some((start, end)) = whole else { break };
        at = if start == end { end + 1 } else { end };
        if let Some(e) = empty {
            from = e;
        }
        if start == end {
            empty = Some(start);
        }
        if start > from || empty.is_none() {
            count += 1.0;
            pieces.push(subject[from.min(start)..start].to_vec());
            if let (true, Some((a, b))) = (has_group, group) {
                pieces.push(subject[a..b].to_vec());
            }
            from = end;
            if from >= subject.len() {
                break;
            }
        }
        if at > subject.len() {
            break;
        }
    }
    if max <= 0.0 && from >= subject.len() {
        while pieces.last().is_some_and(Vec::is_empty) {
            pieces.pop();
        }
    } else {
        pieces.push(subject.get(from..).unwrap_or_default().to_vec());
    }
    if let Some(t) = ctx {
        set_field(vm, t, b"pos", Value::num(at as f64));
    }
    for (i, p) in pieces.iter().enumerate() {
        let v = string(vm, p);
        set_index(vm, res, i + 1, v);
    }
    set_index(vm, res, pieces.len() + 1, Value::NIL);
    Ok(Outcome::one(Value::obj(res)))
}

/// `opt("jit_stack_size", bytes)`: the stack of compiled expressions. Raises `unrecognized option name`, and
/// `changing jit stack size is not allowed when some regexs have already been compiled and cached`.
fn opt(vm: &mut Vm, _: Entry) -> NativeResult {
    if vm.raw_text(vm.arg(0)) != b"jit_stack_size" {
        return Err(vm.throw_str(b"unrecognized option name"));
    }
    if !here().regexes.borrow().is_empty() {
        let text =
            b"changing jit stack size is not allowed when some regexs have already been compiled and cached";
        return Err(vm.throw_str(text));
    }
    let bytes = vm.check_int(1)?;
    if !with_match(|d| d.set_jit_stack(usize::try_from(bytes).unwrap_or(0))) {
        return Err(vm.throw_str(b"pcre jit stack allocation failed"));
    }
    Ok(Outcome::none())
}

/// What a `gmatch` iterator works on.
struct Gmatch {
    re: Rc<Regex>,
    flags: Flags,
    subject: Vec<u8>,
    at: Option<usize>,
}

struct GmatchId(NativeId);

/// `ngx.re.gmatch(subject, regex, options?)`: an iterator over all matches.
fn gmatch(vm: &mut Vm, _: Entry) -> NativeResult {
    let subject = subject(vm)?;
    let (re, flags) = regex_or_return!(vm, 2, 1);
    let id = match vm.app.get::<GmatchId>() {
        Some(g) => g.0,
        None => {
            let id = vm.natives.add(NativeRow::new("ngx.re.gmatch.iterator", gmatch_step));
            vm.app.set(GmatchId(id));
            id
        }
    };
    let cell = vm.heap.new_udata(Gmatch { re, flags, subject, at: Some(0) }, None);
    let f = vm.native_func(id, &[cell.value()]);
    Ok(Outcome::one(Value::obj(f)))
}

fn gmatch_step(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(cell) = vm.upvalue(0).as_obj::<Userdata>() else { return Ok(Outcome::one(Value::NIL)) };
    let Some(g) = cell.downcast_mut::<Gmatch>(&mut vm.heap) else { return Ok(Outcome::one(Value::NIL)) };
    let Some(at) = g.at else { return Ok(Outcome::one(Value::NIL)) };
    let (re, flags, subject) = (g.re.clone(), g.flags, std::mem::take(&mut g.subject));
    let hit = with_match(|d| run(&re, flags, &subject, at, d).map(|hit| hit.then(|| groups_of(d))));
    let out = match &hit {
        Ok(Some(groups)) => {
            let t = vm.heap.new_table(groups.len() as u32 + 1, 0);
            fill(vm, t, &re, &subject, groups);
            Ok(Outcome::one(Value::obj(t)))
        }
        Ok(None) => Ok(Outcome::one(Value::NIL)),
        Err(t) => nil_text(vm, 1, t),
    };
    let next = match &hit {
        Ok(Some(groups)) => groups.first().copied().flatten().map(|(a, b)| after_match(&subject, a, b)),
        _ => None,
    };
    if let Some(g) = cell.downcast_mut::<Gmatch>(&mut vm.heap) {
        g.at = next.filter(|n| *n <= subject.len());
        g.subject = subject;
    }
    out
}

/// Where to go on behind a match; an empty one advances by one character.
fn after_match(subject: &[u8], from: usize, to: usize) -> usize {
    if to > from {
        return to;
    }
    let mut n = to + 1;
    while subject.get(n).is_some_and(|b| b & 0xc0 == 0x80) {
        n += 1;
    }
    n
}

/// A piece of a replacement template.
enum Piece {
    Text(Vec<u8>),
    Group(usize),
}

/// Parses `$0`, `$1`, `${1}`, `$$`. The error is a line for the log.
fn template(text: &[u8]) -> Result<Vec<Piece>, String> {
    let invalid = || {
        let shown = String::from_utf8_lossy(text);
        format!("lua script: invalid capturing variable name found in \"{shown}\"")
    };
    let mut out = vec![Piece::Text(Vec::new())];
    let mut at = 0;
    while at < text.len() {
        let literal = if text[at] != b'$' {
            at += 1;
            text[at - 1]
        } else if text.get(at + 1) == Some(&b'$') {
            at += 2;
            b'$'
        } else {
            let braces = text.get(at + 1) == Some(&b'{');
            let start = at + 1 + usize::from(braces);
            let rest = text.get(start..).unwrap_or_default();
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let words = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            let len = if digits > 0 { digits } else { words };
            if len == 0 {
                return Err(invalid());
            }
            let name = String::from_utf8_lossy(&rest[..len]).into_owned();
            at = start + len;
            if braces {
                if text.get(at) != Some(&b'}') {
                    return Err(format!("the closing bracket in \"{name}\" variable is missing"));
                }
                at += 1;
            }
            let Ok(number) = name.parse() else {
                return Err(format!(
                    "attempt to use named capturing variable \"{name}\" (named captures not supported yet)"
                ));
            };
            out.push(Piece::Group(number));
            out.push(Piece::Text(Vec::new()));
            continue;
        };
        if let Some(Piece::Text(t)) = out.last_mut() {
            t.push(literal);
        }
    }
    Ok(out)
}

/// A substitution under way.
struct Sub {
    re: Rc<Regex>,
    flags: Flags,
    subject: Vec<u8>,
    all: bool,
    at: usize,
    copied: usize,
    count: u32,
    out: Vec<u8>,
    done: bool,
}

impl Sub {
    /// The next match; copies what lies in front of it.
    fn next(&mut self) -> Result<Option<Vec<Option<(usize, usize)>>>, String> {
        if self.done || self.at > self.subject.len() {
            return Ok(None);
        }
        let hit = with_match(|d| {
            run(&self.re, self.flags, &self.subject, self.at, d).map(|hit| hit.then(|| groups_of(d)))
        })?;
        let Some(groups) = hit else { return Ok(None) };
        let Some(Some((from, to))) = groups.first().copied() else { return Ok(None) };
        self.out.extend_from_slice(&self.subject[self.copied..from]);
        self.copied = to;
        self.at = after_match(&self.subject, from, to);
        self.count += 1;
        self.done = !self.all;
        Ok(Some(groups))
    }

    fn finish(mut self) -> (Vec<u8>, u32) {
        self.out.extend_from_slice(&self.subject[self.copied..]);
        (self.out, self.count)
    }
}

/// `ngx.re.sub(subject, regex, replace, options?)`: the new text and how often.
fn sub(vm: &mut Vm, e: Entry) -> NativeResult {
    substitute(vm, e, false)
}

/// `ngx.re.gsub(subject, regex, replace, options?)`: the same for every match.
fn gsub(vm: &mut Vm, e: Entry) -> NativeResult {
    substitute(vm, e, true)
}

/// Slot of the state cell: behind the arguments.
const STATE_SLOT: usize = 4;

fn substitute(vm: &mut Vm, e: Entry, all: bool) -> NativeResult {
    if e.label() != 0 {
        return continue_with_function(vm, e);
    }
    let subject = subject(vm)?;
    let (re, flags) = regex_or_return!(vm, 3, 2);
    let mut s = Sub { re, flags, subject, all, at: 0, copied: 0, count: 0, out: Vec::new(), done: false };
    let replace = vm.arg(2);
    if replace.type_name() == "function" {
        let cell = vm.heap.new_udata(s, None);
        vm.set_slot(STATE_SLOT, cell.value());
        return call_next(vm, cell);
    }
    let text = vm.raw_text(vm.arg(2));
    let pieces = match template(&text) {
        Ok(p) => p,
        Err(line) => {
            here().log_plain(Level::Error, line.as_bytes());
            return nil_text(vm, 2, "failed to compile the replacement template");
        }
    };
    loop {
        match s.next() {
            Err(t) => return nil_text(vm, 2, &t),
            Ok(None) => break,
            Ok(Some(groups)) => {
                for p in &pieces {
                    match p {
                        Piece::Text(t) => s.out.extend_from_slice(t),
                        Piece::Group(n) => {
                            if let Some(Some((a, b))) = groups.get(*n) {
                                let (a, b) = (*a, *b);
                                let Sub { out, subject, .. } = &mut s;
                                out.extend_from_slice(&subject[a..b]);
                            }
                        }
                    }
                }
            }
        }
    }
    finish(vm, s)
}

fn finish(vm: &mut Vm, s: Sub) -> NativeResult {
    let (out, count) = s.finish();
    let v = string(vm, out);
    results(vm, &[v, Value::num(f64::from(count))])
}

/// Calls the replacement function for the next match, or ends.
fn call_next(vm: &mut Vm, cell: Gc<Userdata>) -> NativeResult {
    let Some(s) = cell.downcast_mut::<Sub>(&mut vm.heap) else {
        return Err(vm.throw_str(b"substitution without its state"));
    };
    match s.next() {
        Err(t) => nil_text(vm, 2, &t),
        Ok(None) => match cell.take::<Sub>(&mut vm.heap) {
            Some(s) => finish(vm, s),
            None => Err(vm.throw_str(b"substitution without its state")),
        },
        Ok(Some(groups)) => {
            let (re, subject) = (s.re.clone(), std::mem::take(&mut s.subject));
            let t = vm.heap.new_table(groups.len() as u32 + 1, 0);
            fill(vm, t, &re, &subject, &groups);
            if let Some(s) = cell.downcast_mut::<Sub>(&mut vm.heap) {
                s.subject = subject;
            }
            let f = vm.arg(2);
            vm.prepare_call(f);
            vm.push(Value::obj(t));
            Ok(Outcome::call(1, 1))
        }
    }
}

fn continue_with_function(vm: &mut Vm, e: Entry) -> NativeResult {
    let v = vm.top_value(e.count(), 0);
    let text = match v.type_name() {
        "string" | "number" => vm.raw_text(v),
        other => {
            let text =
                format!("string or number expected to be returned by the replace function, got {other}");
            return Err(vm.throw_str(text.as_bytes()));
        }
    };
    let Some(cell) = vm.slot(STATE_SLOT).as_obj::<Userdata>() else {
        return Err(vm.throw_str(b"substitution without its state"));
    };
    vm.set_top(STATE_SLOT + 1);
    if let Some(s) = cell.downcast_mut::<Sub>(&mut vm.heap) {
        s.out.extend_from_slice(&text);
    }
    call_next(vm, cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_know_groups_and_dollars() {
        let show = |t: &[u8]| {
            template(t).map(|p| {
                p.iter()
                    .map(|p| match p {
                        Piece::Text(t) => String::from_utf8_lossy(t).into_owned(),
                        Piece::Group(n) => format!("<{n}>"),
                    })
                    .collect::<String>()
            })
        };
        assert_eq!(show(b"a$1b${12}$$c$0").as_deref(), Ok("a<1>b<12>$c<0>"));
        let error = |t: &[u8]| template(t).err().unwrap_or_default();
        assert_eq!(
            error(b"$x"),
            "attempt to use named capturing variable \"x\" (named captures not supported yet)"
        );
        assert_eq!(error(b"${1"), "the closing bracket in \"1\" variable is missing");
        assert_eq!(error(b"a$"), "lua script: invalid capturing variable name found in \"a$\"");
        assert_eq!(after_match("aé".as_bytes(), 1, 1), 3);
    }
}
