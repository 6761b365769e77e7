-- question: allocation and collection of small tables
-- expect: 1561944
local function make(d) if d == 0 then return {false, false} end return {make(d - 1), make(d - 1)} end
local function check(t) if t[1] then return 1 + check(t[1]) + check(t[2]) end return 1 end
local s = 0
for d = 4, 14, 2 do
  for _ = 1, 2 ^ (14 - d + 3) do s = s + check(make(d)) end
end
print(s)
