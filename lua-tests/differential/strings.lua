-- String and table functions with random arguments.
local R = require "rng"
local letters = { "a", "B", "c", "\0", "é", " ", "1", "Z", "\n" }
local ints = { 0, 1, 2, 3, -1, -2, -3, 5, 100, -100, 2 ^ 31, -2 ^ 31, 2 ^ 31 - 1, 2 ^ 53, 1e300, -1e300, 0 / 0, 1 / 0, -1 / 0 }
local function int() return R.pick(ints) end
local function any()
  return R.pick { 1, "x", "10", true, false, {}, print, 1.5 }
end
for i = 1, 3000 do
  local s = R.string(letters, 8)
  local label = R.show(s)
  local a, b = int(), int()
  label = label .. " " .. R.show(a) .. " " .. R.show(b)
  R.call("sub " .. label, string.sub, s, a, b)
  R.call("byte " .. label, string.byte, s, a, b)
  R.call("rep " .. label, function() if a < 200 and #s * a < 1e6 or a ~= a then return #string.rep(s, a, R.pick { nil, "," }) end end)
  R.call("case " .. label, function() return s:upper() .. s:lower() .. s:reverse() .. #s end)
  R.call("char " .. label, string.char, a)
  R.call("find " .. label, string.find, s, R.string(letters, 2), a, true)
  R.call("cmp " .. label, function() local t = R.string(letters, 8) return s < t, s <= t, s == t end)
  local f = R.pick { "sub", "byte", "rep", "find", "format", "gsub", "upper", "len", "char", "match", "gmatch", "reverse" }
  local x, y, z = any(), any(), any()
  R.call("args " .. f .. " " .. R.show(x) .. R.show(y) .. R.show(z), string[f], x, y, z)
  R.call("method " .. f, function() return s[f](s, x) end)
end
for i = 1, 3000 do
  local t = {}
  for j = 1, R.below(8) do t[j] = R.pick { 1, 2, 3, "a", "b", 1.5, 10 } end
  local a, b, c = int(), int(), int()
  local small = math.abs(a) < 1000 and math.abs(b) < 1000 and math.abs(c) < 1000
  local label = R.show(t) .. " " .. R.show(a) .. " " .. R.show(b) .. " " .. R.show(c)
  R.call("concat " .. label, function() if small or true then return table.concat(t, ",", small and a or 1, small and b or #t) end end)
  R.call("unpack " .. label, function() if small then return unpack(t, a, b) end end)
  R.call("remove " .. label, function() local r = table.remove(t, a) return r, t end)
  if small then
    R.call("insert " .. label, function() table.insert(t, a, "new") return t end)
    R.call("move " .. label, function() return table.move(t, a, b, c) end)
  end
  R.call("insert1 " .. label, function() table.insert(t, "end") return #t, t[#t] end)
  R.call("sort " .. label, function() table.sort(t) return t end)
  R.call("sortf " .. label, function() table.sort(t, function(x, y) return tostring(x) < tostring(y) end) return t end)
  R.call("select " .. label, select, R.pick { a, "#", b }, 1, 2, 3)
  R.call("next " .. label, next, t, R.pick { nil, 1, 100, "zz" })
  local f = R.pick { "insert", "remove", "concat", "sort", "maxn", "getn", "foreach", "foreachi", "move" }
  local x, y, z = any(), any(), any()
  R.call("args " .. f .. R.show(x) .. R.show(y), table[f], x, y, z)
  local g = R.pick { "tonumber", "tostring", "type", "select", "rawget", "rawset", "rawequal", "setmetatable", "getmetatable", "ipairs", "pairs",
    "next", "unpack", "assert", "error", "pcall", "xpcall", "loadstring", "newproxy", "gcinfo2", "collectgarbage2" }
  if _G[g] then R.call("base " .. g .. R.show(x) .. R.show(y), _G[g], x, y) R.call("base0 " .. g, _G[g]) end
  local m = R.pick { "abs", "floor", "max", "min", "fmod", "random2", "log", "exp", "pow", "sqrt", "ldexp", "deg" }
  if math[m] then R.call("math " .. m .. R.show(x) .. R.show(y), math[m], x, y) R.call("math0 " .. m, math[m]) end
end
