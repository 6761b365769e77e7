//! The heap's limit strikes anywhere: with a limit that is reached at the n-th allocation, for every n until the program
//! gets through, each run ends with `not enough memory` or the program's own answer, and the machine is sound.

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
        vm.collect_garbage();
        let mut struck = 0;
        let mut room = 0;
        loop {
            vm.collect_garbage();
            vm.heap.acct.limit = vm.heap.total_bytes() + room;
            let got = run(&mut vm, code);
            vm.heap.acct.limit = usize::MAX;
            match got {
                (true, text) => {
                    assert_eq!(text, want.1, "{code} with {room} bytes");
                    break;
                }
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
