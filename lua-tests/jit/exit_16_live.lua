-- An exit and a side trace with 16 live values: what the loop holds in registers is right on both sides of a branch.
local function run(n)
  local v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15 = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
  local taken = 0
  for i = 1, n do
    v0 = (v0 + v1 * 1 + i) % 1009
    v1 = (v1 + v2 * 2 + i) % 1010
    v2 = (v2 + v3 * 3 + i) % 1011
    v3 = (v3 + v4 * 1 + i) % 1012
    v4 = (v4 + v5 * 2 + i) % 1013
    v5 = (v5 + v6 * 3 + i) % 1014
    v6 = (v6 + v7 * 1 + i) % 1015
    v7 = (v7 + v8 * 2 + i) % 1016
    v8 = (v8 + v9 * 3 + i) % 1017
    v9 = (v9 + v10 * 1 + i) % 1018
    v10 = (v10 + v11 * 2 + i) % 1019
    v11 = (v11 + v12 * 3 + i) % 1020
    v12 = (v12 + v13 * 1 + i) % 1021
    v13 = (v13 + v14 * 2 + i) % 1022
    v14 = (v14 + v15 * 3 + i) % 1023
    v15 = (v15 + v0 * 1 + i) % 1024
    if v0 % 3 == 0 then
      taken = taken + 1
      v0 = v0 + v3
      v2 = v2 + v5
      v4 = v4 + v7
      v6 = v6 + v9
      v8 = v8 + v11
      v10 = v10 + v13
      v12 = v12 + v15
      v14 = v14 + v1
    end
  end
  return taken, v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15
end
print(run(10))
print(run(3000))
print(run(20001))
