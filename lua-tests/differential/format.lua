-- string.format with random directives and values; %q, tostring.
local R = require "rng"
local flags = { "", "", "", "-", "+", " ", "#", "0", "-0", "+ ", "#0", "-+" }
local widths = { "", "", "1", "5", "10", "20", "99" }
local precisions = { "", "", ".", ".0", ".1", ".3", ".10", ".14", ".17", ".20", ".99" }
local letters = { "d", "i", "u", "o", "x", "X", "c", "e", "E", "f", "F", "g", "G", "a", "A", "s", "q", "%" }
local texts = { "", "a", "hello world", "with\0nul", "line\nbreak", "\r\t\"\\", "\200\255", ("x"):rep(120), "12", "0x1F", "1e5", " 7 " }
local function value()
  local k = R.below(12)
  if k < 7 then return R.number() end
  if k < 10 then return R.pick(texts) end
  return R.pick { true, false }
end
for i = 1, 4000 do
  local spec = "%" .. R.pick(flags) .. R.pick(widths) .. R.pick(precisions) .. R.pick(letters)
  local v = value()
  R.call(spec .. " " .. R.show(v), string.format, "<" .. spec .. ">", v, value())
end
for i = 1, 500 do
  local n = R.number()
  print(tostring(n), n .. "", ("%.14g"):format(n), ("%a"):format(n))
end
for _, bad in ipairs { "%", "%y", "%100d", "%.100f", "%5", "%-", "%l", "%hd", "%*d", "%0005d", "%.123s", "%123s", "%-+ #0d", "%10.5q", "%5c", "%.3c" } do
  R.call(bad, string.format, bad, 1)
  R.call(bad .. " none", string.format, bad)
  R.call(bad .. " text", string.format, bad, "x")
end
