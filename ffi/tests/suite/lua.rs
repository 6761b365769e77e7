//! The ffi as Lua programs see it. Each line of `differential.txt` is a program; its results or its error must be what LuaJIT
//! gives for it.

use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;
use std::fmt::Write as _;
use std::process::Command;

const CASES: &str = include_str!("differential.txt");

pub struct Machine {
    pub vm: Box<Vm>,
    ffi: Gc<Table>,
}

impl Machine {
    pub fn new() -> Machine {
        let mut vm = Vm::new();
        moonlit_vm::lib::open_all(&mut vm);
        let ffi = moonlit_ffi::install(&mut vm, Vec::new());
        vm.globals.set_bytes(&mut vm.heap, b"ffi", Value::obj(ffi)).expect("a valid key");
        Machine { vm, ffi }
    }

    /// Results as `tostring` shows them, tab between; or `error: ` and the message.
    pub fn run(&mut self, source: &str) -> String {
        let f = match self.vm.load(source.as_bytes(), b"=t", b"t", None) {
            Ok(f) => f,
            Err(e) => return format!("error: {}", String::from_utf8_lossy(&e)),
        };
        match self.vm.call(Value::obj(f), &[Value::obj(self.ffi)]) {
            Ok(values) => {
                let texts: Vec<String> = values
                    .iter()
                    .map(|v| String::from_utf8_lossy(&self.vm.raw_text(*v)).into_owned())
                    .collect();
                texts.join("\t")
            }
            Err(_) => {
                let e = self.vm.take_error();
                format!("error: {}", String::from_utf8_lossy(&self.vm.raw_text(e)))
            }
        }
    }
}

/// Programs and the declarations they share.
fn cases() -> (String, Vec<&'static str>) {
    let mut prelude = String::new();
    let mut programs = Vec::new();
    for line in CASES.lines() {
        if let Some(declaration) = line.strip_prefix("cdef ") {
            writeln!(prelude, "{declaration}").expect("writing to a string");
        } else if !line.is_empty() && !line.starts_with("--") {
            programs.push(line);
        }
    }
    (prelude, programs)
}

/// Addresses and numbers of nameless types differ between runs.
fn normal(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("0x") {
        out.push_str(&rest[..at]);
        rest = &rest[at + 2..];
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        // Small addresses were given by the program itself.
        if rest[..digits].trim_start_matches('0').len() > 10 && !rest.starts_with("ffffffffff") {
            out.push_str("ADDRESS");
        } else {
            out.push_str("0x");
            out.push_str(&rest[..digits]);
        }
        rest = &rest[digits..];
    }
    out.push_str(rest);
    // Nameless types are called by their number.
    for keyword in ["struct ", "union ", "enum "] {
        let mut from = 0;
        while let Some(at) = out[from..].find(keyword) {
            from += at + keyword.len();
            let digits = out[from..].bytes().take_while(u8::is_ascii_digit).count();
            out.replace_range(from..from + digits, if digits > 0 { "#" } else { "" });
        }
    }
    out
}

pub fn lua_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for b in text.bytes() {
        write!(out, "\\{b:03}").expect("writing to a string");
    }
    out.push('"');
    out
}

#[test]
fn programs_give_what_luajit_gives() {
    let (prelude, programs) = cases();
    let mut script = format!(
        "local ffi = require 'ffi' _G.ffi = ffi ffi.cdef({})\nlocal out = {{}}\n",
        lua_quote(&prelude)
    );
    script.push_str(
        "local function show(ok, ...) local t = {} for i = 1, select('#', ...) do t[i] = tostring((select(i, ...))) end
         local s = table.concat(t, '\\t') io.write(ok and s or 'error: ' .. s, '\\1') end\n",
    );
    for p in &programs {
        writeln!(script, "show(pcall(assert(loadstring({}, '=t')), ffi))", lua_quote(p))
            .expect("writing to a string");
    }
    let dir = std::env::temp_dir().join(format!("moonlit-ffi-{}.lua", std::process::id()));
    std::fs::write(&dir, script).expect("a temporary file");
    let out = Command::new("luajit").arg("-joff").arg(&dir).output();
    let _ = std::fs::remove_file(&dir);
    let Ok(out) = out else {
        eprintln!("skipped: luajit is not installed");
        return;
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout);
    let expected: Vec<&str> = text.split('\x01').collect();
    let mut machine = Machine::new();
    let declared = machine.run(&format!("ffi.cdef({})", lua_quote(&prelude)));
    assert_eq!(declared, "");
    let mut differences = String::new();
    for (program, expected) in programs.iter().zip(expected) {
        let got = machine.run(program);
        let got = got.replace(&std::env::current_exe().expect("known").display().to_string(), "luajit");
        if normal(&got) != normal(expected) {
            writeln!(differences, "{program}\n  ours:   {got}\n  LuaJIT: {expected}")
                .expect("writing to a string");
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn collecting_at_every_safepoint_changes_nothing() {
    use moonlit_vm::heap::zeal::Zeal;
    let (prelude, programs) = cases();
    let (mut plain, mut zealous) = (Machine::new(), Machine::new());
    zealous.vm.heap.set_zeal(Zeal::from_level(1));
    for m in [&mut plain, &mut zealous] {
        assert_eq!(m.run(&format!("ffi.cdef({})", lua_quote(&prelude))), "");
    }
    for program in programs {
        assert_eq!(normal(&zealous.run(program)), normal(&plain.run(program)), "{program}");
    }
}

/// Six saved alignments, as LuaJIT has them.
#[test]
fn pragma_pack_has_a_depth() {
    let mut m = Machine::new();
    let program = r##"local function f(n)
            local ok, e = pcall(ffi.cdef, ("#pragma pack(push, 1)\n"):rep(n) .. "#pragma pack(pop)\nstruct s" .. n .. " {char a; int b;};")
            return ok, e or ffi.sizeof("struct s" .. n)
        end
        local ok, size = f(6)
        return ok, size, f(7)"##;
    assert_eq!(m.run(program), "true\t5\tfalse\tchunk has too many syntax levels near 'push' at line 7");
}

#[test]
fn a_yield_across_a_callback_is_refused() {
    let mut m = Machine::new();
    let program = "local cb = ffi.cast('int (*)(int)', function(x) coroutine.yield(x) return x end)
        local co = coroutine.create(function() return cb(1) end)
        return coroutine.resume(co)";
    assert_eq!(m.run(program), "false\tt:1: attempt to yield across C-call boundary");
}

#[test]
fn coroutines_go_on_around_c_calls_and_inside_metatypes() {
    let mut m = Machine::new();
    let program = "ffi.cdef 'typedef struct { int x; } yielder; int abs(int);'
        ffi.metatype('yielder', { __add = function(a, b) return coroutine.yield(a.x) + b end,
          __index = function(s, k) return coroutine.yield(k) end })
        local co = coroutine.wrap(function() local y = ffi.new('yielder', 4) return (y + 1) + ffi.C.abs(y.name) end)
        return co(), co(10), co(-5)";
    assert_eq!(m.run(program), "4\tname\t16");
}

#[test]
fn nested_callbacks_and_errors_pass_through_several_c_calls() {
    let mut m = Machine::new();
    let program = "ffi.cdef 'void qsort(void *, size_t, size_t, int (*)(const void *, const void *));'
        local depth, deepest = 0, 0
        local cb
        cb = ffi.cast('int (*)(const void *, const void *)', function()
          depth = depth + 1
          if depth > deepest then deepest = depth end
          if depth < 20 then local a = ffi.new('int[2]', 2, 1) ffi.C.qsort(a, 2, 4, cb) else error('deep', 0) end
          depth = depth - 1
          return 0
        end)
        local a = ffi.new('int[2]', 2, 1)
        local ok, e = pcall(ffi.C.qsort, a, 2, 4, cb)
        return deepest, ok, e";
    assert_eq!(m.run(program), "20\tfalse\tdeep");
}

#[test]
fn standard_files_are_c_files_and_other_objects_are_no_pointers() {
    let mut m = Machine::new();
    let program = "ffi.cdef 'int fileno(void *);'
        return ffi.C.fileno(io.stdin), ffi.C.fileno(io.stdout), ffi.C.fileno(io.stderr)";
    assert_eq!(m.run(program), "0\t1\t2");
    let refused = m.run("local f = io.open('/dev/null') local p = ffi.cast('void *', f) return p");
    assert_eq!(refused, "error: t:1: cannot convert 'userdata' to 'void *'");
    assert!(m.run("return ffi.cast('void *', newproxy()) ~= nil").starts_with("true"));
}

/// Lua's and C's output to one descriptor keep their order. Runs itself as a child to see it.
#[test]
fn output_of_lua_and_of_c_keeps_its_order() {
    const CHILD: &str = "MOONLIT_FFI_TEST_OUTPUT";
    let program = "ffi.cdef 'int printf(const char *, ...); int puts(const char *);'
        io.write('one ') ffi.C.printf('two %d ', ffi.new('int', 2)) io.write('three ') ffi.C.puts('four') print('five')";
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(Machine::new().run(program), "");
        return;
    }
    let out = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "lua::output_of_lua_and_of_c_keeps_its_order", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("one two 2 three four\nfive\n"), "{text}");
}

#[test]
fn addressof_points_into_the_object() {
    let mut m = Machine::new();
    let program = "ffi.cdef 'struct pt { int x, y; };'
        local a = ffi.new('struct pt[2]', {{1, 2}, {3, 4}})
        local p = ffi.addressof(a[1])
        p.y = 9
        return a[1].y, p - a, ffi.typeof(p), ffi.addressof(ffi.new('int', 5))[0]";
    assert_eq!(m.run(program), "9\t1\tctype<struct pt *>\t5");
}

/// Random uses of the library and of operators: whatever comes out, no native panics.
#[test]
fn random_uses_end_in_values_or_errors() {
    const VALUES: &[&str] = &[
        "nil",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "2",
        "0.5",
        "0/0",
        "1/0",
        "-1/0",
        "2^31",
        "2^53",
        "2^63",
        "2^64",
        "-2^63",
        "1e300",
        "''",
        "'a'",
        "'abc'",
        "'E1'",
        "'x'",
        "{}",
        "{1}",
        "{1, 2, 3, 4, 5}",
        "{x = 1}",
        "{{1}, {2}}",
        "{[0] = 1}",
        "print",
        "1LL",
        "-1LL",
        "5ULL",
        "2LL ^ 63",
        "1i",
        "ffi.new('int')",
        "ffi.new('int8_t', 5)",
        "ffi.new('double', 1.5)",
        "ffi.new('bool', true)",
        "ffi.new('fz')",
        "ffi.new('fz', 1)",
        "ffi.new('fz[2]')",
        "ffi.new('fz[2]')[1]",
        "ffi.new('int[4]')",
        "ffi.new('char[4]', 'ab')",
        "ffi.new('union fu')",
        "ffi.new('enum fe', 1)",
        "ffi.new('complex', 1, 2)",
        "ffi.new('complex float')",
        "ffi.new('fv')",
        "ffi.new('int *')",
        "ffi.cast('void *', 8)",
        "ffi.cast('const char *', 8)",
        "ffi.cast('fz *', 16)",
        "ffi.C.abs",
        "ffi.cast('int (*)(int)', 0)",
        "ffi.typeof('int')",
        "ffi.typeof('fz')",
        "ffi.typeof('int[?]')",
        "ffi.typeof('fvls')",
        "ffi.new('int[?]', 2)",
        "ffi.new('fvls', 2)",
        "ffi.new('long double')",
        "ffi.new('struct fbits')",
        "newproxy()",
        "io.stdout",
        "coroutine.create(print)",
        "ffi.C",
        "ffi.new('int __attribute__((mode(TI)))')",
        "ffi.new('struct fempty')",
    ];
    const TYPES: &[&str] = &[
        "'int'",
        "'int8_t'",
        "'uint64_t'",
        "'float'",
        "'bool'",
        "'void'",
        "'fz'",
        "'fz[2]'",
        "'int[4]'",
        "'char[4]'",
        "'int[?]'",
        "'fvls'",
        "'fz *'",
        "'void *'",
        "'const char *'",
        "'int *'",
        "'union fu'",
        "'enum fe'",
        "'complex'",
        "'fv'",
        "'struct fbits'",
        "'int (*)(int)'",
        "'int(int)'",
        "'int &'",
        "'long double'",
        "'struct fempty'",
        "'struct fopaque'",
        "'int __attribute__((mode(TI)))'",
        "'nope'",
        "5",
    ];
    let mut m = Machine::new();
    let declared = m.run(
        "ffi.cdef [[ typedef struct { int x; double y[2]; struct { char c; }; const int k; } fz; union fu { int i; float f; };
           enum fe { E0, E1 = -5 }; typedef float fv __attribute__((vector_size(16))); typedef struct { int n; int d[?]; } fvls;
           struct fbits { int a : 3; unsigned long b : 20; bool c : 1; }; struct fempty {}; struct fopaque; int abs(int); ]]",
    );
    assert_eq!(declared, "");
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut next = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % n
    };
    let mut errors = 0;
    for _ in 0..12_000 {
        let (a, b, c) = (VALUES[next(VALUES.len())], VALUES[next(VALUES.len())], VALUES[next(VALUES.len())]);
        let ty = TYPES[next(TYPES.len())];
        let op = ["+", "-", "*", "/", "%", "^", "..", "==", "~=", "<", "<="][next(11)];
        // Keys are values that cannot lead out of an object.
        let key =
            ["'x'", "'y'", "'c'", "'k'", "'i'", "'a'", "'b'", "'re'", "'zz'", "nil", "true", "{}"][next(12)];
        let body = match next(17) {
            0 | 1 => format!("return ffi.new({ty}, {a}, {b})"),
            2 => format!("return ffi.new({ty}, {a}, {b}, {c})"),
            3 => format!("return ffi.cast({ty}, {a})"),
            4 | 5 => format!("local a, b = {a}, {b} return a {op} b"),
            6 => format!("local a = {a} return -a"),
            7 => format!("local a = {a} return #a"),
            8 => format!("local a = ffi.new({ty}) a[{key}] = {b} return a[{key}]"),
            9 => format!("return ffi.istype({ty}, {a}), ffi.sizeof({ty}, {b})"),
            10 => format!("return ffi.typeof({ty}, {a}), ffi.alignof({ty}), ffi.offsetof({ty}, {key})"),
            11 => format!("return tostring({a}), tonumber({b})"),
            12 => format!("return ('%d %s %x'):format({a}, {b}, {c})"),
            13 => format!("return bit.band({a}, {b}), bit.lshift({c}, 3)"),
            14 => format!("return ffi.C.abs({a})"),
            15 => format!("local t = {{}} t[{a}] = 1 return t[{b}], ffi.gc({c}, print), ffi.gc({c}, nil)"),
            _ => format!("return ffi.errno({a}), ffi.abi({b})"),
        };
        let result = m.run(&body);
        errors += usize::from(result.starts_with("error: "));
        assert!(
            !result.contains("panic in native") && !result.contains("internal error"),
            "{body}: {result}"
        );
    }
    assert!(errors > 1000 && errors < 11_500, "{errors}");
}

#[test]
fn sqlite_answers_through_pointers_out_parameters_and_row_callbacks() {
    let mut m = Machine::new();
    let program = r#"
ffi.cdef [[
typedef struct sqlite3 sqlite3; typedef struct sqlite3_stmt sqlite3_stmt;
int sqlite3_open(const char *, sqlite3 **); int sqlite3_close(sqlite3 *);
int sqlite3_exec(sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);
int sqlite3_prepare_v2(sqlite3 *, const char *, int, sqlite3_stmt **, const char **);
int sqlite3_bind_double(sqlite3_stmt *, int, double); int sqlite3_bind_int64(sqlite3_stmt *, int, int64_t);
int sqlite3_step(sqlite3_stmt *); int sqlite3_reset(sqlite3_stmt *); int sqlite3_finalize(sqlite3_stmt *);
double sqlite3_column_double(sqlite3_stmt *, int); int64_t sqlite3_column_int64(sqlite3_stmt *, int);
]]
local ok, lib = pcall(ffi.load, 'libsqlite3.so.0')
if not ok then return 'missing' end
local pdb, ps, err = ffi.new 'sqlite3 *[1]', ffi.new 'sqlite3_stmt *[1]', ffi.new 'char *[1]'
assert(lib.sqlite3_open(':memory:', pdb) == 0)
local db = ffi.gc(pdb[0], lib.sqlite3_close)
assert(lib.sqlite3_exec(db, 'create table t (id integer, w real)', nil, nil, err) == 0)
assert(lib.sqlite3_prepare_v2(db, 'insert into t values (?, ?)', -1, ps, nil) == 0)
for i = 1, 500 do
  lib.sqlite3_bind_int64(ps[0], 1, i)
  lib.sqlite3_bind_double(ps[0], 2, i / 2)
  assert(lib.sqlite3_step(ps[0]) == 101)
  lib.sqlite3_reset(ps[0])
end
lib.sqlite3_finalize(ps[0])
local rows = {}
assert(lib.sqlite3_exec(db, 'select id, w from t where id % 200 = 0 order by id desc', function(_, n, v, names)
  rows[#rows + 1] = ffi.string(v[0]) .. ':' .. ffi.string(v[1]) .. ':' .. ffi.string(names[n - 1])
  return 0
end, nil, err) == 0)
assert(lib.sqlite3_prepare_v2(db, 'select sum(id), avg(w) from t', -1, ps, nil) == 0)
lib.sqlite3_step(ps[0])
local sum, mean = lib.sqlite3_column_int64(ps[0], 0), lib.sqlite3_column_double(ps[0], 1)
lib.sqlite3_finalize(ps[0])
local bad = lib.sqlite3_exec(db, 'select * from nope', nil, nil, err)
return rows[1], rows[2], sum, mean, bad, ffi.string(err[0])"#;
    match m.run(program).as_str() {
        "missing" => eprintln!("skipped: sqlite3 is not installed"),
        got => assert_eq!(got, "400:200.0:w\t200:100.0:w\t125250LL\t125.25\t1\tno such table: nope"),
    }
}

#[test]
fn printf_writes_and_struct_arrays_are_walked() {
    let mut m = Machine::new();
    let program = "ffi.cdef [[ int snprintf(char *buf, size_t n, const char *fmt, ...); typedef struct { int id; double w; } item; ]]
        local items, sum = ffi.new('item[?]', 1000), 0
        for i = 0, 999 do items[i].id = i; items[i].w = i / 2 end
        for i = 0, 999 do local e = items[i]; sum = sum + e.id + e.w end
        local buf = ffi.new('char[64]')
        local n = ffi.C.snprintf(buf, 64, 'hello %s %d\\n', 'world', ffi.new('int', 42))
        return sum, ffi.string(buf, n)";
    assert_eq!(m.run(program), "749250\thello world 42\n");
}

#[test]
fn metatypes_give_operators_methods_and_constructors() {
    let mut m = Machine::new();
    let program = "ffi.cdef 'typedef struct { double x, y; } vec;'
        local vec
        vec = ffi.metatype('vec', {
          __new = function(ct, x, y) return ffi.new(ct, x, y or x) end,
          __add = function(a, b) return vec(a.x + b.x, a.y + b.y) end,
          __eq = function(a, b) return a.x == b.x and a.y == b.y end,
          __len = function() return 2 end,
          __call = function(self, k) return self.x * k end,
          __concat = function(a, b) return 'cat' end,
          __lt = function(a, b) return a.x < b.x end, __le = function(a, b) return a.x <= b.x end,
          __unm = function(a) return vec(-a.x, -a.y) end,
          __index = { norm = function(v) return v.x * v.x + v.y * v.y end, kind = 'vector' },
        })
        local v = vec(1, 2) + vec(3)
        local p = ffi.new('vec[1]', {{7, 8}})
        return v.x, v.y, v:norm(), v.kind, #v, v(10), v .. 'x', v == vec(4, 5), v < vec(9, 9), (-v).x, p[0]:norm()";
    assert_eq!(m.run(program), "4\t5\t41\tvector\t2\t40\tcat\ttrue\ttrue\t-4\t113");
}

#[test]
fn finalizers_run_once_when_an_object_dies() {
    let mut m = Machine::new();
    let program = "ffi.cdef 'struct res { int id; };'
        local log = {}
        local function make()
          ffi.gc(ffi.new('struct res', 7), function(o) log[#log + 1] = o.id end)
          ffi.gc(ffi.gc(ffi.new('struct res', 8), function() log[#log + 1] = 8 end), nil)
        end
        make()
        local function clean(a, b, c, d, e, f, g, h) end clean()
        for i = 1, 5 do collectgarbage() end
        return #log, log[1]";
    assert_eq!(m.run(program), "1\t7");
}

#[test]
fn callbacks_sort_and_errors_come_out_of_the_call() {
    let mut m = Machine::new();
    let program = "ffi.cdef 'void qsort(void *, size_t, size_t, int (*)(const void *, const void *));'
        local n = 500
        local a = ffi.new('int[?]', n)
        for i = 0, n - 1 do a[i] = (i * 7919) % n end
        local calls = 0
        local cb = ffi.cast('int (*)(const void *, const void *)', function(x, y)
          calls = calls + 1
          return ffi.cast('const int *', x)[0] - ffi.cast('const int *', y)[0] end)
        ffi.C.qsort(a, n, 4, cb)
        for i = 0, n - 1 do if a[i] ~= i then return 'unsorted' end end
        cb:set(function() error_here() end)
        local ok, e = pcall(ffi.C.qsort, a, n, 4, cb)
        cb:free()
        local ok2, e2 = pcall(function() cb:free() end)
        local ok3, e3 = pcall(ffi.C.qsort, a, n, 4, cb)
        return calls > n, ok, e, ok2, e2, ok3, e3";
    assert_eq!(
        m.run(program),
        "true\tfalse\tt:11: attempt to call global 'error_here' (a nil value)\tfalse\tt:14: bad callback\tfalse\tbad callback"
    );
}

#[test]
fn callbacks_have_a_limit_and_their_places_serve_again() {
    let mut m = Machine::new();
    let program = "local all, refused = {}, nil
        for i = 1, 1000 do
          local ok, cb = pcall(ffi.cast, 'int (*)(int)', function(x) return x + i end)
          if not ok then refused = cb break end
          all[i] = cb
        end
        local n = #all
        local first, last = all[1](1), all[n](1)
        all[5]:free()
        local again = ffi.cast('int (*)(int)', function(x) return -x end)
        local ok = pcall(ffi.cast, 'int (*)(int)', function() end)
        for i = 1, n do if i ~= 5 then all[i]:free() end end
        again:free()
        return n, refused, first, last - n, ok, ffi.cast('int (*)(int)', function(x) return x * 2 end)(21)";
    assert_eq!(m.run(program), "896\ttoo many callbacks\t2\t1\tfalse\t42");
}

#[test]
fn structs_by_value_go_in_and_out() {
    let mut m = Machine::new();
    let program = "ffi.cdef 'typedef struct { int quot, rem; } div_t; div_t div(int, int);'
        local r = ffi.C.div(17, 5)
        return r.quot, r.rem";
    assert_eq!(m.run(program), "3\t2");
}

#[test]
fn crypto_and_zlib_are_found_on_first_use() {
    let mut m = Machine::new();
    let found = m.run("ffi.cdef 'const char *zlibVersion(void);' return ffi.string(ffi.C.zlibVersion())");
    if found.contains("undefined symbol") {
        eprintln!("skipped: zlib is not installed");
    } else {
        assert!(found.starts_with("1."), "{found}");
    }
    let program = "ffi.cdef 'unsigned char *SHA1(const unsigned char *d, size_t n, unsigned char *md);'
        local out = ffi.new('unsigned char[20]')
        ffi.C.SHA1('abc', 3, out)
        return out[0], out[19]";
    let found = m.run(program);
    if found.contains("undefined symbol") {
        eprintln!("skipped: libcrypto is not installed");
    } else {
        assert_eq!(found, "169\t157");
    }
}

#[test]
fn initializers_cannot_write_beyond_an_object_of_chosen_length() {
    let mut m = Machine::new();
    assert_eq!(
        m.run("local a = ffi.new('int[?]', 2, {1, 2, 3}) return a"),
        "error: t:1: too many initializers for 'int [?]'"
    );
    assert_eq!(m.run("return ffi.string(ffi.new('char[?]', 3, 'abcdef'), 3)"), "abc");
}

#[test]
fn null_pointers_that_lua_can_see_are_refused() {
    let mut m = Machine::new();
    assert_eq!(
        m.run("local s = ffi.string(ffi.cast('char *', 0)) return s"),
        "error: t:1: bad argument #1 to 'string' (NULL pointer)"
    );
    let refused = "error: t:1: attempt to access memory through a NULL pointer";
    for program in [
        "local p = ffi.new('int *') return p[0]",
        "local p = ffi.new('int *') p[3] = 1",
        "ffi.cdef 'struct np { int a, b; struct np *next; };' local p = ffi.new('struct np *') return p.b",
        "local p = ffi.new('struct np *') p.next = p",
        "local p = ffi.new('struct np[1]') return p[0].next.next",
        "local r = ffi.new('int &') local x = ffi.new('int', r) return x",
    ] {
        assert_eq!(m.run(program), refused, "{program}");
    }
    assert_eq!(m.run("local p = ffi.new('struct np *') return tonumber(ffi.cast('intptr_t', p[1]))"), "16");
    let called = m.run("local f = ffi.cast('void (*)(void)', 0) f() return 1");
    assert!(called.contains("NULL function pointer"), "{called}");
}

/// What `cc` makes of a program; `None` (and a word about it) where there is no compiler or no such header.
pub fn compiled(name: &str, program: &str) -> Option<String> {
    let dir = std::env::temp_dir().join(format!("ffi-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).ok()?;
    let (source, binary) = (dir.join("t.c"), dir.join("t"));
    std::fs::write(&source, program).ok()?;
    let built = Command::new("cc").arg("-w").arg("-o").arg(&binary).arg(&source).output();
    let out = built.ok().filter(|o| o.status.success()).and_then(|_| Command::new(&binary).output().ok());
    let _ = std::fs::remove_dir_all(&dir);
    out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
}

/// Headers with types of theirs whose size and alignment must be C's.
const HEADERS: &[(&str, &[&str])] = &[
    ("zlib.h", &["z_stream", "gz_header", "uLong"]),
    ("curl/curl.h", &["struct curl_httppost", "curl_version_info_data", "CURLMsg", "struct curl_sockaddr"]),
    ("sqlite3.h", &["sqlite3_module", "sqlite3_index_info", "sqlite3_vfs", "sqlite3_mem_methods"]),
    ("uv.h", &["uv_tcp_t", "uv_loop_t", "uv_stat_t", "uv_buf_t", "uv_process_options_t"]),
    ("sys/stat.h", &["struct stat"]),
    ("signal.h", &["siginfo_t", "struct sigaction"]),
    ("netinet/in.h", &["struct sockaddr_in6", "struct sockaddr_storage"]),
    ("dirent.h", &["struct dirent"]),
    ("pthread.h", &["pthread_mutex_t", "pthread_attr_t"]),
];

#[test]
fn declarations_of_installed_headers_are_read_with_cs_sizes() {
    let mut checked = 0;
    for (header, types) in HEADERS {
        let mut program = format!("#include <{header}>\n#include <stdio.h>\nint main() {{\n");
        for t in *types {
            writeln!(program, "printf(\"%d %d\\n\", (int)sizeof({t}), (int)_Alignof({t}));").expect("string");
        }
        program.push_str("return 0; }\n");
        let Some(want) = compiled(&header.replace(['/', '.'], "-"), &program) else {
            eprintln!("skipped: {header} cannot be compiled here");
            continue;
        };
        let cpp = Command::new("cc")
            .args(["-E", "-P", "-DCURL_DISABLE_DEPRECATION", "-include", header, "-x", "c", "/dev/null"])
            .output();
        let Some(source) = cpp.ok().filter(|o| o.status.success()) else { continue };
        let mut m = Machine::new();
        let text = String::from_utf8_lossy(&source.stdout).into_owned();
        let declared = m.run(&format!("ffi.cdef({})", lua_quote(&text)));
        assert_eq!(declared, "", "{header}");
        let ours: String = types
            .iter()
            .map(|t| m.run(&format!("return ffi.sizeof('{t}') .. ' ' .. ffi.alignof('{t}') .. '\\n'")))
            .collect();
        assert_eq!(ours, want, "{header}");
        checked += 1;
    }
    if checked == 0 {
        eprintln!("skipped: no header could be checked");
    }
}

/// Output of the `openssl` command for some input; `None` where there is none.
fn openssl(args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    use std::io::Write as _;
    let spawned = Command::new("openssl")
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut child = spawned.ok()?;
    child.stdin.take()?.write_all(input).ok()?;
    let out = child.wait_with_output().ok()?;
    out.status.success().then_some(out.stdout)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_string_library_of_openresty_works_against_the_installed_libcrypto() {
    // Debian's package calls its modules `nginx.x`.
    let named = std::env::var("MOONLIT_LUALIB").ok();
    let mut places =
        named.into_iter().map(|r| (r, "resty")).chain([("/usr/share/lua/5.1".to_owned(), "nginx")]);
    let found =
        places.find(|(root, family)| std::path::Path::new(&format!("{root}/{family}/sha256.lua")).exists());
    let Some((root, family)) = found.filter(|_| openssl(&["version"], b"").is_some()) else {
        eprintln!(
            "skipped: lua-resty-string (or Debian's lua-nginx-string) or the openssl command is not installed"
        );
        return;
    };
    let mut m = Machine::new();
    m.run(&format!("package.path = '{root}/?.lua;' .. package.path"));
    let text = "the quick brown fox".repeat(50);
    for name in ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"] {
        let program = format!(
            "local h = require('{family}.{name}'):new() local s = ('the quick brown fox'):rep(50)
            h:update(s:sub(1, 100)) h:update(s:sub(101))
            return (h:final():gsub('.', function(c) return ('%02x'):format(c:byte()) end))"
        );
        let want = openssl(&["dgst", &format!("-{name}"), "-binary"], text.as_bytes());
        if let Some(want) = want {
            assert_eq!(m.run(&program), hex(&want), "{name}");
        }
    }
    let key = "30313233343536373839616263646566";
    let iv = "66656463626139383736353433323130";
    let program = format!(
        "local aes = require '{family}.aes'
        local a = aes:new('0123456789abcdef', nil, aes.cipher(128, 'cbc'), {{ iv = 'fedcba9876543210' }})
        local s = ('the quick brown fox'):rep(50)
        local c = a:encrypt(s)
        assert(a:decrypt(c) == s)
        return (c:gsub('.', function(c) return ('%02x'):format(c:byte()) end))"
    );
    if let Some(want) = openssl(&["enc", "-aes-128-cbc", "-K", key, "-iv", iv], text.as_bytes()) {
        assert_eq!(m.run(&program), hex(&want));
    }
    for bits in [128, 192, 256] {
        for mode in ["ecb", "cbc", "cfb128", "ofb", "ctr"] {
            // The library declares no `EVP_aes_256_ctr`.
            if (bits, mode) == (256, "ctr") {
                continue;
            }
            let (key, iv) = ("k".repeat(bits / 8), "i".repeat(16));
            let program = format!(
                "local aes = require '{family}.aes' local s = ('the quick brown fox'):rep(50)
                local kind = aes.cipher({bits}, '{mode}')
                if not kind then return 'none' end
                local a = aes:new('{key}', nil, kind, {{ iv = '{iv}' }})
                local c = a:encrypt(s)
                assert(a:decrypt(c) == s)
                return (c:gsub('.', function(c) return ('%02x'):format(c:byte()) end))"
            );
            let cipher = format!("-aes-{bits}-{}", mode.trim_end_matches("128"));
            let (key, iv) = (hex(key.as_bytes()), hex(iv.as_bytes()));
            let mut args = vec!["enc", &cipher, "-K", &key];
            if mode != "ecb" {
                args.extend(["-iv", &iv]);
            }
            if let Some(want) = openssl(&args, text.as_bytes()) {
                assert_eq!(m.run(&program), hex(&want), "{cipher}");
            }
        }
    }
    let program =
        format!("local r = require '{family}.random' return #r.bytes(32), r.bytes(32) ~= r.bytes(32)");
    assert_eq!(m.run(&program), "32\ttrue");
}
