--- -zeal
-- The intern table follows the number of strings in both directions, across collections.
local t = {}
for i = 1, 60000 do t["key" .. i] = i end
collectgarbage() collectgarbage() collectgarbage()
local n = 0
for k, v in pairs(t) do if k == "key" .. v then n = n + 1 end end
print(n)
t = nil
for _ = 1, 12 do collectgarbage() end
t = {}
for i = 1, 60000 do t["other" .. i] = i end
for _ = 1, 12 do collectgarbage() end
n = 0
for i = 1, 60000 do if t["other" .. i] == i then n = n + 1 end end
print(n)
