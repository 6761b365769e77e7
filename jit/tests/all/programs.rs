//! Programs that must print the same interpreted and compiled, with each optimisation switched off in turn.

use moonlit_jit::engine::install_with_gate;
use moonlit_jit::{Options, install};
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::value::Value;

fn run(src: &str, opts: Option<Options>) -> String {
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    if let Some(o) = opts {
        install(&mut vm, o);
    }
    let code = format!(
        "local out = {{}} local function p(...) local t = {{...}} for i = 1, select('#', ...) do t[i] = tostring(t[i]) end out[#out + 1] = table.concat(t, ' ') end\n{src}\nreturn table.concat(out, '\\n')"
    );
    let f = match vm.load(code.as_bytes(), b"=program", b"t", None) {
        Ok(f) => f,
        Err(e) => panic!("{}", String::from_utf8_lossy(&e)),
    };
    match vm.call(Value::obj(f), &[]) {
        Ok(v) => {
            let s = v[0].as_obj::<Str>().expect("the program returns a string");
            String::from_utf8_lossy(s.bytes(&vm.heap)).into_owned()
        }
        Err(_) => {
            let e = vm.take_error();
            format!("error: {}", String::from_utf8_lossy(vm.tostring_raw(e).bytes(&vm.heap)))
        }
    }
}

fn options(words: &[&str]) -> Options {
    let mut o = Options::default();
    for w in words {
        o.set(w).expect("a known option");
    }
    o
}

/// Runs a program in all modes.
fn check(name: &str, src: &str) {
    let want = run(src, None);
    assert!(!want.starts_with("error:") || name.contains("error"), "{name}: {want}");
    let modes: &[&[&str]] = &[
        &["jitsync", "hotloop=2", "hotexit=1"],
        &["jitsync", "hotloop=10", "hotexit=3"],
        &["jitsync", "hotloop=2", "hotexit=1", "-fold"],
        &["jitsync", "hotloop=2", "hotexit=1", "-cse"],
        &["jitsync", "hotloop=2", "hotexit=1", "-fwd"],
        &["jitsync", "hotloop=2", "hotexit=1", "-loop"],
        &["jitsync", "hotloop=2", "hotexit=1", "-dce"],
        &["jitsync", "hotloop=2", "hotexit=1", "-dse"],
        &["jitsync", "hotloop=2", "hotexit=1", "-abc"],
        &["jitsync", "hotloop=2", "hotexit=1", "-sink"],
        &["jitsync", "hotloop=2", "hotexit=1", "-fuse"],
        &["jitsync", "hotloop=2", "hotexit=1", "-narrow"],
        &["hotloop=2", "hotexit=1"],
    ];
    for m in modes {
        let got = run(src, Some(options(m)));
        assert_eq!(got, want, "{name} with {m:?}");
    }
}

/// Stores that later ones hide, and what may look at memory in between.
#[test]
fn dead_stores() {
    check(
        "overwritten",
        "local t = {a = 0, b = 0} for i = 1, 200 do t.a = i t.b = i t.a = i + 1 t.b = t.a end p(t.a, t.b)",
    );
    check(
        "guard between",
        "local t, u, n = {a = 0}, {}, 0
         for i = 1, 200 do u[i] = i % 50 ~= 0 end
         for i = 1, 200 do t.a = i if not u[i] then n = n + t.a end t.a = -i end p(t.a, n)",
    );
    check(
        "same value by another name",
        "local a, b = {x = 0}, {x = 0}
         for i = 1, 200 do if i > 100 then b = a end a.x = 5 b.x = i % 2 == 0 and 5 or 6 a.x = 5 end p(a.x, b.x)",
    );
    check("carried round", "local t = {} for i = 1, 300 do t[1] = i t[2] = t[1] t[1] = 7 end p(t[1], t[2])");
    check(
        "upvalue",
        "local u = 0 local function f(i) u = i u = i + 1 return u end local n = 0 for i = 1, 200 do n = n + f(i) end p(u, n)",
    );
    check(
        "metatable",
        "local m, k = {__index = {v = 1}}, {__index = {v = 2}} local n = 0
         for i = 1, 200 do local t = setmetatable({}, m) setmetatable(t, k) n = n + t.v end p(n)",
    );
    check(
        "error sees the first store",
        "local t = {x = 0} local ok, e
         local function f(i, v) t.x = i local w = v + 1 t.x = w end
         for i = 1, 200 do ok, e = pcall(f, i, i < 150 and i or 'no') if not ok then break end end p(ok, e, t.x)",
    );
}

/// Calls of library functions that a trace makes as they are.
#[test]
fn library_calls() {
    check(
        "strings",
        "local s = '' for i = 1, 200 do s = s .. string.rep('x', i % 4) .. ('aB'):upper() .. ('cD'):lower():reverse() end p(#s, s:sub(1, 30))",
    );
    check(
        "format",
        "local t = {} for i = 1, 150 do t[#t + 1] = string.format('%d:%s:%5.2f', i, 'k' .. i % 3, i / 7) end p(table.concat(t, ','))",
    );
    check(
        "results that differ in number and type",
        "local n, m = 0, 0 for i = 1, 200 do local a, b, c = string.find(i % 3 == 0 and 'hello' or 'help', 'l(l)', 1)
           if a then n = n + a + b + #c else m = m + 1 end end p(n, m)",
    );
    check(
        "all results, as arguments and as list",
        "local s = 0 for i = 1, 200 do s = s + math.max(string.byte('abcdef', i % 3 + 1, i % 5 + 1)or 0, string.byte('xyz', 1, i % 4)) local t = {string.byte('abcdef', 1, i % 5)} s = s + #t end p(s)",
    );
    check(
        "select and returns of all results",
        "local function f(i) return string.byte('abcdef', 1, i % 6) end
         local s = 0 for i = 1, 300 do s = s + select('#', f(i)) local a, b, c = f(i) s = s + (c or 1) end p(s)",
    );
    check(
        "gmatch",
        "local n = 0 for i = 1, 30 do for k, v in ('a=1, bc=22, d=333'):gmatch('(%w+)=(%w+)') do n = n + #k * v end for w in ('one two three'):gmatch('%a+') do n = n + #w end end p(n)",
    );
    check(
        "gsub",
        "local s, k = 'hello world', 0 for i = 1, 120 do local r, n = s:gsub('o', i % 2 == 0 and '0' or 'oo') k = k + n + #r end p(k)",
    );
    check(
        "tables",
        "local t, n = {}, 0 for i = 1, 200 do table.insert(t, 1 + i % (#t + 1), i) if i % 3 == 0 then n = n * 31 % 65537 + table.remove(t, 1 + i % #t) end end p(#t, n, table.concat(t, ' ', 1, 20))",
    );
    check(
        "raw access and next",
        "local t, n = setmetatable({}, {__newindex = error, __index = error}), 0
         for i = 1, 200 do rawset(t, i % 7, i) n = n + rawget(t, i % 7) + (next(t) or 0) end p(n)",
    );
    check(
        "errors",
        "local n = 0 for i = 1, 120 do local ok, e = pcall(function() return ('x'):rep(i < 100 and i or -1, i == 110 and {} or nil) end) n = n + (ok and #e or #e * 1000) end p(n)",
    );
    check(
        "an error from within, with its place",
        "local ok, e = pcall(function() local s = 0 for i = 1, 200 do s = s + #string.format('%d', i < 150 and i or 'x') end end) p(ok, e)",
    );
    check(
        "locals before and after",
        "local a, b, c, d = 1, 2, 3, 'x'
         for i = 1, 300 do local save = a a = i local r = tonumber(('%d'):format(i)) b = b + r a = save c = c + a if i % 50 == 0 then a = a + 1 d = d .. a end end p(a, b, c, d)",
    );
    check(
        "inside functions that are called",
        "local function f(x) local y = ('%03d'):format(x) return y:reverse(), x end
         local function g(x) local a, b = f(x) return a .. b end
         local s = 0 for i = 1, 300 do s = (s * 33 + g(i):byte(i % 4 + 1, i % 4 + 1)) % 1000003 end p(s)",
    );
    check(
        "upvalues in the trace's own slots",
        "local n = 0 for r = 1, 20 do local x = 0 local function add(s) x = x + #s:rep(2) end for i = 1, 30 do add(('y'):rep(i % 3)) n = n + x end end p(n)",
    );
    check(
        "numbers and nil as text",
        "local n = 0 for i = 1, 200 do n = n + (tonumber(i % 2 == 0 and '12' or 'zz') or 1) + #tostring(i % 3 == 0 and nil) + tonumber('ff', 16) end p(n)",
    );
    check(
        "random numbers are drawn once each",
        "math.randomseed(7) local n = 0 for i = 1, 300 do n = (n * 31 + math.random(100)) % 1000003 end p(n, math.random(1000))",
    );
    check(
        "buffers",
        "local b = require('string.buffer').new() for i = 1, 200 do b:put(i, ',') if i % 10 == 0 then b:skip(3) end end p(#b, b:tostring():sub(1, 40))",
    );
    check(
        "minus zero as an index of a loop",
        "local t = {} for r = 1, 30 do for i = -0, 1 do t[i + 1] = tostring(i) end for i = -1, -0 do t[#t + 1] = tostring(i * 1) end end p(t[1], t[3], #t)",
    );
    check(
        "a metatable of numbers",
        "local n = 0 for i = 1, 100 do n = n + #tostring(i) end debug.setmetatable(1, {__tostring = function() return 'num' end})
         for i = 1, 100 do n = n + #tostring(i) end debug.setmetatable(1, nil) p(n)",
    );
    check(
        "collection between calls",
        "local t = {} for i = 1, 3000 do t[i % 10 + 1] = ('%d-%s'):format(i, ('z'):rep(i % 50)) end p(#table.concat(t))",
    );
}

/// Functions that call themselves, and functions that are long.
#[test]
fn recursion() {
    check(
        "fib",
        "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end p(fib(17), fib(12))",
    );
    check(
        "ack and tak",
        "local function ack(m, n) if m == 0 then return n + 1 elseif n == 0 then return ack(m - 1, 1) end return ack(m - 1, ack(m, n - 1)) end
         local function tak(x, y, z) if y >= x then return z end return tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y)) end
         p(ack(2, 9), tak(10, 6, 3))",
    );
    check(
        "trees",
        "local function make(d) if d == 0 then return {} end return {make(d - 1), make(d - 1)} end
         local function count(t) if t[1] then return 1 + count(t[1]) + count(t[2]) end return 1 end
         local s = 0 for d = 1, 9 do s = s + count(make(d)) end p(s)",
    );
    check(
        "mutual, with several results",
        "local odd local function even(n, a) if n == 0 then return true, a end return odd(n - 1, a + n) end
         function odd(n, a) if n == 0 then return false, a end local x, y = even(n - 1, a - n) return x, y end
         local s = 0 for i = 1, 120 do local e, v = even(i % 40, i) s = s + v + (e and 1 or 0) end p(s)",
    );
    check(
        "from a loop, from a coroutine, from pcall",
        "local function f(n) if n == 0 then return 0 end return 1 + f(n - 1) end
         local s = 0 for i = 1, 150 do s = s + f(i % 30) end
         local co = coroutine.wrap(function() for i = 1, 50 do coroutine.yield(f(i)) end end) for i = 1, 50 do s = s + co() end
         for i = 1, 50 do local ok, v = pcall(f, i) s = s + v end p(s)",
    );
    check(
        "deep, until the stack is full",
        "local function down(n) if n == 0 then return 0 end return 1 + down(n - 1) end p(down(3000), down(9000))
         local n = 0 local function up() n = n + 1 return 1 + up() end local ok, e = pcall(up) p(ok, e, n > 10000) p(down(5000))",
    );
    check(
        "an error far up",
        "local function f(n, t) if n == 0 then return t.x.y end return 1 + f(n - 1, t) end
         local good, bad = {x = {y = 1}}, {} local s = 0
         for i = 1, 100 do local ok, v = pcall(f, i % 20, i % 7 == 0 and bad or good) s = s + (ok and v or #v) end p(s)",
    );
    check(
        "types that change, arguments that lack",
        "local function f(n, a, b) if n == 0 then return b == nil and 1 or b, a end local x, y = f(n - 1, a, n % 3 == 0 and 'b' or b) return y or x, x end
         local s = '' for i = 1, 90 do local x, y = f(i % 12) s = s .. tostring(x) .. tostring(y) end p(s)",
    );
    check(
        "upvalues and tables inside",
        "local memo, calls = {}, 0 local function f(n) calls = calls + 1 if memo[n] then return memo[n] end local v = n < 2 and n or f(n - 1) + f(n - 2) memo[n] = v return v end
         for i = 1, 60 do f(i) if i % 10 == 0 then memo = {} end end p(calls, f(30))",
    );
    check(
        "constructors that take all results",
        "local function two(i) if i % 3 == 0 then return i end return i, -i, nil, i * 2 end
         local s = 0 for i = 1, 150 do local t = {two(i)} local u = {i, x = 1, two(i + 1)} s = s + #t + #u * 2 + (u[4] or 3) + (t[4] or 5) end
         local function make(d) if d == 0 then return {} end return {make(d - 1), make(d - 1)} end
         local function count(t) local n = 1 for i = 1, #t do n = n + count(t[i]) end return n end p(s, count(make(8)))",
    );
    check(
        "collection under recursion",
        "local function f(n) if n == 0 then return {n} end local t = {f(n - 1), n} return t[1] end local s = 0 for i = 1, 400 do s = s + f(i % 25)[1] end p(s)",
    );
    check(
        "a long function without loops",
        "local function f(a, b) local c = a * 2 + b local d = c - a / 3 local e = d * d - c local g = e + a + b + c local h = g % 7 + e % 5
           if h > 5 then c = c + 1 end if c % 2 == 0 then d = d + c end local i = c + d * 2 local j = i - e local k = j + h * g local l = k - i return l + j, k % 11 end
         local s, u = 0, 0 local function go(i) local x, y = f(i, i + 1) s = s + x % 1000 u = u + y end
         for r = 1, 20 do for _, v in ipairs({1, 2, 3, 4, 5, 6, 7, 8}) do go(v + r) end table.sort({3, 2, 1}, function(a, b) local x = f(a, b) return a < b end) end p(s, u)",
    );
    check(
        "switched off and thrown away in between",
        "local function f(n) if n < 2 then return n end return f(n - 1) + f(n - 2) end local s = 0
         for i = 1, 12 do s = s + f(i) if i == 6 then jit.flush() elseif i == 8 then jit.off(f) elseif i == 10 then jit.on(f) end end p(s)",
    );
}

/// Recursion is followed by jumps to the function's own trace.
#[test]
fn functions_that_call_themselves_jump_to_their_own_traces() {
    let list = "local n = 0 for i = 1, 60 do local t = require 'jit.util'.traceinfo(i) if t and t.link == i and t.linktype == 'root' then n = n + 1 end end p(n > 0)";
    for src in [
        "local function f(n) if n < 2 then return n end return f(n - 1) + f(n - 2) end f(18)",
        "local function f(m, n) if m == 0 then return n + 1 end if n == 0 then return f(m - 1, 1) end return f(m - 1, (f(m, n - 1))) end f(2, 30)",
    ] {
        let o = options(&["jitsync", "hotloop=2", "hotexit=1"]);
        assert_eq!(run(&format!("{src} {list}"), Some(o)), "true", "{src}");
    }
}

/// Sums that are cut to 32 bits.
#[test]
fn hashes() {
    check(
        "rounds",
        "local bxor, band, rol = bit.bxor, bit.band, bit.rol
         local function f(a, b, c, x, s) return rol(bxor(c, band(b, a)) + a + x, s) + b end
         local a, b, c = 0x67452301, 0xefcdab89, 0x98badcfe
         local x = {} for i = 1, 16 do x[i] = bxor(i * 0x9e3779b9, i) end
         for i = 1, 200 do local k = x[i % 16 + 1]
           a = f(a, b, c, k + 0xd76aa478, 7) b = f(b, c, a, k + 0xe8c7b756, 12) c = f(c, a, b, k - 0x242070db, 17)
           a, b, c = bit.tobit(a), bit.tobit(b), bit.tobit(c) end p(a, b, c)",
    );
    check(
        "fractions, large numbers and what is none",
        "local t, s = {}, 0
         for i = 1, 120 do t[i] = i % 7 == 0 and i + 0.5 or i % 11 == 0 and 2^47 + i or i % 13 == 0 and -2^50 or i % 17 == 0 and 0/0 or i * 2^33 end
         for r = 1, 4 do for i = 1, 120 do s = bit.bxor(bit.rol(s, 3), bit.tobit(bit.band(i, 7) + t[i])) s = bit.bxor(s, bit.tobit(t[i] - bit.bor(s, 1) - 4294967295)) end end p(s)",
    );
    check(
        "carried round",
        "local h, g = 1, 2 for i = 1, 300 do h = bit.bxor(h, i) + g g = bit.band(h + i, 255) + bit.lshift(g, 1) if i % 20 == 0 then h, g = bit.tobit(h), bit.tobit(g) end end p(h, g)",
    );
    check(
        "a sum that grows without bound",
        "local a = 0 for i = 1, 60 do local b = bit.band(i, 3) local c = b + a a = c + c + b if bit.tobit(a + b) == 7 then a = a + 1 end end p(a, bit.tobit(a))",
    );
    check(
        "bytes of a range",
        "local s, n = ('abcdefghijklmnopqrstuvwxyz'):rep(4), 0
         for i = 1, 101 do local a, b, c, d = s:byte(i, i + 3) n = (n * 31 + a + b * 2 + c * 3 + (d or 0)) % 1000003 end
         for i = 1, 60 do local a, b = s:byte(-i - 1, -i) n = (n * 7 + a + (b or 5)) % 1000003 local c, d = s:byte(i, i - i % 3) n = n + (c or 1) + (d or 2) end
         for i = 90, 120 do local a, b, c = s:byte(i, i + 2) n = n * 3 % 65537 + (a or 1) + (b or 2) + (c or 3) end p(n)",
    );
}

/// Loops over functions of the language, and functions of which there are many.
#[test]
fn iterators_and_many_closures() {
    check(
        "stateless iterator",
        "local function step(n, i) if i < n then return i + 1, i * i end end
         local s, k = 0, 0 for i, q in step, 200, 0 do s = s + q k = k + i end p(s, k)",
    );
    check(
        "closure as iterator",
        "local function range(n, d) local i = 0 return function() i = i + d if i <= n then return i, -i end end end
         local s = 0 for r = 1, 40 do for a, b in range(r, 1 + r % 3) do s = s * 3 % 65537 + a - b end end p(s)",
    );
    check(
        "more results than wanted, and fewer",
        "local function it(n, i) if i < n then return i + 1, 1, 2, 3 end end
         local s = 0 for i in it, 150, 0 do s = s + i end for i, a, b, c, d, e in it, 150, 0 do s = s + a + b + c + (d or 5) + (e or 7) end p(s)",
    );
    check(
        "an iterator that fails",
        "local function it(n, i) if i == 90 then error('stop', 0) end return i + 1 end
         local s = 0 p(pcall(function() for i in it, 1, 0 do s = s + i end end)) p(s)",
    );
    check(
        "an iterator that is an object",
        "local o = setmetatable({n = 0}, {__call = function(self, _, i) if self.n < 120 then self.n = self.n + 1 return self.n end end})
         local s = 0 for i in o do s = s + i end p(s)",
    );
    check(
        "objects made of closures",
        "local function counter(k) local n = 0 return {add = function(d) n = n + d * k return n end, get = function() return n end} end
         local s = 0
         for i = 1, 200 do local c = counter(i) c.add(1) c.add(2) s = s + c.get() end
         local list = {} for i = 1, 20 do list[i] = counter(i) end
         for i = 1, 400 do local c = list[i % 20 + 1] s = s + c.add(i) - c.get() + i end p(s)",
    );
    check(
        "many closures over open variables",
        "local s = 0
         for r = 1, 30 do
           local x, y = r, 0
           local function up(d) x = x + d y = y + 1 return x end
           for i = 1, 40 do s = (s + up(i) + x - y) % 1000003 end
           s = s + x * y
         end p(s)",
    );
    check(
        "upvalues of many closures are their own",
        "local fs, u = {}, 0 for i = 1, 50 do local v, w = i, {i} fs[i] = function(d) v = v + d u = u + 1 return v + w[1] end end
         local s = 0 for r = 1, 10 do for i = 1, 50 do s = s + fs[i](r) end end p(s, u)",
    );
    check(
        "recursion of many closures",
        "local function fib() local f f = function(n) if n < 2 then return n end return f(n - 1) + f(n - 2) end return f end
         local s = 0 for i = 1, 60 do s = s + fib()(i % 12) end p(s)",
    );
    check(
        "a trace that relied on one of few",
        "local function make(k) return function(x) return x * k end end
         local s, f = 0, make(2)
         for i = 1, 300 do if i > 100 and i % 10 == 0 then f = make(i) end s = (s + f(i)) % 100003 end p(s)",
    );
    check(
        "globals of many closures, by their environments",
        "local function make(k) return setfenv(function() return v end, {v = k}) end
         local fs, s = {}, 0 for i = 1, 20 do fs[i] = make(i) end
         for i = 1, 400 do s = s * 7 % 65537 + fs[i % 20 + 1]() end p(s)",
    );
}

/// Bounds checks that loops leave out.
#[test]
fn array_bounds() {
    check(
        "stencil",
        "local a, b = {}, {} for i = 1, 300 do a[i] = i * i end
         for i = 2, 299 do b[i] = a[i - 1] + a[i + 1] - 2 * a[i] end
         local s = 0 for i = 2, 299 do s = s + b[i] end p(s)",
    );
    check(
        "longer the second time",
        "local a = {} for i = 1, 100 do a[i] = i end
         local function sum(n) local s = 0 for i = 1, n do s = s + (a[i] or 1000) end return s end
         for i = 1, 5 do p(sum(50), sum(100), sum(140)) end",
    );
    check(
        "below the array",
        "local a = {} for i = 1, 100 do a[i] = i end
         local function sum(m, n) local s = 0 for i = m, n do s = s + (a[i] or -1) end return s end
         for i = 1, 5 do p(sum(1, 60), sum(-60, 60), sum(-100, -1)) end",
    );
    check(
        "down",
        "local a = {} for i = 1, 100 do a[i] = i end
         local function sum(n, d) local s = 0 for i = n, 1, d do s = s * 2 % 65537 + (a[i] or 3) end return s end
         for i = 1, 5 do p(sum(100, -1), sum(99, -2), sum(130, -3)) end",
    );
    check(
        "offsets that wrap",
        "local a = {} for i = 1, 100 do a[i] = i end
         local function sum(m, n, k) local s = 0 for i = m, n do s = s + (a[i + k] or -1) end return s end
         for i = 1, 4 do p(sum(1, 60, 5), sum(1, 60, -2147483600), sum(2147483500, 2147483560, -2147483490), sum(1, 99, 2)) end",
    );
    check(
        "table of the round before",
        "local a, b, s = {}, {}, 0 for i = 1, 100 do a[i] = i end for i = 1, 20 do b[i] = -i end
         for i = 1, 60 do s = s + (a[i] or 7) a, b = b, a end p(s)",
    );
    check(
        "grown and shrunk",
        "local n = 0 for r = 1, 20 do local t = {} for i = 1, 50 do t[i] = i end
           for i = 1, 50 do n = n + #t + (t[i] or 0) t[#t] = nil end end p(n)",
    );
    check(
        "constant index",
        "local t, n = {1, 2, 3, 4}, 0 for i = 1, 200 do n = n + t[1] + t[4] + t[2] if i == 150 then t = {5} t[4] = 1 t[2] = 0 end end p(n)",
    );
}

/// `fma` is the one flag that may change a result: it rounds once.
#[test]
fn products_are_rounded_once_when_asked() {
    let src = "local x, y, n = 1 + 2^-30, 1 - 2^-30, 0
               for i = 1, 200 do local a, b, c = x * y - 1, 1 - x * y, x * y + x
                 if a ~= 0 and b == -a then n = n + 1 end x = x + 0 * c end
               p(n > 100, n == 0)";
    assert_eq!(run(src, None), "false true");
    assert_eq!(run(src, Some(options(&["jitsync", "hotloop=2"]))), "false true");
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let has = true;
    assert_eq!(
        run(src, Some(options(&["jitsync", "hotloop=2", "+fma"]))),
        if has { "true false" } else { "false true" }
    );
}

#[test]
fn numeric_loops() {
    check("sum", "local s = 0 for i = 1, 1000 do s = s + i * 0.5 end p(s)");
    check("down", "local s = 0 for i = 100, 1, -3 do s = s * 1.5 - i end p(s)");
    check("fraction", "local s = 0 for i = 0, 10, 0.25 do s = s + i end p(s)");
    check("nested", "local n = 0 for i = 1, 40 do for j = 1, i do n = n + (i % 3) * j end end p(n)");
    check(
        "while",
        "local i, s = 0, 0 while i < 500 do i = i + 1 if i % 7 == 0 then s = s - i else s = s + i end end p(i, s)",
    );
    check("repeat", "local i = 0 repeat i = i + 3 until i > 900 p(i)");
    check("intmin", "local s = 0 for i = 2147483600, 2147483647 do s = s + i end p(s)");
    check(
        "branches",
        "local a, b, c = 0, 0, 0 for i = 1, 300 do if i % 2 == 0 then a = a + 1 elseif i % 3 == 0 then b = b + i else c = c - 1 end end p(a, b, c)",
    );
}

#[test]
fn tables_and_fields() {
    check(
        "fill",
        "local t = {} for i = 1, 200 do t[i] = i * i end local s = 0 for i = 1, #t do s = s + t[i] end p(#t, s)",
    );
    check(
        "sieve",
        "local f, n = {}, 0 for i = 2, 500 do f[i] = true end for i = 2, 500 do if f[i] then n = n + 1 for k = i + i, 500, i do f[k] = false end end end p(n)",
    );
    check(
        "fields",
        "local o = {x = 1, y = 2, n = 'a'} for i = 1, 200 do o.x = o.x + o.y o.y = o.y * 0.5 o.n = i % 2 == 0 and 'b' or o.n end p(o.x, o.y, o.n)",
    );
    check(
        "new_tables",
        "local last for i = 1, 300 do last = {i, i + 1, k = {v = i}} end p(last[1], last[2], last.k.v)",
    );
    check(
        "missing",
        "local t, n = {a = 1}, 0 for i = 1, 100 do if t.b == nil then n = n + 1 end if i == 50 then t.b = 5 end end p(n, t.b)",
    );
    check(
        "methods",
        "local C = {} C.__index = C function C:add(n) self.v = self.v + n return self end local o = setmetatable({v = 0}, C) for i = 1, 200 do o:add(i):add(1) end p(o.v)",
    );
    check(
        "holes",
        "local t = {} for i = 1, 100 do t[i * 1000] = i end local s = 0 for i = 1, 100 do s = s + t[i * 1000] end p(s)",
    );
    check(
        "string_keys",
        "local t, k = {}, {'a', 'b', 'c', 'd'} for i = 1, 200 do local x = k[i % 4 + 1] t[x] = (t[x] or 0) + i end p(t.a, t.b, t.c, t.d)",
    );
    check("globals", "g = 0 for i = 1, 200 do g = g + i end p(g)");
    check("insert", "local t = {} for i = 1, 150 do table.insert(t, i) end p(#t, t[150])");
}

#[test]
fn calls_and_upvalues() {
    check(
        "call",
        "local function f(a, b) return a * 2 + (b or 1) end local s = 0 for i = 1, 200 do s = s + f(i) + f(i, 3) end p(s)",
    );
    check(
        "multi",
        "local function f(a) return a, a + 1, a + 2 end local s = 0 for i = 1, 100 do local x, y, z = f(i) s = s + x * y - z end p(s)",
    );
    check(
        "upvalue",
        "local n = 0 local function inc(d) n = n + d return n end local s = 0 for i = 1, 100 do s = s + inc(i) end p(s, n)",
    );
    check(
        "vararg",
        "local function f(...) local a, b = ... return (a or 0) + (b or 5) end local s = 0 for i = 1, 100 do s = s + f(i) + f(i, 2) + f(i, 2, 3) end p(s)",
    );
    check(
        "tail",
        "local function g(x) return x + 1 end local function f(x) return g(x * 2) end local s = 0 for i = 1, 100 do s = s + f(i) end p(s)",
    );
    check(
        "pass_all",
        "local function g(a, b) return a - b end local function f(x) return x, 1 end local s = 0 for i = 1, 100 do s = s + g(f(i)) end p(s)",
    );
    check(
        "recursion",
        "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end local s = 0 for i = 1, 12 do s = s + fib(i) end p(s)",
    );
    check(
        "upvalue_of_the_loop_frame",
        "local n, t = 0, {} local function add(k) n = n + k t[k] = n return n end for i = 1, 100 do add(i) if i % 10 == 0 then n = n - 1 end end p(n, t[50], t[100])",
    );
    check("closures", "local s = 0 for i = 1, 100 do local f = function() return i end s = s + f() end p(s)");
}

#[test]
fn builtins() {
    check(
        "math",
        "local s = 0 for i = 1, 200 do s = s + math.floor(i / 3) + math.sqrt(i) + math.max(i, 50) - math.min(i, 7, 3.5) + math.abs(-i) end p(('%.10g'):format(s))",
    );
    check(
        "bits",
        "local h = 0 for i = 1, 300 do h = bit.bxor(bit.rol(h, 5), i) h = bit.band(h + i, 0xffffff) end p(h)",
    );
    check(
        "strings",
        "local s, n = 'hello world', 0 for i = 1, 100 do n = n + s:byte(i % #s + 1) + #s:sub(2, i % 5) end p(n)",
    );
    check("concat", "local s = '' for i = 1, 60 do s = s .. i .. ',' end p(s)");
    check(
        "compare",
        "local n = 0 local w = {'a', 'bb', 'a', 'c'} for i = 1, 100 do if w[i % 4 + 1] == 'a' then n = n + 1 end if w[i % 4 + 1] < w[(i + 1) % 4 + 1] then n = n + 10 end end p(n)",
    );
    check(
        "types",
        "local n = 0 local v = {1, 'x', true, nil, {}} for i = 1, 100 do if type(v[i % 5 + 1]) == 'number' then n = n + 1 end end p(n)",
    );
    check(
        "ipairs",
        "local t = {} for i = 1, 50 do t[i] = i end local s = 0 for _ = 1, 20 do for i, v in ipairs(t) do s = s + i * v end end p(s)",
    );
    check(
        "pairs",
        "local t = {a = 1, b = 2, 5, 6} local s = 0 for _ = 1, 50 do for k, v in pairs(t) do s = s + v end end p(s)",
    );
}

/// A trace may need a few more slots than the interpreter ever did: the stack grows, and no side trace is made of that.
#[test]
fn a_stack_that_is_too_small_for_a_trace_grows() {
    let count = "jit.off() local k = 0 for i = 1, 150 do if require 'jit.util'.traceinfo(i) then k = k + 1 end end p(k)";
    for k in 1..=24 {
        let args = (0..k).map(|i| format!("a{i}")).collect::<Vec<_>>().join(", ");
        let src = format!(
            "local function f(x, {args}) if x > 7 then return x + 1 end return x end
             local function g(x, {args}) return f(x, {args}) end
             local w = coroutine.wrap(function({args}) local n = 0 for i = 1, 3000 do n = n + g(i % 10, {args}) end coroutine.yield(n) end)
             local n = w({args})"
        );
        let fast = options(&["jitsync", "hotloop=2", "hotexit=1"]);
        assert_eq!(run(&format!("{src} p(n)"), Some(fast.clone())), "14100", "{k} arguments");
        let traces = run(&format!("{src} {count}"), Some(fast));
        assert!(traces.parse::<u32>().expect("a number") < 8, "{traces} traces with {k} arguments");
    }
    check(
        "too deep",
        "local function f(n) return 1 + f(n + 1) end p(pcall(f, 1)) p(select('#', pcall(f, 1)))",
    );
}

/// Loops with few rounds never become traces; the loop around them unrolls them.
#[test]
fn loops_of_few_rounds_are_unrolled_by_the_one_around_them() {
    let loops = [
        "for i = 1, 4000 do local j = i % 3 while j < 2 do j = j + 1 n = n + j end n = n + 1 end",
        "for i = 1, 4000 do for j = 1, i % 2 + 1 do n = n + j end end",
        "local i = 0 while i < 4000 do i = i + 1 local j = 0 repeat j = j + 1 n = n + j until j > i % 2 end",
        "local t = {{1}, {1, 2}} for i = 1, 4000 do for k, v in ipairs(t[i % 2 + 1]) do n = n + v end end",
        "local t = {{a = 1}, {a = 1, b = 2}} for i = 1, 4000 do for k, v in pairs(t[i % 2 + 1]) do n = n + v end end",
        "for i = 1, 4000 do for j = 1, i % 2 + 1 do local k = j while k < 3 do k = k + 1 if i % 7 == k then break end n = n + k end end end",
        "local f = function(i) for j = 1, 9 do if j > i then return j end end end for i = 1, 4000 do n = n + f(i % 3) end",
    ];
    for src in loops {
        check(src, &format!("local n = 0 {src} p(n)"));
    }
    // The outer loop has a trace.
    let src = format!(
        "local n = 0 {}\n jit.off() local r for i = 1, 30 do local t = require 'jit.util'.traceinfo(i) if t and t.linktype == 'loop' then r = true end end p(r)",
        loops[0]
    );
    assert_eq!(run(&src, Some(options(&["jitsync", "hotloop=2", "hotexit=1"]))), "true");
}

/// `maxside` counts all that grows on a root trace, as LuaJIT does.
#[test]
fn side_traces_are_counted_by_their_root() {
    let src = "local n, k = 0, 0
         for i = 1, 3000 do local a, b, c = i % 2, i % 3, i % 5
           if a == 0 then n = n + 1 end if b == 0 then n = n + 2 end if c == 0 then n = n + 3 end if i % 7 == 0 then n = n - 1 end end
         jit.off() for i = 1, 100 do if require 'jit.util'.traceinfo(i) then k = k + 1 end end p(n, k)";
    let traces = |max: &str| {
        let out = run(src, Some(options(&["jitsync", "hotloop=2", "hotexit=1", max])));
        let (n, k) = out.split_once(' ').expect("two numbers");
        assert_eq!(n, "4872");
        k.parse::<u32>().expect("a number")
    };
    assert!(traces("maxside=100") > 5);
    assert_eq!(traces("maxside=3"), 4);
    assert_eq!(traces("maxside=0"), 1);
}

#[test]
fn exits_and_instability() {
    check("type_change", "local x = 0 for i = 1, 100 do if i == 60 then x = 0.5 end x = x + 1 end p(x)");
    check(
        "alternating",
        "local t = {} for i = 1, 200 do t[i] = i % 3 == 0 and 'x' or i end local n, s = 0, '' for i = 1, 200 do local v = t[i] if type(v) == 'number' then n = n + v else s = v end end p(n, s)",
    );
    check(
        "error_inside",
        "local ok, e = pcall(function() local t = {} for i = 1, 100 do if i == 80 then t = nil end t.x = i end end) p(ok, e)",
    );
    check(
        "nan",
        "local n, z = 0, 0 for i = 1, 100 do local x = i % 10 == 0 and z / z or i if x ~= x then n = n + 1 elseif x < 50 then z = 0 end end p(n)",
    );
    check(
        "break",
        "local n = 0 for i = 1, 100 do for j = 1, 100 do if j > i then break end n = n + 1 end end p(n)",
    );
    check("overflow", "local x = 2147483000 for i = 1, 2000 do x = x + 1 end p(x)");
    check("minus_zero", "local s = 0 for i = 1, 50 do local z = -0.0 * i s = s + 1 / (z - 0) end p(s)");
    check(
        "nil_locals",
        "local a, b for i = 1, 100 do if i % 2 == 0 then a, b = i, nil else b, a = i, nil end end p(a, b)",
    );
}

#[test]
fn collector_runs_under_traces() {
    check(
        "garbage",
        "local keep = {} for i = 1, 30000 do local t = {i, {i}} if i % 1000 == 0 then keep[#keep + 1] = t end end local s = 0 for i = 1, #keep do s = s + keep[i][2][1] end p(s)",
    );
    check("strings_garbage", "local s = 0 for i = 1, 5000 do local x = 'n' .. i s = s + #x end p(s)");
}

#[test]
fn flushing_and_switching_off_changes_no_result() {
    let src = "local function work(n) local s = 0 for i = 1, n do s = s + i % 3 end return s end
        for r = 1, 20 do p(work(50 + r)) if r % 5 == 0 then jit.flush() end if r == 12 then jit.off() elseif r == 15 then pcall(jit.on) end end";
    check("flush", src);
    let src = "local function work(n) local s = 0 for i = 1, n do s = s + i end return s end
        jit.off(work) for r = 1, 10 do p(work(100)) end jit.on(work) for r = 1, 10 do p(work(100)) end p(type(jit.status()))";
    check("off_function", src);
}

/// What a flush throws away: the traces of a function, one trace with its side traces. What was given up in a function
/// is tried again when it is allowed again.
#[test]
fn a_flush_throws_away_what_it_names() {
    let src = "local util = require('jit.util')
        local function sum(n) local s = 0 for i = 1, n do if i > 20 then s = s + i else s = s - i end end return s end
        local function rest(n) local s = 0 for i = 1, n do s = s + i % 3 end return s end
        local function calls(n) local s = 0 for i = 1, n do s = s + sum(30) end return s end
        local all = {sum, rest, calls}
        local function run() local s = 0 for i = 1, #all do s = s + all[i](100) end return s end
        local function traces() local l = {} for n = 1, 40 do if util.traceinfo(n) then l[n] = true end end return l end
        local function count() local n = 0 for _ in pairs(traces()) do n = n + 1 end return n end
        jit.off(run) jit.off(traces) jit.off(count) jit.off(true)
        local want = run() run() run()
        jit.flush()
        local steps = {count()}
        local function add(ok) steps[#steps + 1] = tostring(ok) end
        jit.opt.start('hotexit=60000')
        rest(100) add(count() == 1) jit.flush(3) jit.flush(-1) jit.flush(0) add(count() == 1) jit.flush(1) add(count() == 0)
        add(rest(100) == 100) add(count() == 1) jit.flush(rest)
        add(count() == 0) rest(100) jit.off(rest) add(count() == 0) add(rest(100) == 100)
        for i = 1, 30 do rest(100) end add(count() == 0)
        jit.on(rest) rest(100) add(count() == 1)
        jit.opt.start('hotexit=1')
        sum(100) sum(100) add(count() >= 3) add(sum(100) == 4630)
        jit.flush(2) add(count() == 1) add(sum(100) == 4630) jit.flush(sum) add(count() == 1 and util.traceinfo(1))
        for i = 1, 20 do for n = 1, 40 do run() jit.flush(i * n % 7) end end add(run() == want)
        for i = 1, 20 do run() jit.flush(all[i % 3 + 1], true) end add(run() == want)
        return table.concat(steps, ' ')";
    for words in [&["jitsync", "hotloop=2", "hotexit=1"][..], &["jitsync", "hotloop=3", "hotexit=2", "-loop"]]
    {
        let mut vm = Vm::new();
        moonlit_vm::lib::open_all(&mut vm);
        install(&mut vm, options(words));
        let f = vm.load(src.as_bytes(), b"=flush", b"t", None).expect("compiles");
        let out = vm.call(Value::obj(f), &[]).expect("runs");
        let got =
            String::from_utf8_lossy(out[0].as_obj::<Str>().expect("string").bytes(&vm.heap)).into_owned();
        assert!(got.starts_with("0 ") && !got.contains("false") && !got.contains("nil"), "{words:?}: {got}");
    }
}

#[test]
fn code_that_dies_takes_its_traces_along() {
    check(
        "dying_chunks",
        "local s = 0 for r = 1, 40 do local f = load('local s = 0 for i = 1, 60 do s = s + i * ' .. r .. ' end return s') s = s + f() f = nil if r % 4 == 0 then collectgarbage() end end p(s)",
    );
}

#[test]
fn a_result_that_comes_after_a_flush_is_dropped() {
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    let gate = install_with_gate(&mut vm, options(&["hotloop=2", "hotexit=1"]));
    gate.set(true);
    let src = "local function work() local s = 0 for i = 1, 100 do s = s + i end return s end
        local r = work() jit.flush() collectgarbage() for i = 1, 50 do r = r + work() end return tostring(r)";
    let f = vm.load(src.as_bytes(), b"=gate", b"t", None).expect("compiles");
    let out = vm.call(Value::obj(f), &[]).expect("runs");
    gate.set(false);
    assert_eq!(out[0].as_obj::<Str>().expect("string").bytes(&vm.heap), b"257550");
    let again = vm.call(Value::obj(f), &[]).expect("runs");
    assert_eq!(again[0].as_obj::<Str>().expect("string").bytes(&vm.heap), b"257550");
}

#[test]
fn nothing_stale_is_entered_when_the_world_changes_while_a_trace_is_compiled() {
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    let gate = install_with_gate(&mut vm, options(&["hotloop=2", "hotexit=1"]));
    gate.set(true);
    // Recorded with one `__index`, then the metatable gets another; a second function is dropped and collected.
    let src = "local mt = {__index = {x = 1}}
        local o = setmetatable({}, mt)
        local function sum() local s = 0 for i = 1, 100 do s = s + o.x end return s end
        local first = sum()
        load('local s = 0 for i = 1, 100 do s = s + i end return s')()
        collectgarbage() collectgarbage()
        mt.__index = {x = 2}
        local second = sum()
        setmetatable(o, {__index = function() return 3 end})
        local third = sum()
        return function() return tostring(first) .. ' ' .. second .. ' ' .. third .. ' ' .. sum() end";
    let f = vm.load(src.as_bytes(), b"=gate", b"t", None).expect("compiles");
    let tell = vm.call(Value::obj(f), &[]).expect("runs")[0];
    let root = vm.heap.roots.add(tell);
    gate.set(false);
    for _ in 0..50 {
        let out = vm.call(tell, &[]).expect("runs");
        assert_eq!(out[0].as_obj::<Str>().expect("string").bytes(&vm.heap), b"100 200 300 300");
        std::thread::yield_now();
    }
    moonlit_vm::gc::full(&mut vm);
    moonlit_vm::gc::check::check(&mut vm).expect("the heap is sound");
    vm.heap.roots.remove(root);
}

/// Waiting for code keeps no prototype alive, and what dies meanwhile leaves the other traces their code.
#[test]
fn a_trace_dies_with_its_prototype_while_it_is_compiled() {
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    let gate = install_with_gate(&mut vm, options(&["hotloop=2", "hotexit=1"]));
    gate.set(true);
    let src = "local util = require('jit.util')
        local function loop() return load('local s = 0 for i = 1, 100 do s = s + i end return s') end
        loop()()
        local kept = loop()
        kept()
        assert(util.traceinfo(1) and util.traceinfo(2))
        collectgarbage() collectgarbage()
        assert(not util.traceinfo(1) and util.traceinfo(2), 'the first is gone')
        -- Another trace with the number of the one that is gone.
        local other = loop()
        other()
        assert(util.traceinfo(1))
        return function()
            assert(kept() == 5050 and other() == 5050)
            return util.tracemc(1) and util.tracemc(2) and true
        end";
    let f = vm.load(src.as_bytes(), b"=gate", b"t", None).expect("compiles");
    let both = match vm.call(Value::obj(f), &[]) {
        Ok(v) => v[0],
        Err(_) => {
            let e = vm.take_error();
            panic!("{}", String::from_utf8_lossy(&vm.raw_text(e)));
        }
    };
    let root = vm.heap.roots.add(both);
    gate.set(false);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(300);
    while vm.call(both, &[]).expect("runs")[0] != Value::TRUE {
        assert!(std::time::Instant::now() < end, "a trace waits for ever");
        std::thread::yield_now();
    }
    moonlit_vm::gc::full(&mut vm);
    moonlit_vm::gc::check::check(&mut vm).expect("the heap is sound");
    vm.heap.roots.remove(root);
}

#[test]
fn heap_is_sound_after_whole_collections_under_an_allocating_trace() {
    for zeal in [moonlit_vm::heap::zeal::Zeal::Off, moonlit_vm::heap::zeal::Zeal::Steps] {
        let mut vm = Vm::new();
        moonlit_vm::lib::open_all(&mut vm);
        vm.heap.set_zeal(zeal);
        install(&mut vm, options(&["jitsync", "hotloop=2", "hotexit=1"]));
        let n = if zeal == moonlit_vm::heap::zeal::Zeal::Off { 300_000 } else { 2000 };
        let src = format!(
            "kept = {{}} local s = 0 for i = 1, {n} do local t = {{i, name = {{i}}}} if i % 100 == 0 then kept[#kept + 1] = t end s = s + t.name[1] end return s"
        );
        let f = vm.load(src.as_bytes(), b"=garbage", b"t", None).expect("compiles");
        let out = vm.call(Value::obj(f), &[]).expect("runs");
        assert_eq!(out[0].as_num(), Some((n as f64) * (n as f64 + 1.0) / 2.0), "{zeal:?}");
        moonlit_vm::gc::check::check(&mut vm).expect("the heap is sound");
        vm.collect_garbage();
        moonlit_vm::gc::check::check(&mut vm).expect("the heap is sound after a collection");
    }
}

#[test]
fn memory_limit_strikes_inside_machine_code_and_can_be_caught() {
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    install(&mut vm, options(&["jitsync", "hotloop=2", "hotexit=1"]));
    let limit = vm.heap.total_bytes() + (4 << 20);
    vm.heap.set_limit(limit);
    let src =
        "local ok, e = pcall(function() local t = {} for i = 1, 1e9 do t[i] = {i} end end) return ok, e";
    let f = vm.load(src.as_bytes(), b"=hungry", b"t", None).expect("compiles");
    let out = vm.call(Value::obj(f), &[]).expect("the error is caught");
    assert_eq!(out[0], Value::FALSE);
    assert_eq!(out[1].as_obj::<Str>().expect("string").bytes(&vm.heap), b"not enough memory");
    let f = vm
        .load(b"local s = 0 for i = 1, 100 do s = s + i end return s", b"=on", b"t", None)
        .expect("compiles");
    assert_eq!(vm.call(Value::obj(f), &[]).expect("runs")[0].as_num(), Some(5050.0));
}

#[test]
fn limits_hold_inside_machine_code() {
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    install(&mut vm, options(&["jitsync", "hotloop=2", "hotexit=1"]));
    vm.set_deadline(Some(std::time::Instant::now() + std::time::Duration::from_millis(50)));
    let f = vm.load(b"local i = 0 while true do i = i + 1 end", b"=endless", b"t", None).expect("compiles");
    assert!(vm.call(Value::obj(f), &[]).is_err());
}

#[test]
fn verbose_mode_names_traces_and_aborts_by_place() {
    let dir = std::env::temp_dir().join(format!("moonlit-jit-verbose-{}", std::process::id()));
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    install(&mut vm, options(&["jitsync", "hotloop=2", "hotexit=2"]));
    let src = format!(
        "require('jit.v').start([[{}]])\nlocal s = 0\nfor i = 1, 100 do\n  if i > 50 then s = s + 1 end\nend\nfor i = 1, 100 do\n  collectgarbage('count')\nend jit.flush()",
        dir.display()
    );
    let f = vm.load(src.as_bytes(), b"@a/place.lua", b"t", None).expect("compiles");
    vm.call(Value::obj(f), &[]).expect("runs");
    let text = std::fs::read_to_string(&dir).expect("written");
    let _ = std::fs::remove_file(&dir);
    assert!(text.contains("[TRACE   1 place.lua:3 loop]"), "{text}");
    assert!(text.contains("[TRACE   2 (1/"), "{text}");
    assert!(
        text.contains(
            "[TRACE --- place.lua:6 -- NYI: unsupported variant of FastFunc collectgarbage at place.lua:7]\n"
        ),
        "{text}"
    );
    assert!(text.ends_with("[TRACE flush]\n"), "{text}");
}

/// `minstitch`: calls of functions without a recorder stand on traces of some length.
#[test]
fn short_traces_call_no_library_functions() {
    let traces = |minstitch: &str| {
        let mut vm = Vm::new();
        moonlit_vm::lib::open_all(&mut vm);
        install(&mut vm, options(&["jitsync", "hotloop=2", minstitch]));
        let src = b"local why = {}
            jit.attach(function(what, _, _, _, n) if what == 'abort' then why[#why + 1] = n end end, 'trace')
            local n = 0
            for i = 1, 100 do n = n + #(('x'):rep(i)) end
            return n, require('jit.util').traceinfo(1) and 1 or 0, why[1] or 0";
        let f = vm.load(src, b"=stitch", b"t", None).expect("compiles");
        let r = vm.call(Value::obj(f), &[]).expect("runs");
        [0, 1, 2].map(|i| r[i].as_num().expect("a number"))
    };
    assert_eq!(traces("minstitch=3"), [5050.0, 1.0, 0.0]);
    // "trace too short"
    assert_eq!(traces("minstitch=300"), [5050.0, 0.0, 1.0]);
}

#[test]
fn a_forked_child_keeps_its_traces_and_compiles_new_ones() {
    let mut vm = Vm::new();
    moonlit_vm::lib::open_all(&mut vm);
    install(&mut vm, options(&["jitsync", "hotloop=2", "hotexit=1"]));
    // Held as roots: one runs while nothing else knows the others.
    let load = |vm: &mut Vm, src: &str| {
        let f = Value::obj(vm.load(src.as_bytes(), b"=fork", b"t", None).expect("compiles"));
        vm.heap.roots.add(f);
        f
    };
    let a = load(&mut vm, "local s = 0 for i = 1, 500 do s = s + i end return s");
    let b = load(&mut vm, "local s = 0 for i = 1, 500 do s = s + i * 2 end return s");
    let number = |vm: &mut Vm, f: Value| vm.call(f, &[]).expect("runs")[0].as_num().expect("a number");
    assert_eq!(number(&mut vm, a), 125250.0);
    // SAFETY: the child only runs this VM and leaves with `_exit`; it touches nothing of the test harness.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let ok = number(&mut vm, a) == 125250.0
            && number(&mut vm, b) == 250500.0
            && number(&mut vm, b) == 250500.0;
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(if ok { 0 } else { 1 }) };
    }
    // The parent throws its code away and writes new code while the child runs.
    let flush = load(&mut vm, "jit.flush()");
    vm.call(flush, &[]).expect("runs");
    for _ in 0..20 {
        assert_eq!(number(&mut vm, b), 250500.0);
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(status, 0);
}

#[test]
fn a_local_that_only_a_new_function_reads_is_kept() {
    // The trace ends in front of the FNEW; the loop variable was taken for dead there.
    let src = r#"
    local n, acc, str = 0, 0, ''
    local t, h = {}, {a=1,b=2,c=3}
    local function put(k, v) h[k] = v acc = acc + 1 end
    local P = {} P.__index = P function P:get(k) return self.x + k end function P.new(x) return setmetatable({x=x}, P) end
    local obj, ob2 = P.new(3), setmetatable({x=5}, Q)
    for i = 1, 60 do
      for ix = 1, 5 do for k_, v_ in pairs(h) do if type(v_) == 'number' then acc = (acc + v_) % 100003 end end n = (h.a or 0) end
      for ix = 0, 1, 0.25 do if ix + 1 < n then put('a', n) else t[ix] = n end local ok_, er_ = pcall(function() if ix % 11 == 0 then error('e') end n = n + 1 end) end
    n = n % 100003 end
    for i = 1, 60 do
    n = n % 100003 end
    return tostring(n) .. ' ' .. tostring(acc) .. ' ' .. tostring(h.a)
    "#;
    let go = |o: Option<Options>| {
        let mut vm = Vm::new();
        moonlit_vm::lib::open_all(&mut vm);
        if let Some(o) = o {
            install(&mut vm, o);
        }
        let f = vm.load(src.as_bytes(), b"=capture", b"t", None).expect("compiles");
        let out = vm.call(Value::obj(f), &[]).expect("runs");
        out[0].as_obj::<Str>().expect("a string").bytes(&vm.heap).to_vec()
    };
    let want = go(None);
    for _ in 0..4 {
        assert_eq!(go(Some(options(&["jitsync", "hotloop=3", "hotexit=2", "-loop"]))), want);
    }
}

/// A loop that goes on with other types or functions than its first trace: the exit at its start becomes another loop.
#[test]
fn loops_over_again_at_the_first_exit() {
    check(
        "functions",
        "local function sum(f, n) local s = 0 for i = 1, n do s = s + f(i) end return s end
         for _ = 1, 3 do p(sum(math.abs, 60), sum(math.floor, 60), sum(function(x) return x * 2 end, 60)) end",
    );
    check(
        "index",
        "local function sum(a, m, n) local s = 0 for i = m, n do s = s + a[i] + (a[i - 1] or 0) a[i] = s % 97 end return s end
         local ints, text, holes = {}, {}, {}
         for i = 0, 99 do ints[i] = i text[i] = tostring(i + .5) holes[i] = i % 7 > 0 and i or nil end
         for k = 1, 4 do
           p(sum(ints, 1, 50 + k), pcall(sum, text, 1, 9), pcall(sum, holes, 1, 6), sum(ints, 50, 99))
           p(sum({[0] = 0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5}, 1, 7), sum(setmetatable({[0] = 1}, {__index = ints}), 1, 40))
           p(pcall(sum, ints, 90, 120))
         end",
    );
    check(
        "number and integer",
        "local function run(x, d, n) local t = {} for i = x, n, d do t[#t + 1] = i x = x + d end return #t, x, t[#t] end
         for _ = 1, 3 do
           p(run(1, 1, 40)) p(run(0.5, 0.25, 12)) p(run(40, -1, 1)) p(run(2147483600, 1, 2147483647)) p(run(-0.0, 1, 30))
           p(run(2147483600, 3, 2147483700))
         end",
    );
    check(
        "while",
        "local function run(x, y, n) local c = 0 while c < n do c = c + 1 if x == y then x = y else x = c end end return x, c end
         for _ = 1, 3 do p(run(1, 1, 30)) p(run('a', 'a', 30)) p(run(true, true, 30)) p(run(nil, nil, 30)) p(run(1, 'b', 30)) end",
    );
    check(
        "iterators",
        "local function run(t) local s = '' for k, v in pairs(t) do s = s .. type(v) end return s end
         local function runi(t) local s = 0 for k, v in ipairs(t) do if v then s = s + k end end return s end
         local n, b, m = {}, {}, {}
         for i = 1, 30 do n[i] = i b[i] = true m[i] = i % 3 == 0 and 'x' or i % 3 == 1 and p or i end
         for i = 1, 30, 3 do m[i] = false end
         for _ = 1, 4 do p(run(n), run(b), run(m), runi(n), runi(b), runi(m)) end",
    );
    check(
        "entered anew",
        "local function run(a, f) local s = 0 for i = 1, 40 do for j = 1, i % 5 + 1 do s = s + f(j) + a[j] end end return s end
         local a = {1, 2, 3, 4, 5, 6}
         for _ = 1, 3 do p(run(a, math.abs), run(a, math.sqrt), run(a, function(x) return -x end)) end",
    );
}

/// Sums of a loop's index and a constant, near where 32 bits end too.
#[test]
fn sums_of_an_index() {
    check(
        "neighbours",
        "local v = {} for i = 0, 130 do v[i] = i * i % 17 end
         for k = 1, 3 do
           for i = 1, 100 + k do v[i] = (v[i - 1] + v[i] + v[i + 1] + v[i + 20]) % 1009 end
           for i = 101, 2, -1 do v[i] = (v[i - 1] + 2 * v[i] + v[i + 1] - v[i - 2]) % 1009 end
           for i = 3, 90, 3 do v[i + 3], v[i] = v[i], v[i + 3] v[i + 4] = v[i - 3] end
         end
         local s = 0 for i = 0, 130 do s = s * 31 % 65521 + v[i] end p(s)",
    );
    check(
        "edges",
        "local function run(a, b, s, f) local t, n = 0, 0
           for i = a, b, s do n = n + 1 t = t + f(i) if n > 50 then break end end return string.format('%d %.17g', n, t) end
         local fs = {}
         for _, k in ipairs{1, 2, 5, 1000, 2147483647, -2147483648} do
           fs[#fs + 1] = loadstring('local k = ' .. k .. ' return function(i) return i + (' .. k .. ') end')()
           fs[#fs + 1] = loadstring('return function(i) return i - (' .. k .. ') end')()
           fs[#fs + 1] = loadstring('return function(i) return (' .. k .. ') + i end')()
           fs[#fs + 1] = loadstring('return function(i) return (' .. k .. ') - i end')()
         end
         for _, r in ipairs{{1, 40, 1}, {2147483600, 2147483646, 1}, {2147483600, 2147483647, 1}, {2147483500, 2147483642, 3},
             {-2147483648, -2147483610, 1}, {-2147483600, -2147483648, -1}, {-2147483600, -2147483647, -1}, {40, 1, -2},
             {-20, 20, 1}} do
           for i = 1, #fs do p(i, run(r[1], r[2], r[3], fs[i])) end
         end",
    );
    check(
        "limit moves",
        "local function run(n) local t = 0 for i = 1, n do t = t + (i + 3) - (i - 3) + (i + 1) * 2 end return t end
         for k = 1, 20 do p(run(k * 5)) end p(run(100))",
    );
}

/// Loads of what the round before has stored or loaded, and stores in between.
#[test]
fn neighbours_of_the_round_before() {
    check(
        "recurrence",
        "local v, w = {}, {} for i = 0, 140 do v[i] = i * i % 17 w[i] = i end
         for k = 1, 3 do
           for i = 1, 100 do v[i] = v[i - 1] + v[i] + v[i + 1] end
           for i = 100, 1, -1 do v[i] = (v[i + 1] + v[i - 1] - v[i]) % 1009 end
           for i = 2, 100 do local x = v[i - 1] v[i] = x + 1 v[i - 2] = x - 1 v[i + 1] = v[i] + v[i - 2] end
           for i = 2, 100 do w[i] = w[i - 1] w[i + 1] = v[i] v[i - 1] = w[i] + w[i - 2] % 7 end
           for i = 4, 100, 2 do v[i], v[i - 2] = v[i - 1], v[i + 2] v[i + 1] = v[i - 4] end
           for i = 1, 100 do local a, b = v[i], v[i + 1] if a > b then v[i], v[i + 1] = b, a end end
         end
         local s = 0 for i = 0, 140 do s = (s * 31 + v[i] * 7 + w[i]) % 65521 end p(s)",
    );
    check(
        "one table twice",
        "local function f(a, b) for i = 2, 60 do a[i] = b[i - 1] + 1 b[i + 1] = a[i - 1] + a[i] end
           local s = 0 for i = 1, 61 do s = (s * 7 + a[i] * 3 + b[i]) % 1000003 end return s end
         for k = 1, 3 do
           local x, y = {}, {} for i = 1, 62 do x[i] = i % 5 y[i] = i % 7 end
           p(f(x, x), f(x, y), f(y, x), f(y, y))
         end",
    );
    check(
        "types change",
        "local v = {} for i = 1, 80 do v[i] = i end
         local n = 0 for i = 2, 70 do if i == 50 then v[i] = 'x' end
           if type(v[i - 1]) == 'string' then n = n + 1 v[i - 1] = 7 end v[i + 1] = i % 13 == 0 and v[i + 1] or v[i - 1] end
         local s = '' for i = 1, 80 do s = s .. v[i] .. ',' end p(n, s)",
    );
    check(
        "steps over the array's end",
        "local v = {} for i = 1, 30 do v[i] = i end
         for k = 1, 3 do for i = 2, 40 do v[i] = (v[i - 1] or 0) + (v[i + 1] or i) end end
         local s = 0 for i = 1, 45 do s = (s * 3 + (v[i] or 1)) % 10007 end p(s, #v)
         local u = {} u[1] = 1 for i = 1, 60 do u[i + 1] = u[i] * 2 % 1009 end p(#u, u[61])
         u = {} for i = 1, 60 do u[i] = i if i > 1 then u[i - 1] = nil end end p(u[60], u[59], u[1])",
    );
}

/// Concatenations of strings and numbers: their texts, many parts, long ones.
#[test]
fn concatenations() {
    check(
        "parts",
        "local n = {0, -0.0, 1, -7, 2^31, -2^31, 2^53, 1e15, 123456789012345, 0.1, 1 / 3, 1 / 0, -1 / 0, 1e300, 5e-324, 3.0}
         local h, s = 0, ''
         for k = 1, 6 do for i = 1, #n do
           local x = n[i]
           s = 'x' .. x .. ':' .. i .. '|' .. x .. -i
           p(s, x .. '', '' .. x, i .. k, i .. '.' .. k, s .. s, s .. 1 .. s .. 2.5 .. s)
           h = (h * 31 + #s) % 65521
         end end p(h)
         for i = 1, 40 do local a, b = bit.tobit(i * 0x12345678), i - 20.5 p(a .. b, b .. a, a .. ',' .. b .. ',' .. a + 1) end",
    );
    check(
        "keys",
        "local t, c = {}, 0
         for i = 1, 300 do local k = 'key' .. i * 7919 % 100 t[k] = (t[k] or 0) + i t[i .. k] = i end
         for i = 1, 300 do if t[i .. 'key' .. i * 7919 % 100] == i then c = c + 1 end end p(c, t.key0, t.key99)",
    );
    check(
        "long",
        "local s = ('0123456789'):rep(30)
         for i = 1, 40 do local l = i .. s .. i .. s .. -i p(#l, l:sub(1, 5), l:sub(-5), l == i .. s .. (i .. s) .. -i) end
         for i = 1, 12 do s = s .. i .. s end p(#s, s:sub(-20))",
    );
    check(
        "error on other types",
        "local function f(x) local s = '' for i = 1, 50 do s = 'a' .. i .. (i == 40 and x or 'c') end return s end
         for _ = 1, 3 do p(f('z'), f(7), pcall(f, {}), pcall(f, true)) end
         local m = setmetatable({}, {__concat = function(a, b) return 'M' end})
         for _ = 1, 3 do p(f(m)) end",
    );
}

/// Sums that only bit operations look at, and the same ones that others see, where 32 bits are too few.
#[test]
fn sums_cut_to_32_bits() {
    check(
        "overflow",
        "local band, bor, bxor, tobit, rol = bit.band, bit.bor, bit.bxor, bit.tobit, bit.rol
         local h, last = 1, 0
         for i = 1, 400 do
           local a, b = tobit(h * 69069), rol(h, i)
           h = bxor(band(a + b, 0x7fffffff), bor(a - b, i)) + band(band(a, 1) - 1, b)
           h = tobit(h + band(a + b + a + b, 0xffffff) - bxor(a - (b - a), 3))
           if i % 50 == 0 then last = a + b p(i, h, last, band(last, 255)) end
         end p(h, last)",
    );
    check(
        "seen by others",
        "local band, tobit = bit.band, bit.tobit
         local function f(x, y, n) local s, t = 0, 0
           for i = 1, n do local v = tobit(x) + tobit(y) t = band(v, 0xffff) s = s + v x = v y = y + i end
           return string.format('%.17g %d', s, t) end
         for _, r in ipairs{{1, 2, 30}, {2147483600, 1, 60}, {-2147483648, -1, 20}, {2147483647, 2147483647, 20}, {0.5, 1.5, 30}} do
           for _ = 1, 3 do p(f(r[1], r[2], r[3])) end end",
    );
    check(
        "numbers from tables",
        "local band, bxor = bit.band, bit.bxor
         local t = {} for i = 1, 64 do t[i] = i * 0x1000001 end
         local function f() local h = 0
           for i = 1, 64 do h = bxor(band(h, 0xffff) + t[i] + 0x5bd1e995, h) h = band(h + t[65 - i], -1) end return h end
         for _ = 1, 4 do p(f()) end
         for _, x in ipairs{0.5, -0.0, 2^45, -2^46, 2^46, 2^51, 2^52 + 1, 1e300, 0 / 0, 1 / 0, -3.75} do t[20] = x p(f(), f()) end",
    );
}

/// Keys that are not there, in tables that have no hash part until they get one.
#[test]
fn absent_keys() {
    check(
        "no hash part",
        "local t = {1, 2, 3}
         local function f(n) local s = 0 for i = 1, n do s = s + (t[i % 9] or 10) + (t[-i] or 3) end return s end
         p(f(40), f(40)) t.x = 1 p(f(40)) t[-5] = 100 p(f(40), f(40)) t[7] = 5 p(f(40)) t[-5] = nil p(f(40))
         setmetatable(t, {__index = function(_, k) return k end}) p(f(40), f(40))",
    );
    check(
        "filled in the loop",
        "for _ = 1, 3 do local t, c = {}, 0
           for i = 1, 100 do local k = i * 37 % 101 + 1000 if not t[k] then c = c + 1 end if i > 60 then t[k] = i end end
           for i = 1, 100 do if t[i * 37 % 101 + 1000] then c = c + 100 end end p(c) end",
    );
}
