--- +ffi
-- Operators, methods, constructors and finalizers of metatypes.
local ffi = require "ffi"
ffi.cdef "typedef struct vec2 { double x, y; } vec2;"
local vec
local mt = {
  __new = function(ct, x, y) return ffi.new(ct, x or 0, y or 0) end,
  __add = function(a, b) return vec(a.x + b.x, a.y + b.y) end,
  __mul = function(a, k) if type(a) == "number" then a, k = k, a end return vec(a.x * k, a.y * k) end,
  __eq = function(a, b) return ffi.istype("vec2", b) and a.x == b.x and a.y == b.y end,
  __lt = function(a, b) return a.x < b.x end,
  __len = function() return 2 end,
  __tostring = function(a) return "(" .. a.x .. ", " .. a.y .. ")" end,
  __call = function(a, k) return a[k] end,
  __index = { dot = function(a, b) return a.x * b.x + a.y * b.y end, zero = 0 },
}
vec = ffi.metatype("vec2", mt)
local a = vec(1, 2)
for i = 1, 200 do a = a + vec(i, 1) * 0.5 end
print(a, tostring(2 * vec(3, 4)), #a, a:dot(vec(1, 0)), a.zero)
print(vec(1, 1) == vec(1, 1), vec(1, 1) == vec(1, 2), vec(1) < vec(2), vec() == nil, vec(5, 6)("y"))
local function message(f) local _, e = pcall(f) return (e:gsub("^.-:%d+: ", "")) end
print(message(function() return a.nothing end))
print(message(function() return a - a end))
local freed = 0
for i = 1, 20 do ffi.gc(vec(i), function(v) freed = freed + v.x end) end
for i = 1, 3 do collectgarbage() end
print(freed > 0)
