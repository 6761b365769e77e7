//! Every single allocation of programs with C data fails once: objects, types, parsed declarations, callbacks.

use moonlit_vm::gc::check::check;

use super::lua::Machine;

/// What they declare is declared by each machine before: a declaration cannot be made twice.
const DECLARATIONS: &str = "local ffi = ... ffi.cdef[[
  typedef struct { int x, y; } scarce_point;
  typedef struct scarce_list { struct scarce_list *next; double value; char name[12]; } scarce_list;
  typedef union { uint64_t whole; uint32_t half[2]; } scarce_parts;
  int abs(int); size_t strlen(const char *); void qsort(void *, size_t, size_t, int (*)(const void *, const void *));
]]";

const PROGRAMS: &[&str] = &[
    "local ffi = ... local t = {} for i = 1, 30 do t[i] = ffi.new('scarce_point', i, -i) end
     local s = 0 for i = 1, 30 do s = s + t[i].x * t[i].y end return s",
    "local ffi = ... local a = ffi.new('int32_t[?]', 50) for i = 0, 49 do a[i] = i * i end
     local s = 0 for i = 0, 49 do s = s + a[i] end return s, ffi.sizeof(a)",
    "local ffi = ... local head for i = 1, 20 do local n = ffi.new('scarce_list', {nil, i, 'n' .. i}) n.next = head head = n
       _G['keep' .. i] = n end
     local s = '' while head ~= nil do s = s .. ffi.string(head.name) head = head.next end return s",
    "local ffi = ... local n = 1ULL for i = 1, 40 do n = n * 3 + bit.bxor(n, 5LL) end return tostring(n), tonumber(n % 1000)",
    "local ffi = ... local u = ffi.new('scarce_parts') u.whole = 0x100000002ULL return u.half[0], u.half[1]",
    "local ffi = ... local closed = 0 for i = 1, 20 do ffi.gc(ffi.new('char[8]'), function() closed = closed + 1 end) end
     collectgarbage() return closed >= 0",
    "local ffi = ... local p = ffi.cast('const char *', 'text') return ffi.string(p), ffi.string(p, 2), ffi.C.strlen(p), ffi.C.abs(-4)",
    "local ffi = ... local a = ffi.new('int[5]', {5, 3, 1, 4, 2})
     local by = ffi.cast('int (*)(const void *, const void *)', function(x, y)
       return ffi.cast('const int *', x)[0] - ffi.cast('const int *', y)[0] end)
     ffi.C.qsort(a, 5, 4, by) by:free() return a[0], a[1], a[4]",
    "local ffi = ... local T = ffi.typeof('struct { int n; $ p; }', ffi.typeof('scarce_point')) local v = T(1, {2, 3})
     return v.n, v.p.x, v.p.y, tostring(ffi.typeof(v.p))",
    "local ffi = ... local P = scarce_meta or ffi.metatype('struct { double a, b; }', {__add = function(l, r)
       return scarce_meta(l.a + r.a, l.b + r.b) end, __tostring = function(v) return v.a .. '/' .. v.b end})
     scarce_meta = P local v = P(1, 2) for i = 1, 10 do v = v + P(i, 1) end return tostring(v)",
    "local ffi = ... local s = 0 for i = 1, 30 do s = s + #ffi.string(ffi.new('char[10]', ('x'):rep(i % 9)), 5) end return s",
    "local ffi = ... local m = {} for i = 1, 20 do m[tostring(ffi.typeof('int[' .. i .. ']'))] = ffi.sizeof('int[' .. i .. ']') end
     local s = 0 for _, n in pairs(m) do s = s + n end return s",
];

fn machine() -> Machine {
    let mut m = Machine::new();
    assert_eq!(m.run(DECLARATIONS), "");
    m
}

#[test]
fn every_allocation_of_c_data_may_fail() {
    for code in PROGRAMS {
        let want = machine().run(code);
        assert!(!want.starts_with("error: "), "{code}: {want}");
        let mut m = machine();
        assert_eq!(m.run(code), want);
        let mut n = 0;
        loop {
            n += 1;
            assert!(n < 100_000, "{code} never gets through");
            if n % 16 == 0 {
                m.vm.collect_garbage();
            }
            m.vm.heap.fail_allocation(n);
            let mut got = m.run(code);
            let through = m.vm.heap.allocations_left() > 0;
            let failed = got.starts_with("error: ");
            assert!(failed || got == want, "{code} with allocation {n}: {got}");
            if !failed && !through && m.vm.safepoint().is_err() {
                // It failed behind the last place where the program could have been told.
                let e = m.vm.take_error();
                got = format!("error: {}", String::from_utf8_lossy(&m.vm.raw_text(e)));
            }
            m.vm.heap.fail_allocation(0);
            if through {
                assert_eq!(got, want, "{code} beyond allocation {n}");
                break;
            }
            assert!(got.ends_with("not enough memory"), "{code} with allocation {n} failing: {got}");
            if n % 4 == 0 {
                check(&mut m.vm).unwrap_or_else(|e| panic!("{code} with allocation {n} failing: {e}"));
            }
        }
        assert_eq!(m.run(code), want, "{code} afterwards");
    }
}
