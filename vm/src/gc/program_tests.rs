//! The collector under whole programs: limits and pauses.

use crate::heap::zeal::Zeal;
use crate::state::Vm;
use crate::value::Value;

fn machine() -> Box<Vm> {
    let mut vm = Vm::new();
    crate::lib::open_all(&mut vm);
    vm
}

/// Runs a chunk; its results as text, or the error.
fn run(vm: &mut Vm, source: &str) -> String {
    let f = vm.load(source.as_bytes(), b"=t", b"t", None).unwrap_or_else(|e| panic!("{}", e.escape_ascii()));
    let values = match vm.call(Value::obj(f), &[]) {
        Ok(v) => v,
        Err(_) => vec![vm.take_error()],
    };
    let text: Vec<_> =
        values.iter().map(|v| String::from_utf8_lossy(&vm.raw_text(*v)).into_owned()).collect();
    text.join(" ")
}

#[test]
fn every_way_to_use_memory_up_ends_in_an_error_that_can_be_caught() {
    for hog in [
        "local t = {} for i = 1, 1e9 do t[i] = {} end",
        "local t = {} for i = 1, 1e9 do t[i .. ''] = i end",
        "local t = {} for i = 1, 1e9 do t = {t, function() return t end} end",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = ('y'):rep(1000) .. i end",
        "return #('x'):rep(1e8)",
        "local t = {} for i = 1, 1e9 do t[i] = coroutine.create(print) end",
        "local t = {} for i = 1, 1e9 do t[i] = coroutine.wrap(function() coroutine.yield() end) t[i]() end",
        "local t = {} for i = 1, 1e9 do t[i] = newproxy() end",
        "local t = {} for i = 1, 1e9 do t[i] = loadstring('return function() return ' .. i .. ' end') end",
        "local t = {} for i = 1, 1e9 do table.insert(t, i) end",
        "local t = {('z'):rep(1e6)} for i = 2, 100 do t[i] = t[1] end return #table.concat(t)",
        "return #(('a'):rep(1e6):gsub('a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'))",
        "return #string.format('%s%s%s%s%s%s%s%s', ('f'):rep(2e6), ('f'):rep(2e6), ('f'):rep(2e6), ('f'):rep(2e6), ('f'):rep(2e6), ('f'):rep(2e6), ('f'):rep(2e6), ('f'):rep(2e6))",
        "return #('b'):rep(4e6):upper():reverse():lower():upper():reverse()",
    ] {
        let mut vm = machine();
        vm.heap.set_limit(8 << 20);
        let source = format!("local ok, e = pcall(function() {hog} end) return ok, e");
        let out = run(&mut vm, &source);
        assert!(out == "false not enough memory" || out.starts_with("true"), "{hog}: {out}");
        // The garbage goes, and the program goes on.
        assert_eq!(
            run(&mut vm, "collectgarbage() local t = {} for i = 1, 1e4 do t[i] = {i} end return #t"),
            "10000"
        );
        assert!(vm.heap.total_bytes() < 4 << 20, "{hog}: {} stay", vm.heap.total_bytes());
        super::check::check(&mut vm).unwrap();
    }
}

#[test]
fn garbage_alone_never_reaches_the_limit() {
    let mut vm = machine();
    vm.heap.set_limit(3 << 20);
    let source = "local s = 0 for i = 1, 2e5 do local t = {i, tostring(i), function() return i end} s = s + #t end return s";
    assert_eq!(run(&mut vm, source), "400000".replace('4', "6"));
}

#[test]
fn programs_run_the_same_in_very_small_steps() {
    let source = "
        local live, sum, weak = {}, 0, setmetatable({}, {__mode = 'v'})
        for i = 1, 800 do
            local x = i
            local o = {id = i, name = 'n' .. i % 100, get = function() x = x + 1 return x end}
            sum = sum + o.get() + #o.name
            live[i % 50 + 1] = o
            weak[i % 70] = o
            if i % 7 == 0 then live[i % 50 + 1].next = live[(i * 3) % 50 + 1] end
            local co = coroutine.wrap(function(a) local t = {a} local b = coroutine.yield(t) return {t, b} end)
            local t = co(o) live.last = co({t})
        end
        local n = 0 for _, o in pairs(live) do n = n + 1 if o.id then sum = sum + o.get() end end
        for _, o in pairs(weak) do assert(o.name == 'n' .. o.id % 100) end
        return sum, n";
    let plain = run(&mut machine(), source);
    for zeal in [Zeal::Collect, Zeal::Steps] {
        let mut vm = machine();
        vm.heap.set_zeal(zeal);
        assert_eq!(run(&mut vm, source), plain, "{zeal:?}");
    }
}

#[test]
fn memory_counted_returns_to_where_it_was() {
    let mut vm = machine();
    let source = "
        for round = 1, 3 do
            local t = {}
            for i = 1, 1000 do
                t[i] = {tostring(i), ('long'):rep(100), coroutine.create(function() end), newproxy(true)}
                t[#t + 1] = loadstring('local a = {1, 2, x = ' .. i .. '} return a')
            end
        end
        collectgarbage() collectgarbage()
        return collectgarbage('count')";
    let mut count = || -> f64 { run(&mut vm, source).parse().unwrap() };
    // The tables of strings and roots reach their size in the first rounds.
    count();
    let second = count();
    for _ in 0..3 {
        let again = count();
        // The seed of the hash decides whether the intern table stands at one size or the next (24 KiB more); a
        // leak of one object per round would be more than 100.
        assert!(again < second + 40.0, "{again} {second}");
    }
}

#[test]
fn strings_that_die_young_leave_the_intern_table_small() {
    let mut vm = machine();
    run(&mut vm, "for i = 1, 400000 do local s = 'x' .. i end");
    // By their size alone there could be 32,768 of them at a time; what is alive at the start needs 2,048 slots.
    let slots = vm.heap.intern.slots.len();
    assert!(slots <= 32_768, "{slots}");
    assert!(vm.heap.acct.string_weight > 0);
    // A heap that is not small goes by its size: its strings are mostly alive.
    run(
        &mut vm,
        "t = {} for i = 1, 200000 do t[i] = 'x' .. i end for i = 1, 500 do collectgarbage('step', 1000) end",
    );
    assert_eq!(vm.heap.acct.string_weight, 0);
}
