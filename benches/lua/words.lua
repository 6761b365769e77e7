-- question: counting, translating and reversing parts of a long text
-- expect: 60000 4096 5 10000000
local seed, line = 42, {}
local function rnd(n) seed = (seed * 3877 + 29573) % 139968 return math.floor(n * seed / 139968) + 1 end
local letters = {"a", "c", "g", "t", "n"}
for i = 1, 200000 do line[i] = letters[rnd(4)] end
local dna = table.concat(line)
local counts, kinds = {}, 0
for i = 1, 60000 do
  local k = dna:sub(i, i + 5)
  local c = counts[k]
  if c then counts[k] = c + 1 else counts[k] = 1 kinds = kinds + 1 end
end
local total = 0
for _, c in pairs(counts) do total = total + c end
local map = {a = "t", t = "a", c = "g", g = "c", n = "n"}
local length = 0
for _ = 1, 25 do
  local back = dna:reverse():gsub(".", map)
  length = length + #back
  for w in back:gmatch("a[cg]+t") do length = length + #w * 0 end
  length = length + select(2, back:gsub("(%w)(%w)", "%2%1")) * 2
end
local parts = 0
for part in ("k1=v1&k2=v%202&k3=&k4=a+b&k5"):gmatch("([^&=]+)=?[^&]*") do parts = parts + (part:find("^k%d$") and 1 or 0) end
print(total, kinds, parts, length)
