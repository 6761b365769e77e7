--- +ffi
-- 64-bit integers carried around loops, at exits, in comparisons and bit operations.
local ffi = require "ffi"
local h = 14695981039346656037ULL
for i = 1, 300 do h = (h + i) * 1099511628211ULL end
print(h)
local n, odd = 0LL, 0
for i = 1, 300 do
  n = n + i * 3 - 1
  if n % 2 == 1 then odd = odd + 1 end
  if n > 20000 then n = n - 20000 end
end
print(n, odd)
local q, r = 10 ^ 15 + 0LL, 0LL
for i = 1, 100 do
  q = q / 3 + 1000000007
  r = r + q % 1000
end
print(q, r, -r)
local u = 0xffffffffffffffffULL
local s = 0ULL
for i = 1, 100 do
  s = s + u / i + u % i
end
print(s)
print((function() local z = 0LL for i = 1, 100 do z = 5LL / (i - i) end return z end)())
local x = 88172645463325252ULL
for i = 1, 200 do
  x = bit.bxor(x, bit.lshift(x, 13))
  x = bit.bxor(x, bit.rshift(x, 7))
  x = bit.bxor(x, bit.lshift(x, 17))
end
print(x, bit.tohex(x), bit.tobit(x))
local m = 1LL
for i = 1, 100 do
  m = bit.band(bit.bor(bit.rol(m, 7), i), 0x7fffffffffffffffLL)
  m = bit.bxor(m, bit.bnot(bit.bswap(m)))
  m = bit.arshift(m, 1)
end
print(m)
-- Both signs, mixed with numbers, compared in every way.
local count = { 0, 0, 0, 0, 0, 0 }
for i = -50, 50 do
  local a, b = i * 1LL, (i + 50) * 1ULL
  if a < 0 then count[1] = count[1] + 1 end
  if a <= i then count[2] = count[2] + 1 end
  if b > 25 then count[3] = count[3] + 1 end
  if a == b - 50 then count[4] = count[4] + 1 end
  if a < b then count[5] = count[5] + 1 end
  if a ~= 7 then count[6] = count[6] + 1 end
end
print(unpack(count))
-- A value that is seen only when the loop is left, and one seen at each exit.
local last, seen = 0LL, {}
for i = 1, 120 do
  last = last * 31 + i
  if i % 17 == 0 then seen[#seen + 1] = last end
end
print(last, #seen, seen[1], seen[7])
local t = {}
for i = 1, 100 do t[i] = i * 1000000007LL end
print(t[1], t[57], t[100], t[3] + t[4])
-- Fibonacci with two carried integers, swapped each round.
local a, b = 0ULL, 1ULL
for i = 1, 90 do a, b = b, a + b end
print(a, b)
print(tonumber(a) / tonumber(b))
