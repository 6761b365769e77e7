-- The generator gives the same numbers for the same seed everywhere.
for _, seed in ipairs{0, 1, 42, 123.456, -7, 2^40, 1e300, "99"} do
  math.randomseed(seed)
  local r = {} for i = 1, 5 do r[i] = ("%.17g"):format(math.random()) end
  for i = 1, 5 do r[#r + 1] = math.random(100) end
  for i = 1, 5 do r[#r + 1] = math.random(-10, 10) end
  r[#r + 1] = math.random(2^40) r[#r + 1] = math.random(0) r[#r + 1] = math.random(2, 1) r[#r + 1] = math.random(0.5, 1.5)
  print(seed, table.concat(r, " "))
end
math.randomseed(5) local a = math.random() math.randomseed(5) print(a == math.random())
local lo, hi = 1, 0 for i = 1, 10000 do local x = math.random() if x < lo then lo = x end if x > hi then hi = x end end print(lo >= 0, hi < 1, lo < 0.01, hi > 0.99)
local seen = {} for i = 1, 1000 do seen[math.random(6)] = true end print(#seen, next(seen, 6))
