-- 32-bit operations.
local function p(...) local r = {} for i = 1, select("#", ...) do r[i] = tostring((select(i, ...))) end print(table.concat(r, " ")) end
p(bit.tobit(0), bit.tobit(-1), bit.tobit(0xffffffff), bit.tobit(2^31), bit.tobit(2^32), bit.tobit(2^40 + 5), bit.tobit(1.5), bit.tobit(2.5), bit.tobit(-1.5), bit.tobit("0xff"))
p(bit.bnot(0), bit.bnot(-1), bit.bnot(0x55555555), bit.band(0xff), bit.band(0xff, 0x0f), bit.band(-1, 0xf0, 0x3c), bit.bor(1, 2, 4), bit.bor(0), bit.bxor(5, 3), bit.bxor(1, 1, 1), bit.bxor(-1, 0xff))
for _, f in ipairs{"lshift", "rshift", "arshift", "rol", "ror"} do
  local r = {} for _, x in ipairs{1, -1, 0x12345678, -0x80000000} do for _, n in ipairs{0, 1, 4, 31, 32, 33, -1} do r[#r + 1] = bit[f](x, n) end end
  p(f, unpack(r))
end
p(bit.bswap(0x12345678), bit.bswap(0xff), bit.bswap(-1), bit.bswap(0x80))
p(bit.tohex(255), bit.tohex(255, 4), bit.tohex(255, -4), bit.tohex(-1), bit.tohex(0), bit.tohex(0x12345678, 2), bit.tohex(10, 1), bit.tohex(10, 0) == "", bit.tohex(0xdeadbeef, -8), bit.tohex("31"))
print(pcall(bit.band)) print(pcall(bit.band, {})) print(pcall(bit.bnot, "x")) print(pcall(bit.lshift, 1)) print(pcall(bit.tohex)) print(pcall(bit.bor, 1, nil))
