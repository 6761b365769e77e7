--- +ffi
-- C calls Lua: qsort, errors inside, reuse and release.
local ffi = require "ffi"
ffi.cdef "void qsort(void *base, size_t n, size_t size, int (*compare)(const int *, const int *));"
local n = 300
local a = ffi.new("int[?]", n)
for i = 0, n - 1 do a[i] = (i * 7919) % n end
ffi.C.qsort(a, n, 4, function(x, y) return x[0] - y[0] end)
local sorted = true
for i = 0, n - 1 do sorted = sorted and a[i] == i end
print(sorted)
local cb = ffi.cast("int (*)(const int *, const int *)", function(x, y) return y[0] - x[0] end)
ffi.C.qsort(a, n, 4, cb)
print(a[0], a[n - 1])
cb:set(function() error("stop", 0) end)
print(pcall(ffi.C.qsort, a, n, 4, cb))
cb:free()
print(pcall(cb.free, cb))
local add = ffi.cast("double (*)(double, int, float)", function(x, i, f) return x + i + f end)
local s = 0
for i = 1, 200 do s = s + add(0.5, i, 0.25) end
print(s)
