//! Hostile programs: LuaJIT's error or a limit's, never a panic, a crash or a run without end.

use std::time::{Duration, Instant};

use moonlit_vm::host::native::{Value, Vm};

/// Memory for the machine of a test.
const MEMORY: usize = 256 << 20;
/// Nothing here may take longer.
const TIME: Duration = Duration::from_secs(40);

fn machine() -> Box<Vm> {
    let mut vm = Vm::with_compat(false);
    moonlit_vm::lib::open_all(&mut vm);
    vm.heap.acct.limit = MEMORY;
    vm
}

/// What a chunk comes to: `ok` with the text of its first result, or its error.
fn outcome(vm: &mut Vm, code: &[u8]) -> String {
    let start = Instant::now();
    let text = |vm: &mut Vm, v: Value| String::from_utf8_lossy(&vm.raw_text(v)).into_owned();
    let r = match vm.load(code, b"=x", b"bt", None) {
        Err(message) => String::from_utf8_lossy(&message).into_owned(),
        Ok(f) => match vm.call(Value::obj(f), &[]) {
            Ok(values) => {
                let first = values.first().copied().unwrap_or(Value::NIL);
                format!("ok {}", text(vm, first))
            }
            Err(_) => {
                let err = vm.take_error();
                text(vm, err)
            }
        },
    };
    assert!(!r.contains("panic in native"), "{r}");
    assert!(start.elapsed() < TIME, "took {:?}", start.elapsed());
    r
}

/// Every pair: code, and how its outcome ends.
fn check(cases: &[(&str, &str)]) {
    for (code, want) in cases {
        let mut vm = machine();
        let got = outcome(&mut vm, code.as_bytes());
        assert!(got.ends_with(want), "{code}\n  gives {got}\n  not   {want}");
        // The machine is of use afterwards.
        assert_eq!(outcome(&mut vm, b"return 1 + 1"), "ok 2", "after {code}");
    }
}

#[test]
fn deep_nesting_is_a_syntax_error() {
    let deep = |open: &str, middle: &str, close: &str| {
        [open.repeat(100_000), middle.to_string(), close.repeat(100_000)].concat()
    };
    for code in [
        deep("(", "1", ")"),
        format!("return {}", deep("(", "1", ")")),
        format!("return {}", deep("{", "", "}")),
        format!("return {}", deep("- ", "1", "")),
        format!("return {}", deep("not ", "1", "")),
        format!("return {}", deep("1 ^ ", "1", "")),
        format!("return {}", deep("'a' .. ", "1", "")),
        format!("return {}", deep("function() return ", "1", " end")),
        format!("return a{}", deep("[a", "", "]")),
        format!("f{}", deep("(f", "", ")")),
        deep("do ", "", " end"),
        deep("if a then ", "", " end"),
        deep("while a do ", "", " end"),
        deep("repeat ", "", " until a"),
        deep("for i = 1, 2 do ", "", " end"),
        format!("if a then {} end", "elseif a then ".repeat(100_000)),
        format!("return {}", deep("a ? ", "1", " : 1")),
        format!("return {}", deep("a -> ", "1", "")),
    ] {
        let mut vm = machine();
        let got = outcome(&mut vm, code.as_bytes());
        assert!(!got.starts_with("ok") || code.contains("elseif"), "{} ... gives {got}", &code[..40]);
    }
}

#[test]
fn long_lines_and_many_of_them_load() {
    let mut vm = machine();
    vm.heap.acct.limit = 1 << 30;
    let long = format!("return #'{}'", "x".repeat(10 << 20));
    assert_eq!(outcome(&mut vm, long.as_bytes()), format!("ok {}", 10 << 20));
    let comment = format!("--[[{}]] return 1", "] ".repeat(5 << 20));
    assert_eq!(outcome(&mut vm, comment.as_bytes()), "ok 1");
    let name = "n".repeat(10 << 20);
    assert_eq!(outcome(&mut vm, format!("{name} = 3 return {name}").as_bytes()), "ok 3");
    let digits = format!("return {}", "9".repeat(1 << 20));
    assert_eq!(outcome(&mut vm, digits.as_bytes()), "ok inf");
    let lines = format!("{}return 1", "\n".repeat(10 << 20));
    assert_eq!(outcome(&mut vm, lines.as_bytes()), "ok 1");
    let sum = format!("return {}1", "1 + ".repeat(200_000));
    assert_eq!(outcome(&mut vm, sum.as_bytes()), "ok 200001");
}

/// Chunks of one line, up to ten million bytes of the same thing: a result or an error, and no native stack that grows.
#[test]
fn one_line_of_the_same_thing_ends() {
    let mut vm = machine();
    vm.heap.acct.limit = 1 << 30;
    for (head, unit, tail, expected) in [
        ("local a = 1 return ", "a + ", "1", "ok 300001"),
        ("local a = 1 return ", "a == ", "1", "ok false"),
        ("local a = 1 return ", "a | ", "2", "ok 3"),
        ("local a = {} return a", ".x", "", "attempt to index field 'x' (a nil value)"),
        ("local a return a", "?.x", "", "ok nil"),
        ("local function f() return f end f", "()", "", "ok"),
        ("local a = 1 return ", "a ^ ", "1", "chunk has too many syntax levels"),
        ("local a = 'x' return ", "a .. ", "a", "chunk has too many syntax levels"),
        ("local a = 1 return ", "not ", "a", "chunk has too many syntax levels"),
        ("local a = 1 return ", "- ", "a", "chunk has too many syntax levels"),
        ("local a = nil return ", "a ? 1 : ", "2", "chunk has too many syntax levels"),
        ("return ", "(", "1", "chunk has too many syntax levels"),
        ("return ", "{", "", "chunk has too many syntax levels"),
        ("", "function f() ", "", "chunk has too many syntax levels"),
        ("return ", "x -> ", "1", "chunk has too many syntax levels"),
        ("local a = 1 return ", "a and ", "2", "control structure too long"),
        ("local a = 1 if a == 0 then ", "elseif a == 2 then ", "end", "control structure too long"),
        ("return #{", "1, ", "}", "ok 300000"),
        ("return f(", "1, ", "1)", "function or expression too complex"),
        ("", "a, ", "a = 1", "variable names"),
        ("", "local a = 1 ", "", "has more than 200 local variables"),
        ("return 0x", "ffffffffff", "", "ok inf"),
        ("return 1e", "9999999999", "", "malformed number"),
        ("return '", "xxxxxxxxxx", "", "unfinished string"),
        ("return [[", "xxxxxxxxxx", "", "unfinished long string"),
        ("--[[", "xxxxxxxxxx", "", "unfinished long comment"),
        ("return #'", "\\n\\65\\z  ", "'", "ok 600000"),
        ("", "\0", "", "unexpected symbol"),
    ] {
        // Ten bytes that cost the parser little make ten million of them.
        let n = if unit.len() == 10 { 1_000_000 } else { 300_000 };
        let code = [head, &unit.repeat(n), tail].concat();
        let got = outcome(&mut vm, code.as_bytes());
        assert!(got.contains(expected), "{head}{unit}...{tail} gives {}", &got[..got.len().min(200)]);
    }
}

#[test]
fn too_much_of_anything_is_a_syntax_error() {
    let many = |n: usize, f: &dyn Fn(usize) -> String| (0..n).map(f).collect::<Vec<_>>().join(", ");
    let names = many(201, &|i| format!("a{i}"));
    let upvalues = (0..70).map(|i| format!("local a{i}\n")).collect::<String>();
    let uses = many(70, &|i| format!("a{i}"));
    check(&[
        (&format!("local {names}"), "main function has more than 200 local variables"),
        (&format!("{upvalues} return function() return {uses} end"), "has more than 60 upvalues"),
        (&format!("return function({names}) end"), "has more than 200 local variables"),
        (
            &format!("return f({})", many(300, &|i| format!("a{i}"))),
            "function or expression too complex near 'a248'",
        ),
    ]);
    // Constants and a table of them are only limited by memory.
    let mut vm = machine();
    let table = format!("return #{{{}}}", many(100_000, &|i| format!("{i}.5")));
    assert_eq!(outcome(&mut vm, table.as_bytes()), "ok 100000");
    let keys = format!("local t = {{{}}} return t.k69999", many(70_000, &|i| format!("k{i} = {i}")));
    let got = outcome(&mut vm, keys.as_bytes());
    assert!(
        got == "ok 69999"
            || got.contains("too many constants")
            || got.contains("has more than 65536 constants"),
        "{got}"
    );
}

#[test]
fn stacks_overflow_in_every_shape_and_are_errors() {
    check(&[
        ("local function f() return 1 + f() end return f()", "stack overflow"),
        ("local function f(...) return 1 + f(1, ...) end return f()", "stack overflow"),
        (
            "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k .. 'x'] end return t.a",
            "overflow",
        ),
        (
            "local t = setmetatable({}, {}) getmetatable(t).__add = function(a, b) return a + b end return t + 1",
            "overflow",
        ),
        (
            "local t = setmetatable({}, {}) getmetatable(t).__call = function(t) return 1 + t() end return t()",
            "overflow",
        ),
        (
            "local t = setmetatable({}, {}) getmetatable(t).__concat = function(a, b) return 'x' .. a .. b end return t .. 1",
            "overflow",
        ),
        (
            "local t = setmetatable({}, {}) getmetatable(t).__lt = function(a, b) return not (a < b) end return t < t",
            "overflow",
        ),
        (
            "local t = setmetatable({}, {}) getmetatable(t).__tostring = function(t) return 'x' .. tostring(t) end return tostring(t)",
            "overflow",
        ),
        (
            "local t = {} for i = 1, 101 do t = setmetatable({}, {__index = t}) end return t.x",
            "loop in gettable",
        ),
        ("local t = {} setmetatable(t, {__index = t}) return t.x", "loop in gettable"),
        ("local t = {} setmetatable(t, {__newindex = t}) t.x = 1", "loop in settable"),
        ("local function f() return pcall(f) end return f()", "ok true"),
        ("local function f() return (select(2, pcall(f))) end return type(f())", "ok string"),
        (
            "local function h(e) return h(e) .. 1 end return select(2, xpcall(error, h, 1))",
            "ok error in error handling",
        ),
        (
            "local function h(e) error(e) end return select(2, xpcall(error, h, 1))",
            "ok error in error handling",
        ),
        ("local function f() return coroutine.wrap(f)() end return f()", "C stack overflow"),
        (
            "local function f() local ok, e = coroutine.resume(coroutine.create(f)) error(e, 0) end return f()",
            "C stack overflow",
        ),
        (
            "local function f() return coroutine.wrap(function() return select(2, pcall(f)) end)() end return f()",
            "ok C stack overflow",
        ),
        (
            "local function f() return coroutine.wrap(function() return select(2, xpcall(f, function(e) return e end)) end)() end return f()",
            "ok C stack overflow",
        ),
        (
            "local function f() return setmetatable({}, {__index = function() return coroutine.wrap(f)() end}).x end return f()",
            "C stack overflow",
        ),
        (
            "local function f() coroutine.wrap(function() table.sort({1, 2}, function() return f() end) end)() end return f()",
            "C stack overflow",
        ),
        (
            "local n = 0 local all = {} local function f() n = n + 1 local co = coroutine.create(function() f() coroutine.yield() end) \
             all[#all + 1] = co return coroutine.resume(co) end f() for i = #all, 1, -1 do coroutine.resume(all[i]) end return n > 50",
            "ok true",
        ),
        ("return select(2, xpcall(error, error, 1))", "ok error in error handling"),
        ("return xpcall(error, coroutine.wrap(function(e) error(e) end), 1)", "ok false"),
        (
            "local n = 0 return select(2, xpcall(error, function(e) n = n + 1 pcall(error) error(n) end, 1))",
            "stack overflow",
        ),
        (
            "local t = setmetatable({}, {}) getmetatable(t).__newindex = function(t, k, v) t[k .. 'x'] = v return 1 end t.x = 1",
            "overflow",
        ),
        (
            "local mt = {} mt.__eq = function(a, b) return not (a == b) end return setmetatable({}, mt) == setmetatable({}, mt)",
            "overflow",
        ),
        (
            "local t = {} for i = 1, 300 do t = setmetatable({}, {__call = t}) end return t()",
            "attempt to call local 't' (a table value)",
        ),
        (
            "local function f() local co = coroutine.create(f) return coroutine.resume(co) end return f()",
            "ok true",
        ),
        (
            "local s = 'return 1' for i = 1, 300 do s = 'return load(' .. ('%q'):format(s):sub(1, 60000) .. ')' if #s > 60000 then break end end return type(s)",
            "ok string",
        ),
        (
            "local function f() return table.sort({1, 2, 3}, function(a, b) return f() end) end return f()",
            "overflow",
        ),
        ("local function f(s) return s:gsub('.', f) end return f('abc')", "overflow"),
        ("return unpack({}, 1, 1e7)", "too many results to unpack"),
        ("return select('#', unpack({}, 1, 7999))", "ok 7999"),
        ("return string.byte(('x'):rep(1e6), 1, -1)", "string slice too long"),
        ("return unpack({}, -2147483648, 2147483647)", "too many results to unpack"),
    ]);
}

#[test]
fn terabytes_are_not_enough_memory() {
    check(&[
        ("return ('x'):rep(2^31 - 1)", "not enough memory"),
        ("return ('xy'):rep(2^31 - 1)", "not enough memory"),
        ("return #('x'):rep(1e10)", "ok 0"),
        ("local s = ('x'):rep(1e6) return s:gsub('x', s)", "not enough memory"),
        ("local s = 'x' for i = 1, 60 do s = s .. s end", "not enough memory"),
        ("local t = {} for i = 1, 1e9 do t[i] = i end", "not enough memory"),
        ("local t = {} for i = 1, 1e9 do t[i .. ''] = i end", "not enough memory"),
        ("local t = {} while true do t = {t} end", "not enough memory"),
        (
            "local t = {} for i = 1, 1e4 do t[i] = ('x'):rep(1e5) end return table.concat(t)",
            "not enough memory",
        ),
        ("return table.concat({}, ('x'):rep(1e6), 1, 0)", "ok "),
        ("local f = function() return ('x'):rep(1e6) end return select(2, load(f))", "not enough memory"),
        (
            "local b = require 'string.buffer'.new() while true do b:put(('x'):rep(1e6)) end",
            "not enough memory",
        ),
        (
            "local t = {} for i = 1, 60 do t = {t, t} end return require 'cjson'.encode(t)",
            "not enough memory",
        ),
        (
            "local t = {} for i = 1, 60 do t = {t, t} end return require 'string.buffer'.encode(t)",
            "not enough memory",
        ),
        ("return ('%99.99f'):rep(1e5):format(unpack({}, 1, 100))", "(number expected, got nil)"),
    ]);
}

#[test]
fn keys_and_order_functions_that_make_no_sense_are_errors() {
    check(&[
        ("local t = {} t[nil] = 1", "table index is nil"),
        ("local t = {} t[0/0] = 1", "table index is NaN"),
        ("return rawset({}, nil, 1)", "table index is nil"),
        ("return next({}, 'x')", "invalid key to 'next'"),
        (
            "local t = {} for i = 1, 100 do t[i] = i % 7 end table.sort(t, function() return true end)",
            "invalid order function for sorting",
        ),
        ("local t = {1, 'x', 2} table.sort(t)", "attempt to compare string with number"),
        ("local t = {3, 2, 1} table.sort(t, function(a, b) error('no') end)", "no"),
        (
            "local t = {} for i = 1, 1000 do t[i] = math.random() end table.sort(t, function() return math.random() < 0.5 end) return 1",
            "",
        ),
        (
            "setmetatable({}, {__metatable = 1}) return setmetatable(setmetatable({}, {__metatable = 1}), {})",
            "cannot change a protected metatable",
        ),
    ]);
}

#[test]
fn what_does_not_end_stops_at_its_limit() {
    for code in [
        "while true do end",
        "local function f() return f() end return f()",
        "repeat until false",
        "for i = 1, math.huge do end",
        "for i = 1, 2, 0 do end",
        "::a:: goto a",
        "local n = 1 ::a:: n = n + 1 if n > 0 then goto a end",
        "::a:: do do local x local f = function() return x end do goto a end end end",
        "local t = setmetatable({}, {__index = function() return 1 end}) while t.x do end",
        "return (('a'):rep(300) .. 'c'):find(('a*'):rep(30) .. 'b')",
        "return (('a'):rep(5000)):match('.-.-.-.-.-.-.-b')",
        "for w in (('a'):rep(5000)):gmatch('.-.-.-.-.-.-b') do end",
        "return (('a'):rep(5000)):gsub('.-.-.-.-.-.-b', '')",
        "while true do pcall(error) end",
        "while true do pcall(function() while true do end end) end",
        "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end",
        "table.sort({3, 2, 1}, function() while true do end end)",
        "return ('x'):gsub('x', function() while true do end end)",
        "table.insert({}, -2147483648, 1)",
        "table.move({}, -2147483648, 2147483647, 1, {})",
        "table.move({}, 1, 2147483647, 1, {})",
    ] {
        let mut vm = machine();
        vm.set_fuel(Some(200_000));
        let got = outcome(&mut vm, code.as_bytes());
        assert!(!got.starts_with("ok"), "{code} gives {got}");
        assert_eq!(vm.fuel_left(), Some(0), "{code}");
        let mut vm = machine();
        vm.set_deadline(Some(Instant::now() + Duration::from_millis(30)));
        let start = Instant::now();
        let got = outcome(&mut vm, code.as_bytes());
        assert!(!got.starts_with("ok"), "{code} gives {got}");
        assert!(start.elapsed() < Duration::from_secs(10), "{code} took {:?}", start.elapsed());
    }
}

#[test]
fn bytecode_that_is_none_is_refused() {
    check(&[
        ("\u{1b}Lua\0\u{1}", "cannot load incompatible bytecode"),
        ("\u{1b}LJ\u{2}\0", "cannot load incompatible bytecode"),
        ("\u{1b}", "cannot load incompatible bytecode"),
    ]);
    let mut vm = machine();
    let f = vm.load(b"return 1", b"=x", b"t", None).expect("compiles");
    let code = vm.dump_function(f, Default::default()).expect("a Lua function");
    for cut in 0..code.len() {
        let got = outcome(&mut vm, &code[..cut]);
        assert!(got.contains("bytecode") || cut == 0, "{cut}: {got}");
    }
}
