//! Spent limits and failing allocations inside machine code: the host's yield leaves the trace and comes back to it, and
//! "not enough memory" is an error like any other.

use moonlit_jit::{Options, install};
use moonlit_vm::gc::check::check;
use moonlit_vm::host::native::{Resume, Verdict};
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

fn machine() -> Box<Vm> {
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    let mut o = Options::default();
    for w in ["jitsync", "hotloop=2", "hotexit=1"] {
        o.set(w).expect("a known option");
    }
    install(&mut vm, o);
    vm
}

fn text(vm: &mut Vm, v: Value) -> String {
    String::from_utf8_lossy(&vm.raw_text(v)).into_owned()
}

const PROGRAMS: &[&str] = &[
    "local s = 0 for i = 1, 3000 do s = s + i % 7 end return s",
    "local t = {} for i = 1, 500 do t[i] = {i} end local s = 0 for r = 1, 5 do for i = 1, #t do s = s + t[i][1] end end return s",
    "local function f(x) return x * 2 end local s, i = 0, 0 while i < 2000 do i = i + 1 s = s + f(i) end return s",
    "local mt = {__index = function(t, k) return k + 1 end} local t = setmetatable({}, mt)
     local s = 0 for i = 1, 1000 do s = s + t[i] end return s",
    "local w = coroutine.wrap(function() for i = 1, 300 do local s = 0 for j = 1, 20 do s = s + j end coroutine.yield(s + i) end return 0 end)
     local s = 0 for i = 1, 300 do s = s + w() end return s",
    "local s = 0 for i = 1, 300 do local ok, v = pcall(function() local x = 0 for j = 1, 10 do x = x + j end if i % 3 == 0 then error('e', 0) end return x end)
     s = s + (ok and v or 1) end return s",
    "local t = {} for i = 1, 200 do t[i] = (i * 7919) % 211 end
     table.sort(t, function(a, b) local n = 0 for i = 1, 3 do n = n + i end return a < b end) return table.concat(t, ' ')",
    "local parts = {} for i = 1, 400 do parts[#parts + 1] = 'k' .. i end return #table.concat(parts)",
    "local n = 0 for r = 1, 20 do for k, v in pairs({a = 1, b = 2, c = 3}) do n = n + v end end return n",
];

/// The program's answer, run in slices of so many rounds and calls, and how often the host had it back.
fn run(code: &str, slice: Option<u64>) -> (String, usize) {
    let mut vm = machine();
    let f = vm.load(code.as_bytes(), b"=x", b"t", None).expect("compiles");
    let co = vm.new_coroutine(Value::obj(f));
    let root = vm.heap.roots.add(Value::obj(co));
    vm.on_exhausted = Some(Box::new(|_, _| Verdict::Yield));
    vm.set_fuel(slice);
    let mut stops = 0;
    let mut r = vm.resume(co, &[]);
    loop {
        match r {
            Resume::Interrupted => {
                stops += 1;
                if stops % 64 == 1 {
                    vm.collect_garbage();
                    check(&mut vm).unwrap_or_else(|e| panic!("{code}: {e}"));
                }
                vm.set_fuel(slice);
                r = vm.resume_suspended(co, &[]);
            }
            Resume::Finished(v) => {
                vm.heap.roots.remove(root);
                return (text(&mut vm, v[0]), stops);
            }
            other => panic!("{code}: {other:?}"),
        }
    }
}

#[test]
fn compiled_loops_yield_to_the_host_and_go_on() {
    for code in PROGRAMS {
        let (want, none) = run(code, None);
        assert_eq!(none, 0);
        for slice in [1, 5, 50] {
            let (got, stops) = run(code, Some(slice));
            assert_eq!(got, want, "{code} in slices of {slice}");
            assert!(stops > 0, "{code} in slices of {slice}");
        }
    }
}

#[test]
fn an_endless_compiled_loop_yields_at_its_deadline() {
    let mut vm = machine();
    let code = b"local n = 0 while true do n = n + 1 local t = {n} end";
    let f = vm.load(code, b"=x", b"t", None).expect("compiles");
    let co = vm.new_coroutine(Value::obj(f));
    vm.heap.roots.add(Value::obj(co));
    // It gets hot first.
    vm.set_fuel(Some(500));
    vm.on_exhausted = Some(Box::new(|_, _| Verdict::Yield));
    assert!(matches!(vm.resume(co, &[]), Resume::Interrupted));
    vm.set_fuel(None);
    for _ in 0..3 {
        vm.set_deadline(Some(std::time::Instant::now() + std::time::Duration::from_millis(5)));
        assert!(matches!(vm.resume_suspended(co, &[]), Resume::Interrupted));
    }
    vm.on_exhausted = None;
    assert!(matches!(vm.resume_suspended(co, &[]), Resume::Error(_)));
}

#[test]
fn every_allocation_of_compiled_code_may_fail() {
    PROGRAMS.iter().for_each(|code| allocations_fail(machine(), code, &[]));
}

/// C data in compiled loops: made, sunk into exits, handed to C.
#[cfg(feature = "ffi")]
#[test]
fn every_allocation_of_compiled_c_data_may_fail() {
    for code in [
        "local ffi = ... local P = ffi.typeof('struct { int x, y; }') local s = 0
         for i = 1, 300 do local p = P(i, 1) s = s + p.x + p.y end return s",
        "local ffi = ... local P, t = ffi.typeof('struct { double x; }'), {} for i = 1, 200 do t[i] = P(i) end
         local s = 0 for r = 1, 5 do for i = 1, #t do s = s + t[i].x end end return s",
        "local ffi = ... local a, n = ffi.new('int64_t[?]', 100), 0LL for r = 1, 5 do for i = 0, 99 do a[i] = a[i] + i n = n + a[i] end end
         return tostring(n)",
        "local ffi = ... local n = 1ULL for i = 1, 400 do n = n * 3 + i if n % 7 == 0 then n = n + 1 end end return tostring(n)",
        "local ffi = ... local s = 0 for i = 1, 200 do s = s + #ffi.string(ffi.cast('const char *', 'text'), i % 5) end return s",
        "local ffi = ... local t = {} for i = 1, 200 do t[i % 10 + 1] = ffi.new('char[4]', 'abc') end return ffi.string(t[3])",
    ] {
        let mut vm = machine();
        let ffi = Value::obj(moonlit_ffi::install(&mut vm, Vec::new()));
        vm.heap.roots.add(ffi);
        allocations_fail(vm, code, &[ffi]);
    }
}

fn allocations_fail(mut vm: Box<Vm>, code: &str, args: &[Value]) {
    let f = vm.load(code.as_bytes(), b"=x", b"t", None).expect("compiles");
    let f = Value::obj(f);
    vm.heap.roots.add(f);
    let first = vm.call(f, args).expect("runs")[0];
    let want = text(&mut vm, first);
    let mut n = 1u64;
    loop {
        vm.heap.fail_allocation(n);
        let r = vm.call(f, args);
        let through = vm.heap.allocations_left() > 0;
        match r {
            Ok(v) => {
                let got = text(&mut vm, v[0]);
                let late = vm.safepoint().is_err();
                if late {
                    vm.take_error();
                }
                // Within `pcall` the failure may be counted as one of the program's own.
                assert!(got == want || code.contains("pcall"), "{code} with allocation {n}: {got}");
            }
            Err(_) => {
                let e = vm.take_error();
                let got = text(&mut vm, e);
                assert!(got.ends_with("not enough memory"), "{code} with allocation {n}: {got}");
            }
        }
        vm.heap.fail_allocation(0);
        if through {
            break;
        }
        if n % 32 == 1 {
            check(&mut vm).unwrap_or_else(|e| panic!("{code} with allocation {n}: {e}"));
        }
        n += 1;
        assert!(n < 100_000, "{code} never gets through");
    }
}

/// Places in the code share hot counters. Wherever a loop lies, a function header that shares its counter does not keep it
/// from looking at the flags: no handler inside the loop swallows an overrun for good.
#[test]
fn an_overrun_ends_a_loop_wherever_it_lies() {
    let (told, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut vm = Vm::new();
        moonlit_vm::lib::open_all(&mut vm);
        install(&mut vm, Options::default());
        let interrupt = vm.interrupt_handle();
        let loops = [
            "while true do pcall(function() end) end",
            "for i = 1, math.huge do pcall(function() end) end",
            "for k in function() return 1 end do pcall(function() end) end",
        ];
        for pad in 0..160 {
            for l in loops {
                let code = format!("{}{l}", "x = 1 ".repeat(pad));
                let f = vm.load(code.as_bytes(), b"=x", b"t", None).expect("compiles");
                interrupt.overrun();
                assert!(vm.call(Value::obj(f), &[]).is_err());
                let e = vm.take_error();
                assert!(text(&mut vm, e).contains("CPU time limit exceeded"));
                assert!(vm.end_overrun());
            }
        }
        told.send(()).expect("somebody waits");
    });
    ended.recv_timeout(std::time::Duration::from_secs(300)).expect("every loop ends");
}
