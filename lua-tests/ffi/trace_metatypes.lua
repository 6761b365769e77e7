--- +ffi
-- Every metamethod of a metatype, in loops that become traces.
local ffi = require "ffi"
ffi.cdef "typedef struct { double x, y; } pair; typedef struct { int n; double v[?]; } many;"
local made, pair = 0, nil
pair = ffi.metatype("pair", {
  __new = function(ct, x, y) made = made + 1 return ffi.new(ct, x or 0, y or x or 0) end,
  __eq = function(a, b) return a.x == b.x and a.y == b.y end,
  __lt = function(a, b) return a.x < b.x end,
  __le = function(a, b) return a.x <= b.x end,
  __len = function(a) return a.x + a.y end,
  __call = function(a, k, l) return a.x * k + (l or 0) end,
  __unm = function(a) return pair(-a.x, -a.y) end,
  __add = function(a, b) return pair(a.x + b.x, a.y + b.y) end,
  __div = function(a, k) return pair(a.x / k, a.y / k) end,
  __mod = function(a, k) return pair(a.x % k, a.y % k) end,
  __pow = function(a, k) return a.x ^ k end,
  __index = function(a, k) return k == 1 and a.x or k == 2 and a.y or k end,
})
local acc = pair(1)
for i = 1, 200 do
  acc = -(acc + pair(i, 1)) / 2
  if #acc < -100 then acc = acc % 50 end
end
print(acc.x, acc.y, made)
local eq, lt, le, gt, ne = 0, 0, 0, 0, 0
local five = pair(5)
for i = 1, 100 do
  local p = pair(i % 10)
  if p == five then eq = eq + 1 end
  if p ~= five then ne = ne + 1 end
  if p < five then lt = lt + 1 end
  if p <= five then le = le + 1 end
  if p > five then gt = gt + 1 end
end
print(eq, ne, lt, le, gt)
local s = 0
for i = 1, 100 do s = s + five(i) + five(1, i) + #five + five[1] + five[2] + #five.name + five ^ 2 end
print(s)
-- A pointer to it has the same ones.
local both = ffi.new("pair[2]", { { 1, 2 }, { 3, 4 } })
local p = both + 0
local t = 0
for i = 1, 100 do t = t + (p[0] + p[1]).x + #p[1] + p[0](i) end
print(t)
