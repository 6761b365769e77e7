//! Memory runs out anywhere: with a limit that is reached a little later each time, and with the n-th allocation failing
//! for every n until the program gets through, each run ends with `not enough memory` or the program's own answer, and
//! the machine is sound.

use moonlit_vm::gc::check::check;
use moonlit_vm::host::native::{Value, Vm};

/// Programs that allocate in every way there is.
const PROGRAMS: &[&str] = &[
    "local t = {} for i = 1, 200 do t[i] = {i, x = i} end return #t",
    "local s = '' for i = 1, 100 do s = s .. i .. ';' end return #s",
    "local fs = {} for i = 1, 100 do fs[i] = function() return i end end return fs[100]()",
    "local t = {} for i = 1, 200 do t['k' .. i] = i end local n = 0 for _ in pairs(t) do n = n + 1 end return n",
    "local cos = {} for i = 1, 30 do cos[i] = coroutine.wrap(function(a) while true do a = coroutine.yield(a + i) end end) cos[i](1) end return cos[30](1)",
    "return #(('abc'):rep(100):gsub('b', function(c) return c:upper() .. c end))",
    "return #string.format('%s %q %5.2f %d', ('x'):rep(300), ('y'):rep(300), 1.5, 7)",
    "local t = {} for i = 1, 100 do t[i] = tostring(i) end table.sort(t) return #table.concat(t, ',')",
    "local f = loadstring('local a, b = ... local t = {a, b, x = {1, 2}} return function() return t, a end') return type(f(1, 2)())",
    "local d = string.dump(loadstring('local x = 1 return function() return x end')) return type(loadstring(d)())",
    "local function f(...) if select('#', ...) > 50 then return ... end return f(1, ...) end return (f())",
    "local ok, e = pcall(error, {}) local t = setmetatable({}, {__index = function(t, k) return k .. 'x' end}) return t.a",
    "local u = {} for i = 1, 30 do u[i] = newproxy(true) getmetatable(u[i]).__gc = function() end end u = nil return 1",
    "local n = 0 for w in ('one two three four'):gmatch('%a+') do n = n + #w end return n",
    "local t = setmetatable({}, {__mode = 'k'}) for i = 1, 100 do t[{}] = {} end return 1",
    "local b = require('string.buffer').new() for i = 1, 50 do b:put('item', ({i})[1], ';'):putf('%05d', i) end return #b:tostring()",
    "local buf = require('string.buffer') local t = {1, 'two', {x = {true, {}}}, 2.5, [100] = 'far', s = ('s'):rep(300)}
     return #buf.encode(buf.decode(buf.encode(t)))",
    "local json = require('cjson') local s = json.encode({1, {a = 'b', c = {1, 2, {}}}, 'x', {d = json.null}})
     return #json.encode(json.decode(s)) + #json.encode(json.decode('[' .. ('{\"k\":[1,\"v\"]},'):rep(150) .. '1]'))",
    "local m = require('string.buffer').encode({}) package.preload.p = function() return {m = m} end return #require('p').m",
    "local s = 0 for _, v in ipairs({pcall(string.rep, 'ab', 1000)}) do s = s + #tostring(v) end return s",
    "local ok, tb = xpcall(function() error({}) end, function(e) return debug.traceback(tostring(type(e))) end) return #tb > 10",
    "local t = require('table.new')(100, 100) for i = 1, 100 do t[i] = i t['x' .. i] = i end local u = {} for k, v in pairs(t) do u[#u + 1] = k end return #u",
    "local t = {} for i = 1, 300 do table.insert(t, 1 + i % 3, i) end local u = table.move(t, 1, 300, 5, {}) return #table.concat(u, ',', 5)",
    "local co = coroutine.create(function(...) local t = {...} error(table.concat(t, '-')) end)
     local ok, e = coroutine.resume(co, 1, 2, 3) return tostring(ok) .. e",
    "local function deep(n) if n == 0 then return {} end local t = {deep(n - 1)} return t end return #deep(100)",
    "local s = '' for w, n in ('a=1 bb=22 ccc=333'):gmatch('(%w+)=(%d+)') do s = w .. s .. n end return s:upper():reverse():lower()",
    "return select('#', ('x'):rep(200):byte(1, -1)) .. #string.char(('y'):rep(150):byte(1, -1))",
    "local h = 0 debug.sethook(function() h = h + 1 local t = {h} end, '', 3) local t = {} for i = 1, 20 do t[i] = {} end debug.sethook() return #t",
];

fn machine() -> Box<Vm> {
    let mut vm = Vm::with_compat(false);
    moonlit_vm::lib::open_all(&mut vm);
    vm
}

/// Runs a program; its answer or its error as text.
fn run(vm: &mut Vm, code: &str) -> (bool, String) {
    match vm.load(code.as_bytes(), b"=x", b"t", None) {
        Err(m) => (false, String::from_utf8_lossy(&m).into_owned()),
        Ok(f) => match vm.call(Value::obj(f), &[]) {
            Ok(v) => {
                let v = v.first().copied().unwrap_or(Value::NIL);
                (true, String::from_utf8_lossy(&vm.raw_text(v)).into_owned())
            }
            Err(_) => {
                let e = vm.take_error();
                (false, String::from_utf8_lossy(&vm.raw_text(e)).into_owned())
            }
        },
    }
}

#[test]
fn the_limit_strikes_at_every_place_and_the_heap_is_sound() {
    for code in PROGRAMS {
        let want = run(&mut machine(), code);
        assert!(want.0, "{code}: {}", want.1);
        let mut vm = machine();
        // Modules are there from then on: one whose loading failed is not loaded again.
        run(&mut vm, code);
        vm.collect_garbage();
        let mut struck = 0;
        let mut room = 0;
        loop {
            vm.collect_garbage();
            vm.heap.acct.limit = vm.heap.total_bytes() + room;
            let got = run(&mut vm, code);
            vm.heap.acct.limit = usize::MAX;
            match got {
                (true, text) if text == want.1 => break,
                // The program has caught it.
                (true, text) => assert!(code.contains("pcall"), "{code} with {room} bytes: {text}"),
                (false, text) => {
                    assert!(text.ends_with("not enough memory"), "{code} with {room} bytes: {text}")
                }
            }
            struck += 1;
            if struck % 8 == 0 {
                vm.collect_garbage();
                check(&mut vm).unwrap_or_else(|e| panic!("{code} with {room} bytes: {e}"));
            }
            // Small steps first: the places where little is asked for.
            room += 64 + room / 24;
            assert!(room < 64 << 20, "{code} never gets through");
        }
    }
}

/// Every single allocation fails once: cells, large objects, table parts, stacks, prototypes, what userdata hold outside.
#[test]
fn every_allocation_may_fail_and_the_machine_goes_on() {
    for code in PROGRAMS {
        let want = run(&mut machine(), code);
        let mut vm = machine();
        run(&mut vm, code);
        // A program that catches errors may catch this one, too.
        let catches = code.contains("pcall") || code.contains("resume");
        let mut n = 0;
        loop {
            n += 1;
            if n % 16 == 0 {
                vm.collect_garbage();
            }
            vm.heap.fail_allocation(n);
            let mut got = run(&mut vm, code);
            let through = vm.heap.allocations_left() > 0;
            // An answer is the right one: no failure goes unheard.
            assert!(!got.0 || got == want || catches, "{code} with allocation {n}: {}", got.1);
            if got.0 && !through && vm.safepoint().is_err() {
                // It failed behind the last place where the program could have been told.
                let e = vm.take_error();
                got = (false, String::from_utf8_lossy(&vm.raw_text(e)).into_owned());
            }
            vm.heap.fail_allocation(0);
            if through {
                assert_eq!(got, want, "{code} beyond allocation {n}");
                break;
            }
            assert!(
                got.1.ends_with("not enough memory") || catches,
                "{code} with allocation {n} failing: {}",
                got.1
            );
            if n % 4 == 0 {
                check(&mut vm).unwrap_or_else(|e| panic!("{code} with allocation {n} failing: {e}"));
            }
            // It is of use afterwards, hooks aside, which the failure may have left set.
            vm.set_hook(Value::NIL, 0, 0);
            assert_eq!(run(&mut vm, "local t = {1} return #t .. 'x'").1, "1x", "after {code}, {n}");
            assert!(n < 100_000, "{code} never gets through");
        }
        assert!(n > 5, "{code} allocates {n} times only");
    }
}
