--- -zeal
-- An allocating loop goes through whole collections, and what it keeps is intact afterwards.
local keep, sum = {}, 0
for i = 1, 200000 do
  local t = {i, i + 1, name = i}
  if i % 1000 == 0 then keep[#keep + 1] = t end
  sum = sum + t[1] + t.name
end
local ok = true
for j, t in ipairs(keep) do
  if t[1] ~= j * 1000 or t[2] ~= j * 1000 + 1 or t.name ~= j * 1000 then ok = false end
end
print(sum, #keep, ok)
collectgarbage()
local kb = collectgarbage("count")
print(kb < 2000)
