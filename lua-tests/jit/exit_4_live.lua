-- An exit and a side trace with 4 live values: what the loop holds in registers is right on both sides of a branch.
local function run(n)
  local v0, v1, v2, v3 = 1, 2, 3, 4
  local taken = 0
  for i = 1, n do
    v0 = (v0 + v1 * 1 + i) % 1009
    v1 = (v1 + v2 * 2 + i) % 1010
    v2 = (v2 + v3 * 3 + i) % 1011
    v3 = (v3 + v0 * 1 + i) % 1012
    if v0 % 3 == 0 then
      taken = taken + 1
      v0 = v0 + v3
      v2 = v2 + v1
    end
  end
  return taken, v0, v1, v2, v3
end
print(run(10))
print(run(3000))
print(run(20001))
