--- +ffi
-- C calls stay compiled where callbacks exist. A callback finds the frames as the interpreter leaves them, whatever is in
-- registers, and what it changes is seen.
local ffi = require "ffi"
ffi.cdef [[
int abs(int); void qsort(void *, size_t, size_t, int (*)(const int *, const int *));
void *bsearch(const void *, const void *, size_t, size_t, int (*)(const int *, const int *));
]]
local C = ffi.C
local compare = ffi.cast("int (*)(const int *, const int *)", function(x, y) return x[0] - y[0] end)
-- Locals that the callback shares with the loop: read and written while the loop has them in registers.
local function shared(n)
  local seen, last, total, t = 0, 0, 0, { n = 0 }
  local a = ffi.new("int[6]")
  local order = ffi.cast("int (*)(const int *, const int *)", function(x, y)
    seen = seen + 1
    t.n = t.n + last % 3
    t[seen % 8 + 1] = { last }
    return y[0] - x[0]
  end)
  for i = 1, n do
    last = i
    total = total + C.abs(-i)
    for k = 0, 5 do a[k] = (k * i) % 7 end
    local before = seen
    C.qsort(a, 6, 4, order)
    if seen == before then error("no callback") end
    for k = 1, 5 do if a[k - 1] < a[k] then error("not sorted") end end
    total = total + a[0] + (t[seen % 8 + 1][1] - i)
  end
  order:free()
  return total, seen > n, t.n > 0
end
print(shared(200))
-- Inside functions that the loop calls, with the result of a C call that called back.
local key, field = ffi.new("int[1]"), ffi.new("int[16]")
for i = 0, 15 do field[i] = i * 2 end
local function find(x)
  key[0] = x
  local p = C.bsearch(key, field, 16, 4, compare)
  if p == nil then return nil end
  return ffi.cast("int *", p) - field
end
local found, missing = 0, 0
for i = 1, 300 do
  local at = find(i % 32)
  if at then found = found + at else missing = missing + 1 end
end
print(found, missing)
-- Calls that do not call back, in a loop that keeps objects in registers.
local s, keep, pair = 0, nil, ffi.typeof "struct { int a, b; }"
for i = 1, 300 do
  local v = ffi.new("int64_t", i)
  local p = pair(i, -i)
  s = s + C.abs(p.b) + tonumber(v * 2)
  if i == 250 then keep = { v, p } end
end
print(s, keep[1], keep[2].a, keep[2].b)
-- A callback that collects, makes coroutines, and is left by an error now and then.
local co, calls = nil, 0
local wild = ffi.cast("int (*)(const int *, const int *)", function(x, y)
  calls = calls + 1
  if calls % 40 == 0 then collectgarbage() end
  local w = coroutine.wrap(function(v) v = coroutine.yield(v + 1) return v * 2 end)
  if w(1) ~= 2 or w(4) ~= 8 then error("wrong") end
  if calls % 97 == 0 then error("now and then", 0) end
  return x[0] - y[0]
end)
local errors, text = 0, nil
local function one(i)
  local b = ffi.new("int[4]", i % 5, 3, i % 3, 1)
  C.qsort(b, 4, 4, wild)
  return b[0] <= b[1] and b[1] <= b[2] and b[2] <= b[3]
end
local sorted = 0
for i = 1, 200 do
  local ok, r = pcall(one, i)
  if not ok then errors = errors + 1 text = r elseif r then sorted = sorted + 1 end
end
print(errors + sorted, errors > 5, text)
-- A callback that itself loops over C calls, and one that throws the compiled code away.
local flush = jit and jit.flush or function() end
local inner = ffi.cast("int (*)(const int *, const int *)", function(x, y)
  local n = 0
  for i = 1, 70 do n = n + C.abs(-i) end
  if n ~= 2485 then error("wrong") end
  if x[0] == 3 then flush() end
  return x[0] - y[0]
end)
local m = 0
for i = 1, 120 do
  local b = ffi.new("int[3]", 9, i % 7, 5)
  C.qsort(b, 3, 4, inner)
  m = m + b[0] + b[2] * 100
end
print(m)
-- Yielding across a C call is refused, also from a compiled loop.
local yielding = ffi.cast("int (*)(const int *, const int *)", function(x, y) coroutine.yield() return 0 end)
print(coroutine.resume(coroutine.create(function()
  local b = ffi.new("int[2]")
  for i = 1, 100 do if i < 90 then C.abs(i) else C.qsort(b, 2, 4, yielding) end end
end)))
for _, cb in ipairs { compare, wild, inner, yielding } do cb:free() end
