-- question: an unpredictable branch with 4 live values: the exit and its side trace
-- expect: 760839 3265
local v0, v1, v2, v3 = 1, 2, 3, 4
local taken = 0
for i = 1, 1500000 do
  v0 = (v0 + v1 * 1 + i) % 1009
  v1 = (v1 + v2 * 2 + i) % 1010
  v2 = (v2 + v3 * 3 + i) % 1011
  v3 = (v3 + v0 * 1 + i) % 1012
  if v0 % 2 == 0 then
    taken = taken + 1
    v0 = v0 + v3
    v2 = v2 + v1
  end
end
print(taken, v0 + v1 + v2 + v3)
