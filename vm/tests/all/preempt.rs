//! A spent limit that yields to the host: the whole chain stops between two instructions and goes on as if nothing had
//! happened, wherever it was.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use moonlit_vm::gc::check::check;
use moonlit_vm::host::native::{Limit, Verdict};
use moonlit_vm::host::{Error, Function, Lua, MultiValue, ThreadStatus, Value, VmState};

/// Programs with loops and calls in every place code can be called from. Each returns one string or number.
const PROGRAMS: &[&str] = &[
    "local s = 0 for i = 1, 50 do s = s + i end local i = 0 while i < 20 do i = i + 1 s = s + i end
     repeat i = i - 1 until i == 0 for k, v in pairs({a = 1, b = 2}) do s = s + v end
     for _, v in ipairs({5, 6}) do s = s + v end for w in ('a b c'):gmatch('%a') do s = s + #w end return s",
    "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end return fib(12)",
    "local function va(...) local n = select('#', ...) if n > 20 then return n, ... end return va(n, ...) end
     local t = {va(1, 2)} return #t .. ':' .. select('#', va())",
    "local function tail(n, acc) if n == 0 then return acc end return tail(n - 1, acc + n) end return tail(100, 0)",
    // Nested coroutines, wrapped and resumed, with values on the way in and out.
    "local out = {}
     local inner = function(a) for i = 1, 5 do out[#out + 1] = a .. i a = coroutine.yield(a) end return 'done' end
     local outer = coroutine.wrap(function(x)
       local co = coroutine.create(inner) local ok, v = coroutine.resume(co, x)
       while coroutine.status(co) ~= 'dead' do x = coroutine.yield(v) ok, v = coroutine.resume(co, x) end return v end)
     local r = {} for i = 1, 6 do r[i] = outer('m' .. i) end return table.concat(out, ',') .. '|' .. table.concat(r, ',')",
    // Protected calls: an interruption is no error and is not caught; errors around it are.
    "local function boom(n) local t for i = 1, n do t = i end error('e' .. n, 0) end
     local a = {pcall(boom, 3)} local b = {xpcall(boom, function(m) local s = '' for i = 1, 5 do s = s .. i end return m .. s end, 4)}
     local ok, v = pcall(pcall, function() for i = 1, 9 do end return 7 end)
     return tostring(a[1]) .. a[2] .. tostring(b[1]) .. b[2] .. tostring(ok) .. tostring(v)",
    // Metamethods of all shapes.
    "local function loop(v) for i = 1, 3 do v = v end return v end
     local mt = {__index = function(t, k) return loop(k .. '!') end, __newindex = function(t, k, v) rawset(t, loop(k), v) end,
       __add = function(a, b) return loop(11) end, __concat = function(a, b) return loop('cat') end,
       __lt = function() return loop(true) end, __le = function() return loop(false) end, __eq = function() return loop(true) end,
       __call = function(self, a, b) return loop(a) + b end, __unm = function() return loop(-1) end,
       __tostring = function() return loop('str') end}
     local a, b = setmetatable({}, mt), setmetatable({}, mt) a.z = 3
     return a.x .. (a + b) .. ('' .. a) .. tostring(a < b) .. tostring(a <= b) .. tostring(a == b) .. a(4, 5) .. -a .. tostring(a) .. a.z",
    "local t = {} for i = 1, 40 do t[i] = (i * 37) % 41 end
     table.sort(t, function(a, b) local x = 0 for i = 1, 3 do x = x + i end return a > b end) return table.concat(t, ' ')",
    "return (('one two three'):gsub('%a+', function(w) local r = '' for i = #w, 1, -1 do r = r .. w:sub(i, i) end return r end))",
    "local parts, i = {'return ', '1 +', ' 41'}, 0
     local f = load(function() for j = 1, 3 do end i = i + 1 return parts[i] end) return f()",
    "package.preload.m = function(n) local s = n for i = 1, 5 do s = s .. i end return s end return require('m')",
    "local n, me = 0, coroutine.running() local function hook() if coroutine.running() == me then n = n + 1 end end
     local function f(x) for i = 1, 3 do x = x + i end return x end
     debug.sethook(hook, 'cr') local s = 0 for i = 1, 5 do s = s + f(i) end debug.sethook() return s .. ':' .. n",
    "local t = setmetatable({}, {__mode = 'v'}) for i = 1, 30 do t[i] = {i} end collectgarbage()
     local u = newproxy(true) local seen getmetatable(u).__gc = function() for i = 1, 5 do end seen = 'gone' end u = nil
     collectgarbage() return seen",
    "local s = '' for i = 1, 30 do s = s .. string.format('%d,%s;', i, tostring({} ~= nil)) end return s",
    "goto top ::back:: do return 'end' end ::top:: local n = 0 ::again:: n = n + 1 if n < 10 then goto again end goto back",
    "local up = 0 local function count() up = up + 1 return up end local fs = {}
     for i = 1, 10 do local j = i fs[i] = function() j = j + count() return j end end
     local s = 0 for _, f in ipairs(fs) do s = s + f() + f() end return s",
    "local it = function(s, c) for i = 1, 2 do end if c < s then return c + 1, c * c end end
     local r = 0 for i, v in it, 8, 0 do r = r + v end return r",
];

/// Runs a program as a coroutine of a fresh machine; with a slice, every so many rounds and calls the machine stops
/// it, collects, and runs something else before it goes on. Answers the result and how often it stopped.
fn run(code: &str, slice: Option<u64>) -> (String, usize) {
    let lua = Lua::new();
    let f = lua.load(code).set_name("=x").into_function().expect("compiles");
    let co = lua.create_thread(f).unwrap();
    let other = lua.create_thread(
        lua.load("local n = 0 while true do n = n + 1 coroutine.yield(n) end").into_function().unwrap(),
    );
    let other = other.unwrap();
    lua.set_interrupt(|_| Ok(VmState::Yield));
    let mut stops = 0;
    loop {
        lua.set_fuel(slice);
        let got = co.resume::<MultiValue>(()).unwrap_or_else(|e| panic!("{code}: {e}"));
        lua.set_fuel(None);
        match co.status() {
            ThreadStatus::Interrupted => assert!(got.is_empty()),
            ThreadStatus::Finished => {
                let text = match &got[0] {
                    Value::String(s) => String::from_utf8_lossy(&s.to_bytes()).into_owned(),
                    Value::Number(n) => n.to_string(),
                    v => v.type_name().to_string(),
                };
                return (text, stops);
            }
            s => panic!("{code}: {s:?}"),
        }
        stops += 1;
        assert_eq!(other.resume::<usize>(()).unwrap(), stops);
        if stops % 3 == 0 {
            lua.gc_collect().unwrap();
            lua.with(|vm| check(vm)).unwrap_or_else(|e| panic!("{code}: {e}"));
        }
        assert!(stops < 100_000, "{code} never ends");
    }
}

#[test]
fn programs_that_are_interrupted_come_to_the_same() {
    for code in PROGRAMS {
        let (want, none) = run(code, None);
        assert_eq!(none, 0);
        for slice in [1, 2, 3, 7] {
            let (got, stops) = run(code, Some(slice));
            assert_eq!(got, want, "{code} in slices of {slice}");
            assert!(stops > 0 || slice > 3, "{code} in slices of {slice}");
        }
    }
}

#[test]
fn endless_programs_stop_and_their_pcalls_do_not_notice() {
    for code in [
        "while true do pcall(function() while true do end end) end",
        "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end",
        "local function f() return f() end return f()",
        "coroutine.wrap(function() coroutine.wrap(function() repeat until false end)() end)()",
        "table.sort({3, 2, 1}, function() while true do end end)",
        "setmetatable({}, {__index = function() while true do end end}).x()",
        "xpcall(error, function() while true do end end)",
    ] {
        let lua = Lua::new();
        let co = lua.create_thread(lua.load(code).into_function().unwrap()).unwrap();
        lua.set_interrupt(|_| Ok(VmState::Yield));
        for _ in 0..20 {
            lua.set_fuel(Some(100));
            co.resume::<()>(()).unwrap();
            assert_eq!(co.status(), ThreadStatus::Interrupted, "{code}");
        }
        // And with a deadline in the past, time after time.
        lua.set_fuel(None);
        for _ in 0..3 {
            lua.set_deadline(Some(Instant::now()));
            co.resume::<()>(()).unwrap();
            assert_eq!(co.status(), ThreadStatus::Interrupted, "{code}");
        }
        // In the end the host has had enough.
        lua.set_interrupt(|_| Err(Error::runtime("enough")));
        let e = match co.resume::<()>(()) {
            Err(Error::RuntimeError { message, .. }) => message,
            other => {
                // The first error may be caught by the program: then it is raised again and again.
                assert!(code.contains("pcall"), "{code}: {other:?}");
                continue;
            }
        };
        assert!(e.ends_with("enough") || code.contains("xpcall"), "{code}: {e}");
    }
}

#[test]
fn the_host_may_let_a_program_go_on_or_raise_what_it_likes() {
    let lua = Lua::new();
    let asked = Rc::new(Cell::new(0));
    let n = asked.clone();
    lua.set_fuel(Some(10));
    lua.set_interrupt(move |lua| {
        n.set(n.get() + 1);
        if n.get() == 5 {
            return Err(Error::runtime("no more"));
        }
        lua.set_fuel(Some(10));
        Ok(VmState::Continue)
    });
    let e = lua.load("while true do end").exec().unwrap_err();
    assert!(e.to_string().starts_with("no more"), "{e}");
    assert_eq!(asked.get(), 5);
    lua.set_fuel(Some(3));
    lua.remove_interrupt();
    let e = lua.load("while true do end").exec().unwrap_err();
    assert!(e.to_string().contains("instruction limit exceeded"), "{e}");
    assert_eq!(lua.fuel(), Some(0));
}

/// A run that the host itself waits for cannot be left: it goes on, and the host can see that beforehand.
#[test]
fn a_nested_run_goes_on_where_it_cannot_yield() {
    let lua = Lua::new();
    let call = lua.create_function(|_, f: Function| f.call::<f64>(())).unwrap();
    lua.globals().set("call", call).unwrap();
    let code = "local s = call(function() local s = 0 for i = 1, 50 do s = s + i end return s end)
                for i = 1, 50 do s = s + i end return s";
    let co = lua.create_thread(lua.load(code).into_function().unwrap()).unwrap();
    let (yields, refusals) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (y, r) = (yields.clone(), refusals.clone());
    lua.with(|vm| {
        vm.on_exhausted = Some(Box::new(move |vm, limit| {
            assert_eq!(limit, Limit::Fuel);
            vm.set_fuel(Some(5));
            let count = if vm.can_preempt() { &y } else { &r };
            count.set(count.get() + 1);
            Verdict::Yield
        }));
    });
    lua.set_fuel(Some(5));
    let mut got = co.resume::<Option<f64>>(()).unwrap();
    while co.status() == ThreadStatus::Interrupted {
        got = co.resume::<Option<f64>>(()).unwrap();
    }
    assert_eq!(got, Some(2550.0));
    assert!(yields.get() >= 5 && refusals.get() >= 5, "{} and {}", yields.get(), refusals.get());
}

/// Nobody but the host continues what was interrupted; a dropped one leaves nothing behind.
#[test]
fn an_interrupted_coroutine_is_the_hosts() {
    let lua = Lua::new();
    lua.set_interrupt(|_| Ok(VmState::Yield));
    let f = lua.load("inner = coroutine.create(function() while true do end end) coroutine.resume(inner)");
    let co = lua.create_thread(f.into_function().unwrap()).unwrap();
    lua.set_fuel(Some(50));
    co.resume::<()>(()).unwrap();
    assert_eq!(co.status(), ThreadStatus::Interrupted);
    lua.set_fuel(None);
    let text: String = lua
        .load("local ok, e = coroutine.resume(inner) return tostring(ok) .. e .. debug.traceback(inner)")
        .eval()
        .unwrap();
    assert!(text.starts_with("falsecannot resume running coroutine"), "{text}");
    assert!(text.contains(":1: in function <"), "{text}");
    drop(co);
    lua.load("inner = nil").exec().unwrap();
    lua.gc_collect().unwrap();
    lua.with(|vm| check(vm)).unwrap();
}

/// A native's own loop cannot be left in the middle; the host hears of it and may raise.
#[test]
fn a_long_native_asks_the_host_too() {
    let lua = Lua::new();
    let asked = Rc::new(Cell::new(0));
    let n = asked.clone();
    lua.set_interrupt(move |lua| {
        n.set(n.get() + 1);
        lua.set_fuel(Some(100_000));
        if n.get() > 3 { Err(Error::runtime("too long")) } else { Ok(VmState::Yield) }
    });
    lua.set_fuel(Some(100_000));
    let code = "return (('a'):rep(300) .. 'c'):find(('a*'):rep(30) .. 'b')";
    let co = lua.create_thread(lua.load(code).into_function().unwrap()).unwrap();
    let start = Instant::now();
    let e = co.resume::<()>(()).unwrap_err();
    assert!(e.to_string().starts_with("too long"), "{e}");
    assert_eq!(asked.get(), 4);
    assert!(start.elapsed() < Duration::from_secs(120));
}
