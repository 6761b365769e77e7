-- question: bit operations on numbers: a checksum and a stream of hashed words
-- expect: 4068811068 4096 -787372667
local bit = require("bit")
local band, bor, bxor, bnot, tobit = bit.band, bit.bor, bit.bxor, bit.bnot, bit.tobit
local lshift, rshift, rol, bswap = bit.lshift, bit.rshift, bit.rol, bit.bswap
local crcs = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do
    if band(c, 1) ~= 0 then c = bxor(rshift(c, 1), 0xedb88320) else c = rshift(c, 1) end
  end
  crcs[i] = c
end
local function crc(text)
  local c = bnot(0)
  for i = 1, #text do c = bxor(crcs[band(bxor(c, text:byte(i)), 255)], rshift(c, 8)) end
  return bnot(c) % 2 ^ 32
end
local text = ("the quick brown fox jumps over the lazy dog; "):rep(100)
local sum = 0
for _ = 1, 150 do sum = bxor(sum, crc(text)) + crc(text:sub(1, 7)) end
local function set(bits, i) local w = rshift(i, 5) bits[w] = bor(bits[w] or 0, lshift(1, band(i, 31))) end
local function has(bits, i) return band(bits[rshift(i, 5)] or 0, lshift(1, band(i, 31))) ~= 0 end
local bits, kinds, state = {}, 0, 1
for _ = 1, 300000 do
  state = bxor(state, lshift(state, 13)) state = bxor(state, rshift(state, 17)) state = bxor(state, lshift(state, 5))
  local i = band(state, 0xfff) * band(rshift(state, 12), 1)
  if not has(bits, i) then set(bits, i) kinds = kinds + 1 end
end
local h = 0
for i = 1, 150000 do
  h = tobit(h + bor(band(h, i), band(bnot(h), bxor(i, 0x5bd1e995))) + rol(h, i % 31))
  if i % 16 == 0 then h = bswap(h) end
end
print(sum % 2 ^ 32, kinds, h)
