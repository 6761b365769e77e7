-- Number literals and conversions.
local R = require "rng"
local pieces = { "0", "1", "9", "5", "123", "0x", "0X", "0b", "a", "f", "F", ".", ".", "e", "E", "e+", "e-", "p", "p-", "P+", "_",
  "10", "00", "LL", "ULL", "i", " ", "-", "+", "inf", "nan", "x", "308", "324", "1023" }
for i = 1, 6000 do
  local s = R.string(pieces, 6)
  R.call("tonumber " .. s, tonumber, s)
  local base = R.pick { 2, 8, 10, 16, 36, 1, 37, 0, -5 }
  R.call("tonumber " .. s .. " " .. base, tonumber, s, base)
  if not s:find("[Li_]") then
    local f, m = loadstring("return " .. s)
    if f then R.call("load " .. s, f) else print("load", s, m) end
  end
  R.call("arith " .. s, function() return s + 0 end)
  R.call("for " .. s, function() for i = s, 3 do return i end return "none" end)
end
for i = 1, 2000 do
  local a, b = R.number(), R.number()
  print(R.show(a), R.show(b), R.show(a + b), R.show(a * b), R.show(a % b), R.show(a / b), R.show(a ^ b), a < b, a <= b, a == b)
  print(R.show(math.fmod(a, b)), R.show(math.floor(a)), R.show(math.ceil(a)), R.show(math.max(a, b)), R.show(math.min(a, b)), R.show((math.modf(a))))
  print(R.show(bit.tobit(a)), R.show(bit.band(a, b)), bit.tohex(a), R.show(bit.lshift(a, b)), R.show(bit.arshift(a, b)), R.show(bit.rol(a, b)))
  local m, e = math.frexp(a)
  print(R.show(m), R.show(e), R.show(math.ldexp(a, R.below(2200) - 1100)))
end
