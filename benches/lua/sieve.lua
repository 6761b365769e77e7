-- question: boolean array writes and reads
-- expect: 148933
local count
for _ = 1, 8 do
  local flags, n = {}, 2000000
  for i = 2, n do flags[i] = true end
  count = 0
  for i = 2, n do
    if flags[i] then
      count = count + 1
      for k = i + i, n, i do flags[k] = false end
    end
  end
end
print(count)
