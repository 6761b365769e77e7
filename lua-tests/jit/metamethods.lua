-- Metamethods that are Lua functions, called by instructions of compiled loops, and exits inside of them.
local calls = {}
local function count(k) calls[k] = (calls[k] or 0) + 1 end
local mt = {}
local function new(v) return setmetatable({ v = v }, mt) end
local function val(x) return type(x) == "table" and x.v or x end
mt.__index = function(t, k) count "index" return k == "double" and rawget(t, "v") * 2 or nil end
mt.__newindex = function(t, k, v) count "newindex" rawset(t, "set_" .. k, v) end
mt.__add = function(a, b) return new(val(a) + val(b)) end
mt.__sub = function(a, b) return new(val(a) - val(b)) end
mt.__mul = function(a, b) return new(val(a) * val(b)) end
mt.__div = function(a, b) return new(val(a) / val(b)) end
mt.__mod = function(a, b) return new(val(a) % val(b)) end
mt.__unm = function(a) return new(-a.v) end
mt.__eq = function(a, b) count "eq" return a.v == b.v end
mt.__lt = function(a, b) count "lt" return a.v < b.v end
mt.__le = function(a, b) count "le" return a.v <= b.v end
mt.__call = function(self, x, y) count "call" return self.v + x * (y or 1) end
local a, b = new(1), new(3)
for i = 1, 200 do
  a = (a + b) * 2 - i
  if a.v > 1000 then a = -a % 97 end
  a = 1 + a / 2
end
print(("%.10g"):format(a.v))
local sum = 0
for i = 1, 200 do
  local t = new(i)
  sum = sum + t.double + (t.nothing or 1)
  t.field = i
  sum = sum + t.set_field
end
print(sum, calls.index, calls.newindex)
local less, same, le, ge = 0, 0, 0, 0
local ten = new(10)
for i = 1, 100 do
  local t = new(i % 20)
  if t < ten then less = less + 1 end
  if t == ten then same = same + 1 end
  if t <= ten then le = le + 1 end
  if not (t > ten) then ge = ge + 1 end
  if t ~= ten then same = same + 0.5 end
end
print(less, same, le, ge, calls.lt, calls.eq, calls.le)
local s = 0
for i = 1, 100 do s = s + a(i) - b(i, 2) end
print(("%.10g"):format(s), calls.call)
-- A handler that sometimes goes another way, errs, or returns nothing.
local odd = setmetatable({}, { __add = function(x, n)
  if n % 7 == 0 then return n * 100 end
  if n > 90 then error("too large: " .. n, 0) end
  if n % 5 == 0 then return end
  return n
end })
local t, nils = 0, 0
print(pcall(function()
  for i = 1, 100 do
    local r = odd + i
    if r then t = t + r else nils = nils + 1 end
  end
end))
print(t, nils)
-- Varargs and tail calls in a handler; handlers within handlers.
local va = setmetatable({}, { __add = function(...) local x, n = ... return select("#", ...) + n end,
  __sub = function(x, n) return (function(m) return m * 2 end)(n) end })
local deep = setmetatable({}, { __mul = function(x, n) return (va + n) + (va - n) end })
local d = 0
for i = 1, 150 do d = d + (va + i) end
for i = 1, 150 do d = d + (deep * i) end
print(d)
-- Different metatables in turn; none at all.
local p, q = setmetatable({}, { __index = function() return 1 end }), setmetatable({}, { __index = { x = 2 } })
local plain = { x = 3 }
local n = 0
for i = 1, 300 do
  local o = i % 3 == 0 and p or i % 3 == 1 and q or plain
  n = n + o.x
end
print(n)
-- Globals through a handler.
local env = setmetatable({ print = print }, { __index = function(_, k) return #k end })
local f = setfenv(function() local g = 0 for i = 1, 100 do g = g + abc + de end return g end, env)
print(f())
-- The metatable changes in the middle.
local ch = setmetatable({}, { __add = function(x, i) return i end })
local c = 0
for i = 1, 200 do
  if i == 120 then getmetatable(ch).__add = function(x, i) return -i end end
  c = c + (ch + i)
end
print(c)
