-- A short allocating loop: small enough that a collection at every check of its trace can be afforded.
local keep, sum = {}, 0
for i = 1, 3000 do
  local t = {i, name = {i}}
  if i % 100 == 0 then keep[#keep + 1] = t end
  sum = sum + t.name[1]
end
local ok = true
for j, t in ipairs(keep) do
  if t[1] ~= j * 100 or t.name[1] ~= j * 100 then ok = false end
end
print(sum, #keep, ok)
