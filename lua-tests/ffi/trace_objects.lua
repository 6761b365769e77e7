--- +ffi
-- Objects made in loops: some live only in registers, some are seen at exits, kept in tables or carried around.
local ffi = require "ffi"
ffi.cdef [[
typedef struct { double x, y; } vec;
typedef struct { int32_t a; uint8_t b; float c; int64_t d; vec *p; } mixed;
]]
local calls = 0
local vec
vec = ffi.metatype("vec", {
  __add = function(a, b) return vec(a.x + b.x, a.y + b.y) end,
  __sub = function(a, b) return vec(a.x - b.x, a.y - b.y) end,
  __mul = function(a, k) return vec(a.x * k, a.y * k) end,
  __unm = function(a) return vec(-a.x, -a.y) end,
  __index = {
    dot = function(a, b) return a.x * b.x + a.y * b.y end,
    swap = function(a) calls = calls + 1 return vec(a.y, a.x) end,
    zero = 0,
  },
})
local acc, d = vec(0, 0), vec(0.25, -0.5)
for i = 1, 500 do
  acc = acc + d * 2
  if acc.x > 100 then acc = -acc:swap() end
end
print(acc.x, acc.y, calls)
local kept = {}
for i = 1, 200 do
  local v = vec(i, -i)
  kept[i % 10] = v
  if i % 50 == 0 then v.x = v.x * 1000 end
end
print(kept[0].x, kept[1].x, kept[9].y)
-- Left in the middle of a function that a metamethod is.
local function far(v) if v.x > 150 then error("too far at " .. v.x) end return v end
local ok, message = pcall(function()
  local v = vec(0, 0)
  for i = 1, 1000 do v = far(v + vec(1, 1)) end
end)
print(ok, (message:gsub("^.-:%d+: ", "")))
-- A struct with fields of all sizes, its values changed after it was made.
local sum = 0
for i = 1, 200 do
  local m = ffi.new("mixed", i, i * 7, i / 4, i * 1e9)
  m.a = m.a + 1
  if i % 40 == 0 then sum = sum + tonumber(m.d) / 1e9 end
  sum = sum + m.a + m.b + m.c
  if i == 200 then print(m.a, m.b, m.c, m.d, m.p == nil) end
end
print(sum)
-- Objects that differ in type from round to round.
local o, names = vec(1, 2), 0
for i = 1, 100 do
  if i % 2 == 0 then o = vec(i, i) else o = ffi.new("mixed", i) end
  if ffi.istype("vec", o) then names = names + o.x else names = names - o.a end
end
print(names)
-- [?] arrays and arrays with initialisers.
local total = 0
for i = 1, 100 do
  local a = ffi.new("int[?]", i)
  a[i - 1] = i
  local b = ffi.new("double[3]", i, i * 2)
  local c = ffi.new("int[4]", i)
  total = total + a[i - 1] + a[0] + b[0] + b[1] + b[2] + c[3]
end
print(total)
print(pcall(function() for i = 100, -1, -1 do local a = ffi.new("int[?]", i) end end))
-- Pointers: arithmetic, comparison, difference, NULL, walking a list.
ffi.cdef "typedef struct node { struct node *next; int v; } node;"
local pool = ffi.new("node[100]")
for i = 0, 98 do pool[i].next = pool + i + 1 pool[i].v = i end
pool[99].v = 99
local p, walked, steps = pool + 0, 0, 0
while p ~= nil do
  walked = walked + p.v
  steps = steps + (p - pool)
  p = p.next
end
print(walked, steps)
local first, last = pool + 0, pool + 99
local n = 0
local at = first
while at <= last do n = n + 1 at = at + 1 end
print(n, at - first, at > last, first < last, first == pool + 0)
-- References stay references.
local inner = ffi.new("struct { vec v[8]; }")
for r = 1, 50 do
  for i = 0, 7 do local v = inner.v[i] v.x = v.x + i v.y = v.y - r end
end
print(inner.v[7].x, inner.v[3].y)
-- A function as __index, and one found in a table of tables.
ffi.cdef "typedef struct { double v; } cell; typedef struct { double v; } other;"
local asked = 0
local cell = ffi.metatype("cell", { __index = function(c, k) asked = asked + 1 return k == "twice" and c.v * 2 or nil end })
local base = { name = "base" }
local other = ffi.metatype("other", { __index = setmetatable({}, { __index = base }) })
local c, o2, got = cell(3), other(1), 0
for i = 1, 100 do
  c.v = i
  got = got + c.twice + #o2.name
end
print(got, asked, c.nothing)
