//! Whole programs through the compiler and the interpreter, with a handful of test natives.

use crate::bytecode::ops::Op;
use crate::heap::zeal::Zeal;
use crate::interp::run::Resume;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome};
use crate::thread::Thread;
use crate::value::Value;

struct Out(Vec<u8>);

fn print(vm: &mut Vm, _: Entry) -> NativeResult {
    let mut line = Vec::new();
    for i in 0..vm.nargs() {
        if i > 0 {
            line.push(b'\t');
        }
        let v = vm.arg(i);
        let text = match v.type_name() {
            "table" | "function" | "thread" => v.type_name().as_bytes().to_vec(),
            _ => vm.raw_text(v),
        };
        line.extend_from_slice(&text);
    }
    line.push(b'\n');
    vm.app.get_mut::<Out>().expect("the test set it").0.extend_from_slice(&line);
    Ok(Outcome::none())
}

fn setmetatable(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let m = vm.arg(1).as_obj();
    vm.heap.set_metatable(t, m);
    Ok(Outcome::one(Value::obj(t)))
}

fn error(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = vm.arg(0);
    if let Some(s) = v.as_obj::<crate::string::Str>()
        && vm.arg(1).as_num() != Some(0.0)
    {
        let level = vm.arg(1).as_num().unwrap_or(1.0) as usize;
        let mut text = vm.position(level);
        text.extend_from_slice(s.bytes(&vm.heap));
        return Err(vm.throw_plain(&text));
    }
    Err(vm.throw(v))
}

fn next(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    match t.next(&vm.heap, vm.arg(1)) {
        Ok(Some((k, v))) => {
            vm.push(k);
            vm.push(v);
            Ok(Outcome::top(2))
        }
        Ok(None) => Ok(Outcome::one(Value::NIL)),
        Err(_) => Err(vm.throw_str(b"invalid key to 'next'")),
    }
}

fn pairs(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.check_tab(0)?;
    let f = vm.next_func;
    vm.push(f);
    vm.push(Value::obj(t));
    vm.push(Value::NIL);
    Ok(Outcome::top(3))
}

/// Calls its argument twice, then returns the sum: a native that is entered again.
fn twice(vm: &mut Vm, e: Entry) -> NativeResult {
    match e.label() {
        0 => {
            let f = vm.arg(0);
            vm.set_top(2);
            vm.prepare_call(f);
            vm.push(Value::int(1));
            Ok(Outcome::call(1, 1))
        }
        1 => {
            let v = vm.top_value(e.count(), 0);
            vm.set_slot(1, v);
            vm.set_top(2);
            let f = vm.slot(0);
            vm.prepare_call(f);
            vm.push(Value::int(2));
            Ok(Outcome::call(1, 2))
        }
        _ => {
            let sum = vm.slot(1).as_num().unwrap_or(0.0) + vm.top_value(e.count(), 0).as_num().unwrap_or(0.0);
            Ok(Outcome::one(Value::num(sum)))
        }
    }
}

fn create(vm: &mut Vm, _: Entry) -> NativeResult {
    let f = vm.check_func(0)?;
    let co = vm.new_coroutine(Value::obj(f));
    Ok(Outcome::one(Value::obj(co)))
}

fn wrap(vm: &mut Vm, _: Entry) -> NativeResult {
    let f = vm.check_func(0)?;
    let co = vm.new_coroutine(Value::obj(f));
    let row = NativeRow { op: Op::FUNCWRAP, ..NativeRow::new("wrap", unreachable_native) };
    let w = vm.new_native(row, &[Value::obj(co)]);
    Ok(Outcome::one(Value::obj(w)))
}

fn status(vm: &mut Vm, _: Entry) -> NativeResult {
    let co = vm.arg(0).as_obj::<Thread>().expect("a coroutine");
    let s = vm.coroutine_status(co);
    let s = vm.heap.str(s.as_bytes());
    Ok(Outcome::one(Value::obj(s)))
}

fn suspend(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::suspend(77, 0))
}

fn boom(_: &mut Vm, _: Entry) -> NativeResult {
    panic!("boom")
}

fn traceback(vm: &mut Vm, _: Entry) -> NativeResult {
    let text = vm.raw_text(vm.arg(0));
    let t = vm.traceback(vm.cur, Some(&text), 1);
    let s = vm.heap.str(&t);
    Ok(Outcome::one(Value::obj(s)))
}

fn unreachable_native(vm: &mut Vm, _: Entry) -> NativeResult {
    Err(vm.throw_plain(b"entered by its op"))
}

fn machine() -> Box<Vm> {
    let mut vm = Vm::new();
    vm.app.set(Out(Vec::new()));
    let g = vm.globals;
    let op = |name, op| NativeRow { op, ..NativeRow::new(name, unreachable_native) };
    vm.register(
        g,
        &[
            NativeRow::new("print", print),
            NativeRow::new("setmetatable", setmetatable),
            NativeRow::new("error", error),
            NativeRow::new("next", next),
            NativeRow::new("pairs", pairs),
            NativeRow::new("twice", twice),
            NativeRow::new("create", create),
            NativeRow::new("wrap", wrap),
            NativeRow::new("status", status),
            NativeRow::new("suspend", suspend),
            NativeRow::new("boom", boom),
            NativeRow::new("traceback", traceback),
            op("pcall", Op::FUNCPCALL),
            op("xpcall", Op::FUNCXPCALL),
            op("resume", Op::FUNCRESUME),
            op("yield", Op::FUNCYIELD),
        ],
    );
    vm
}

fn run_in(vm: &mut Vm, source: &str) -> String {
    let f = match vm.load(source.as_bytes(), b"=t", b"t", None) {
        Ok(f) => f,
        Err(e) => return String::from_utf8_lossy(&e).into_owned(),
    };
    if vm.call(Value::obj(f), &[]).is_err() {
        let e = vm.take_error();
        let text = vm.raw_text(e);
        let out = vm.app.get_mut::<Out>().expect("set");
        out.0.extend_from_slice(b"error: ");
        out.0.extend_from_slice(&text);
        out.0.push(b'\n');
    }
    let out = std::mem::take(&mut vm.app.get_mut::<Out>().expect("set").0);
    String::from_utf8_lossy(&out).into_owned()
}

fn check(source: &str, expected: &str) {
    let mut vm = machine();
    assert_eq!(run_in(&mut vm, source), expected, "{source}");
    // And with the collector at work at every safepoint.
    for zeal in [Zeal::Collect, Zeal::Steps] {
        let mut vm = machine();
        vm.heap.set_zeal(zeal);
        assert_eq!(run_in(&mut vm, source), expected, "with zeal {zeal:?}: {source}");
    }
    // And with a sample between any two instructions.
    let mut vm = machine();
    let sampler = vm.set_sampler(Some(sample));
    vm.interrupt_handle().tick(1, sampler);
    vm.app.set(Samples { taken: 0, sampler });
    assert_eq!(run_in(&mut vm, source), expected, "sampled: {source}");
    assert!(vm.app.get::<Samples>().is_some_and(|s| s.taken > 1), "{source}");
}

struct Samples {
    taken: u32,
    sampler: crate::state::Handler,
}

/// Makes garbage, calls something, collects now and then, and asks for the next sample.
fn sample(vm: &mut Vm, at: crate::cell::gc_ref::Gc<crate::thread::Thread>, ticks: u32, state: u8) {
    assert!(ticks == 1 && b"NICGJ".contains(&state));
    let s = vm.app.get_mut::<Samples>().expect("set");
    s.taken += 1;
    let (taken, sampler) = (s.taken, s.sampler);
    vm.heap.new_table(4, 2);
    if taken % 32 == 0 {
        vm.traceback(at, None, 0);
    }
    let f = vm.globals.get_bytes(&vm.heap, b"pairs");
    let t = Value::obj(vm.globals);
    assert!(vm.call(f, &[t]).is_ok());
    if taken % 256 == 0 {
        vm.collect_garbage();
    }
    // Long programs are sampled at their beginning only.
    if taken < 10_000 {
        vm.interrupt_handle().tick(1, sampler);
    }
}

#[test]
fn arithmetic_and_loops() {
    check(
        "local s=0 for i=1,10 do s=s+i end print(s, 7%-3, -7%3, 2^10, 10/4, -s)",
        "55\t-2\t2\t1024\t2.5\t-55\n",
    );
    check("for i=3,1,-1 do print(i) end for i=1,0 do print'no' end", "3\n2\n1\n");
    check("print('10'+5, '3'*'4', 1 .. 2, 'a' .. 'b' .. 1.5)", "15\t12\t12\tab1.5\n");
    check("local i=0 while true do i=i+1 if i>4 then break end end print(i)", "5\n");
}

#[test]
fn functions_and_varargs() {
    check("local function f(...) return ... end print(f(1,2,3)) print((f(1,2,3)))", "1\t2\t3\n1\n");
    check(
        "local function f(a,b,...) local c,d=... return a,b,c,d end print(f(1)) print(f(1,2,3,4,5))",
        "1\tnil\tnil\tnil\n1\t2\t3\t4\n",
    );
    check(
        "local function fib(n) if n<2 then return n end return fib(n-1)+fib(n-2) end print(fib(20))",
        "6765\n",
    );
    check(
        "local function loop(n) if n==0 then return 'done' end return loop(n-1) end print(loop(100000))",
        "done\n",
    );
    check(
        "local t={} for i=1,3 do t[i]=function() i=i+1 return i end end print(t[1](),t[1](),t[2]())",
        "2\t3\t3\n",
    );
    check("local function v(...) local t={...} return #t end print(v(1,2,3,nil,5), v())", "3\t0\n");
    check(
        "local function f(...) return (function(...) return ... end)(...) end print(f(1,nil,3))",
        "1\tnil\t3\n",
    );
}

#[test]
fn tables_and_metamethods() {
    check("local t={1,2,x=3} t.y=4 t[10]=5 print(t[1],t.x,t.y,t[10],t.z,#t)", "1\t3\t4\t5\tnil\t2\n");
    check("local t=setmetatable({},{__index=function(t,k) return k..'!' end}) print(t.a, t[1])", "a!\t1!\n");
    check(
        "local t=setmetatable({},{__newindex=function(t,k,v) print(k,v) end}) t.a=1 t[2]=3 print(t.a)",
        "a\t1\n2\t3\nnil\n",
    );
    check("local m={} m.__add=function(a,b) return 'sum' end m.__eq=function() return true end
        m.__lt=function() return true end m.__le=function() return false end m.__concat=function(a,b) return 'cat' end
        m.__call=function(self,a) return a*2 end m.__unm=function() return 'neg' end
        local a,b=setmetatable({},m),setmetatable({},m)
        print(a+1, 1+a, a==b, a~=b, a<b, a<=b, a>=b, not (a<b), a..'x', 'x'..'y'..a, a(21), -a)".replace('\n', " ").as_str(),
        "sum\tsum\ttrue\tfalse\ttrue\tfalse\tfalse\tfalse\tcat\txcat\t42\tneg\n");
    check(
        "local t={} for i=1,100 do t[i]=i*i end local s=0 for k,v in pairs(t) do s=s+v end print(s)",
        "338350\n",
    );
    check(
        "local t={a=1} for k,v in pairs(t) do print(k,v) end for k,v in next,t do print(k,v) end",
        "a\t1\na\t1\n",
    );
    check(
        "local function it(s,i) if i<s then return i+1 end end for i in it,3,0 do print(i) end",
        "1\n2\n3\n",
    );
    check(
        "local a=setmetatable({},{__index=setmetatable({x=1},{__index={y=2}})}) print(a.x,a.y,a.z)",
        "1\t2\tnil\n",
    );
}

#[test]
fn errors_and_protected_calls() {
    check(
        "print(pcall(error,'x')) print(pcall(function() error('x') end)) print(pcall(function() error({}) end))",
        "false\tx\nfalse\tt:1: x\nfalse\ttable\n",
    );
    check(
        "print(pcall(function() local a; a.b=1 end))",
        "false\tt:1: attempt to index local 'a' (a nil value)\n",
    );
    check(
        "print(pcall(function() return x.y end))",
        "false\tt:1: attempt to index global 'x' (a nil value)\n",
    );
    check(
        "local t={} print(pcall(function() return t.a.b end))",
        "false\tt:1: attempt to index field 'a' (a nil value)\n",
    );
    check(
        "local t={} print(pcall(function() t:nope() end))",
        "false\tt:1: attempt to call method 'nope' (a nil value)\n",
    );
    check(
        "print(pcall(function() return 1 < 'x' end))",
        "false\tt:1: attempt to compare number with string\n",
    );
    check("print(pcall(function() return {} < {} end))", "false\tt:1: attempt to compare two table values\n");
    check(
        "print(pcall(function() return 1 + {} end))",
        "false\tt:1: attempt to perform arithmetic on a table value\n",
    );
    check(
        "print(pcall(function() local s='x' return s+1 end))",
        "false\tt:1: attempt to perform arithmetic on local 's' (a string value)\n",
    );
    check(
        "print(pcall(function() for i='a',2 do end end))",
        "false\tt:1: 'for' initial value must be a number\n",
    );
    check(
        "print(pcall(nil)) print(pcall(pcall))",
        "false\tattempt to call a nil value\nfalse\tbad argument #1 to '?' (value expected)\n",
    );
    check("print(xpcall(function() error('a',0) end, function(m) return m..'!' end))", "false\ta!\n");
    check("print(xpcall(function(...) return ... end, print, 1, 2))", "true\t1\t2\n");
    check(
        "print(xpcall(function() error'x' end, function() error'y' end))",
        "false\terror in error handling\n",
    );
    check(
        "local function f() return f() + 1 end local ok, m = pcall(f) print(ok, m)",
        "false\tt:1: stack overflow\n",
    );
    check("print(pcall(setmetatable, 1))", "false\tbad argument #1 to '?' (table expected, got number)\n");
    check(
        "print(pcall(function() setmetatable(1) end))",
        "false\tt:1: bad argument #1 to 'setmetatable' (table expected, got number)\n",
    );
    check(
        "local t={} print(pcall(function() t[nil]=1 end)) print(pcall(function() t[0/0]=1 end))",
        "false\tt:1: table index is nil\nfalse\tt:1: table index is NaN\n",
    );
    check("error('top')", "error: t:1: top\n");
    check("print(pcall(boom))", "false\tpanic in native function 'boom': boom\n");
}

#[test]
fn tracebacks() {
    check(
        "local function f() error('x') end\nlocal function g() f() end\nprint(xpcall(g, traceback))",
        "false\tt:1: x\nstack traceback:\n\t[C]: in function 'error'\n\tt:1: in function 'f'\n\tt:2: in function <t:2>\n\t[C]: in function 'xpcall'\n\tt:3: in main chunk\n",
    );
}

#[test]
fn natives_that_call() {
    check("print(twice(function(x) return x*10 end))", "30\n");
    check(
        "local co=create(function() return twice(function(x) return yield(x)+x end) end)
        print(resume(co)) print(resume(co,10)) print(resume(co,20)) print(status(co))",
        "true\t1\ntrue\t2\ntrue\t33\ndead\n",
    );
    check("print(pcall(twice,function(x) error('in',0) end))", "false\tin\n");
}

#[test]
fn coroutines() {
    check(
        "local co=create(function(a,b) local c=yield(a+b) local d,e=yield(c*2) return d+e end)
        print(resume(co,1,2)) print(resume(co,10)) print(resume(co,3,4)) print(resume(co)) print(status(co))",
        "true\t3\ntrue\t20\ntrue\t7\nfalse\tcannot resume dead coroutine\ndead\n",
    );
    check(
        "local g=wrap(function() for i=1,3 do yield(i) end end) print(g(),g(),g(),g()) print(pcall(g))",
        "1\t2\t3\nfalse\tcannot resume dead coroutine\n",
    );
    check(
        "local co=create(function() error('oops') end) print(resume(co)) print(status(co))",
        "false\tt:1: oops\ndead\n",
    );
    check("print(pcall(wrap(function() error({}) end)))", "false\ttable\n");
    check("local m=setmetatable({},{__add=function(a,b) return yield('add') end, __index=function(t,k) return yield(k) end,
            __lt=function() return yield('lt') end, __concat=function() return yield('cat') end})
        local g=wrap(function() local r={m+1, m.x, m<m, 'a'..m..'b'} return r[1],r[2],r[3],r[4] end)
        print(g()) print(g(5)) print(g(6)) print(g(true)) print(g('c'))".replace('\n', " ").as_str(),
        "add\nx\nlt\ncat\n5\t6\ttrue\tac\n");
    check(
        "local co=create(function() print(pcall(function() yield(1) error('e',0) end)) return 2 end)
        print(resume(co)) print(resume(co))",
        "true\t1\nfalse\te\ntrue\t2\n",
    );
    check("print(pcall(yield))", "false\tattempt to yield across C-call boundary\n");
    check(
        "local co co=create(function() return resume(co) end) print(resume(co))",
        "true\tfalse\tcannot resume running coroutine\n",
    );
    check("local function a(f) return wrap(f)(f) end print(pcall(a,a))", "false\tC stack overflow\n");
    check(
        "local t={} for i=1,100 do local co=create(function(x) yield(x) end) resume(co,i) t[i]=co end
        local n=0 for i=1,100 do if status(t[i])=='suspended' then n=n+1 end end print(n)",
        "100\n",
    );
}

#[test]
fn the_host_drives_a_suspended_chain() {
    let mut vm = machine();
    let src = "local inner=wrap(function(x) local y=suspend() return x+y end) local r=inner(40) yield(r) return 'end'";
    let f = vm.load(src.as_bytes(), b"=t", b"t", None).expect("compiles");
    let co = vm.new_coroutine(Value::obj(f));
    assert!(matches!(vm.resume(co, &[]), Resume::Suspended(77)));
    match vm.resume_suspended(co, &[Value::int(2)]) {
        Resume::Yielded(v) => assert_eq!(v, [Value::int(42)]),
        r => panic!("{r:?}"),
    }
    assert!(matches!(vm.resume(co, &[]), Resume::Finished(_)));
    assert!(matches!(vm.resume(co, &[]), Resume::Error(_)));
}

/// A coroutine that waits in a call from a low register of a function with many: its stack keeps room for all of them.
#[test]
fn a_waiting_function_keeps_its_registers() {
    let names: Vec<String> = (0..190).map(|i| format!("v{i}")).collect();
    let src = format!(
        "local function f() yield(1) local {} = 7 v189 = 8 yield(v0 + v189) return v189 end
        local cos = {{}} for i = 1, 200 do cos[i] = create(f) resume(cos[i]) end
        local t = {{}} for i = 1, 20000 do t = {{t}} if i % 50 == 0 then t = {{}} end end
        local s = 0 for i = 1, 200 do local _, v = resume(cos[i]) s = s + v end print(s)",
        names.join(", ")
    );
    check(&src, "3000\n");
}

#[test]
fn another_thread_stops_a_loop() {
    let mut vm = machine();
    let stop = vm.interrupt_handle();
    let t = std::thread::spawn(move || {
        for _ in 0..200 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            stop.stop();
        }
        stop
    });
    assert_eq!(run_in(&mut vm, "while true do end"), "error: t:1: interrupted!\n");
    assert_eq!(run_in(&mut vm, "local function f() return f() end f()"), "error: t:1: interrupted!\n");
    drop(vm);
    t.join().expect("no panic").stop();
}

#[test]
fn loops_look_at_limits_only_while_there_are_some() {
    use crate::bytecode::ops::Op;
    use crate::interp::handlers::forloop::{ILOOP, LOOP_POLLS};
    use crate::state::{Handler, hookmask};
    let mut vm = machine();
    let looks = |vm: &Vm| {
        let (plain, polls) = (ILOOP as Handler as usize, LOOP_POLLS as Handler as usize);
        [Op::LOOP, Op::ILOOP].map(|op| {
            let now = vm.plain[op as usize] as usize;
            assert!(now == plain || now == polls);
            assert!(vm.hook.mask != 0 || vm.dispatch[op as usize] as usize == now);
            now == polls
        }) == [true, true]
    };
    assert!(!looks(&vm));
    vm.set_fuel(Some(5));
    assert!(looks(&vm));
    vm.set_deadline(Some(std::time::Instant::now()));
    vm.set_fuel(None);
    assert!(looks(&vm));
    vm.set_deadline(None);
    assert!(!looks(&vm));
    vm.interrupt_handle().stop();
    assert_eq!(run_in(&mut vm, "while true do end"), "error: t:1: interrupted!\n");
    assert!(!looks(&vm));
    // Under a hook every instruction goes another way to its handler.
    let f = vm.load(b"", b"=hook", b"t", None).expect("no error in it");
    vm.set_hook(Value::obj(f), hookmask::COUNT, 1000);
    assert!(looks(&vm));
    vm.interrupt_handle().stop();
    assert_eq!(run_in(&mut vm, "while true do end"), "error: t:1: interrupted!\n");
    vm.set_hook(Value::NIL, 0, 0);
    assert!(!looks(&vm));
}

#[test]
fn limits_hold() {
    let mut vm = machine();
    vm.set_fuel(Some(1000));
    assert_eq!(run_in(&mut vm, "while true do end"), "error: t:1: instruction limit exceeded\n");
    vm.set_fuel(Some(1000));
    assert_eq!(
        run_in(&mut vm, "local function f() return f() end f()"),
        "error: t:1: instruction limit exceeded\n"
    );
    for endless in [
        "repeat until false",
        "::a:: goto a",
        "local n = 1 ::a:: n = n + 1 if n > 0 then goto a end",
        "::a:: do do local x do goto a end end end",
        "for i = 1, 1 / 0 do end",
        "for k in function() return 1 end do end",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) pcall(function() return t[1] end)
         while true do pcall(function() return t[1] end) end",
        "local function f(...) return f(...) end f(1)",
        "local co = wrap(function() while true do yield() end end) while true do co() end",
    ] {
        vm.set_fuel(Some(100_000));
        let got = run_in(&mut vm, endless);
        assert!(got.ends_with("instruction limit exceeded\n"), "{endless}: {got}");
    }
    vm.set_fuel(None);
    vm.set_deadline(Some(std::time::Instant::now()));
    let got = run_in(&mut vm, "while true do pcall(function() while true do end end) end");
    assert_eq!(got, "error: t:1: time limit exceeded\n");
    vm.set_deadline(None);
    vm.heap.set_limit(8 << 20);
    let got = run_in(&mut vm, "local t={} for i=1,1e9 do t[i]={i} end");
    assert_eq!(got, "error: not enough memory\n");
    assert_eq!(
        run_in(&mut vm, "print(pcall(function() local t={} for i=1,1e9 do t[i]={i} end end))"),
        "false\tnot enough memory\n"
    );
}

/// The handlers rest on an optimisation that no language rule promises: every dispatch must be a jump. An indirect
/// call through the dispatch table would grow the native stack with each instruction.
#[test]
#[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loop"))))]
fn handlers_dispatch_by_jumps() {
    let exe = std::env::current_exe().expect("a test runs from a file");
    let out = std::process::Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(exe).output();
    let Ok(out) = out else {
        println!("skipped: no objdump here");
        return;
    };
    let text = String::from_utf8_lossy(&out.stdout);
    let (mut name, mut jumps, mut handlers) = ("", 0, 0);
    for line in text.lines() {
        if line.ends_with(">:") {
            name = line;
            handlers += name.contains("interp8handlers") as usize;
            continue;
        }
        // Typed natives are called, by their address.
        if !name.contains("interp8handlers") || name.contains("typed_") {
            continue;
        }
        assert!(!(line.contains("call ") && line.contains('*') && !line.contains("rip")), "{name} {line}");
        jumps += (line.contains("jmp ") && line.contains('*')) as usize;
    }
    assert!(handlers > 90 && jumps > handlers, "{handlers} handlers, {jumps} jumps");
}

#[test]
fn a_loop_of_failing_calls_is_collected() {
    let mut vm = machine();
    let out = run_in(
        &mut vm,
        "for i=1,1e5 do pcall(error, 'message '..i) pcall(error, 'at '..i, 1) end print'done'",
    );
    assert_eq!(out, "done\n");
    assert!(vm.heap.total_bytes() < 4 << 20, "{}", vm.heap.total_bytes());
    let out = run_in(&mut vm, "local x for i=1,1e5 do pcall(function() x = nil + {} end) end print'done'");
    assert_eq!(out, "done\n");
    assert!(vm.heap.total_bytes() < 4 << 20, "{}", vm.heap.total_bytes());
}
